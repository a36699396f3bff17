//! `POST /events`: takes events and answers when it is certain what became of them.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use http::StatusCode;
use http::request::Parts;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::admit::admit;
use super::decode::{Incoming, decode, message};
use super::problem::{later, problem, problem_with};
use super::source::{Full, Settled};
use super::{Limits, Shared};

pub(super) async fn post(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Before anything is read or kept for whoever it is.
    let admitted = match admit(&shared.access, &parts) {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal.answer(),
    };
    if let Some(refusal) = shared.access.webhook.refusal(&parts.headers) {
        return refusal;
    }
    admitted.finish(take(&shared, parts, body).await)
}

async fn take(shared: &Shared, parts: Parts, body: Body) -> Response {
    let limits = &shared.limits;
    let declared =
        parts.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > limits.body) {
        return too_large(limits);
    }
    let Some(_room) = room(shared, declared) else {
        return later(StatusCode::TOO_MANY_REQUESTS, 1, "too many events are under way");
    };
    let body = match timeout(limits.read, to_bytes(body, limits.body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if is_length_limit(&error) => return too_large(limits),
        Ok(Err(_)) => return problem(StatusCode::BAD_REQUEST, "the request's body broke off"),
        Err(_) => {
            return problem(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive in time");
        }
    };
    let message = message(parts.uri.path(), &parts.headers);
    let mut waiting = Vec::new();
    for (index, incoming) in decode(&parts.headers, &body).into_iter().enumerate() {
        match shared.intake.offer(&incoming, &message, limits.patience).await {
            Ok(told) => waiting.push(Waiting { index, refused_by: refused_by(&incoming), told }),
            // What was handed over already is stored all the same; sent again, it does no harm.
            Err(full) => return refusal(full, &incoming),
        }
    }
    drop(body);
    match timeout(limits.settle, join_all(waiting.into_iter().map(Waiting::outcome))).await {
        Ok(outcomes) => answer(&outcomes),
        Err(_) => later(
            StatusCode::SERVICE_UNAVAILABLE,
            5,
            "it took too long until the event was durable; it may be stored nevertheless",
        ),
    }
}

struct Waiting {
    index: usize,
    refused_by: StatusCode,
    told: Vec<tokio::sync::oneshot::Receiver<Settled>>,
}

struct Outcome {
    index: usize,
    refused_by: StatusCode,
    settled: Settled,
}

impl Waiting {
    /// Settled when every source settled it; the worst counts.
    async fn outcome(self) -> Outcome {
        let mut worst = Settled::Stored;
        for told in join_all(self.told).await {
            worst = match (worst, told.unwrap_or(Settled::GivenBack(Duration::from_secs(1)))) {
                (Settled::GivenBack(delay), Settled::GivenBack(other)) => {
                    Settled::GivenBack(delay.max(other))
                }
                (back @ Settled::GivenBack(_), _) | (_, back @ Settled::GivenBack(_)) => back,
                (refused @ Settled::Refused(_), _) | (_, refused @ Settled::Refused(_)) => refused,
                (Settled::Stored, Settled::Stored) => Settled::Stored,
            };
        }
        Outcome { index: self.index, refused_by: self.refused_by, settled: worst }
    }
}

fn answer(outcomes: &[Outcome]) -> Response {
    let delay = outcomes.iter().filter_map(|outcome| match &outcome.settled {
        Settled::GivenBack(delay) => Some(delay.as_secs().max(1)),
        _ => None,
    });
    if let Some(seconds) = delay.max() {
        return later(
            StatusCode::SERVICE_UNAVAILABLE,
            seconds,
            "the event could not be stored now; send it again",
        );
    }
    let refused: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match &outcome.settled {
            Settled::Refused(reason) => Some((outcome, reason)),
            _ => None,
        })
        .collect();
    let Some((_, reason)) = refused.first() else {
        return StatusCode::ACCEPTED.into_response();
    };
    // The highest tells most: of a batch some may be no events, and others cannot be processed.
    let status = refused.iter().map(|(outcome, _)| outcome.refused_by).max();
    let status = status.unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    if outcomes.len() == 1 {
        return problem(status, reason);
    }
    let events: Vec<_> =
        refused.iter().map(|(outcome, reason)| json!({"index": outcome.index, "detail": reason})).collect();
    let detail =
        format!("{} of {} events were refused; the others are stored", refused.len(), outcomes.len());
    problem_with(status, json!({"detail": detail, "events": events}))
}

/// What says that an event was refused.
fn refused_by(incoming: &Incoming) -> StatusCode {
    match &incoming.event {
        _ if incoming.is_unknown_format => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Err(_) => StatusCode::BAD_REQUEST,
        Ok(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn refusal(full: Full, incoming: &Incoming) -> Response {
    match (full, &incoming.event) {
        // Nobody is there to keep it as a dead letter, but the sender can be told.
        (Full::NobodyListens, Err(error)) => problem(refused_by(incoming), &error.to_string()),
        (Full::NobodyListens, Ok(_)) => later(
            StatusCode::SERVICE_UNAVAILABLE,
            5,
            "no EventSource takes events over HTTP (yet); define one with `http: {}`",
        ),
        (Full::NotReady, _) => later(
            StatusCode::SERVICE_UNAVAILABLE,
            1,
            "not every EventSource that takes events over HTTP is ready (yet)",
        ),
        (Full::Behind, _) => later(StatusCode::TOO_MANY_REQUESTS, 1, "too many events wait to be stored"),
    }
}

/// Counts the bytes a request may hold while it is under way; `None` if that is too much together with the others.
fn room(shared: &Shared, declared: Option<usize>) -> Option<OwnedSemaphorePermit> {
    const KIB: usize = 1024;
    let wanted = declared.unwrap_or(shared.limits.body).div_ceil(KIB).max(1);
    std::sync::Arc::clone(&shared.room).try_acquire_many_owned(u32::try_from(wanted).ok()?).ok()
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn too_large(limits: &Limits) -> Response {
    problem(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("the request's body is larger than {} bytes", limits.body),
    )
}
