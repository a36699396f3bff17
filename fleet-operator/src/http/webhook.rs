//! The handshake by which a sender of webhooks asks whether it may send here: [HTTP 1.1 Web Hooks], section 4. It protects
//! others from being flooded on our behalf, and is no authorization.
//!
//! [HTTP 1.1 Web Hooks]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md

use std::num::NonZeroU32;
use std::str::FromStr;

use axum::response::{IntoResponse, Response};
use http::header::ALLOW;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::problem::problem;

const REQUEST_ORIGIN: &str = "webhook-request-origin";
const REQUEST_RATE: &str = "webhook-request-rate";
const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
const ALLOWED_RATE: &str = "webhook-allowed-rate";

/// Which senders of webhooks are told that they may send, and how much.
#[derive(Clone, Debug, Default)]
pub struct Webhook {
    /// Who may. Empty: nobody is told anything, as if there were no handshake.
    pub origins: Vec<Origin>,
    /// How many requests a minute each of them is permitted; `None`: as many as are taken.
    pub rate: Option<NonZeroU32>,
}

/// Who sends webhooks, as senders call themselves: a DNS name, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Whoever asks.
    Any,
    /// The sender of this name, in small letters.
    Named(String),
}

/// Why a text names no sender of webhooks.
#[derive(Debug, thiserror::Error)]
#[error("expected a DNS name such as events.example.com, or *")]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let allowed = |char: char| char.is_ascii_alphanumeric() || ".-_".contains(char);
        match text {
            "*" => Ok(Self::Any),
            name if !name.is_empty() && name.chars().all(allowed) => {
                Ok(Self::Named(name.to_ascii_lowercase()))
            }
            _ => Err(OriginError),
        }
    }
}

impl Origin {
    fn is(&self, sender: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Named(name) => sender.as_bytes().eq_ignore_ascii_case(name.as_bytes()),
        }
    }
}

impl Webhook {
    /// Answers `OPTIONS`. The callback that a sender may offer is never called: the answer is here already, and the
    /// operator would call whatever address somebody makes up.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        if self.origins.is_empty() {
            let text = "there is no handshake here; name who may send webhooks by run --webhook-origin";
            return allow("POST", problem(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        const METHODS: &str = "POST, OPTIONS";
        let Some(origin) = headers.get(REQUEST_ORIGIN) else {
            return allow(METHODS, problem(StatusCode::BAD_REQUEST, "WebHook-Request-Origin is missing"));
        };
        if !self.expects(origin) {
            return allow(METHODS, unexpected(origin));
        }
        let wanted = match headers.get(REQUEST_RATE).map(|value| value.to_str().ok()?.parse().ok()) {
            None => None,
            Some(Some(rate)) => Some(rate),
            Some(None::<NonZeroU32>) => {
                let text =
                    "WebHook-Request-Rate is to be a whole number of requests a minute, greater than 0";
                return allow(METHODS, problem(StatusCode::BAD_REQUEST, text));
            }
        };
        let rate = match (self.rate, wanted) {
            (None, _) => HeaderValue::from_static("*"),
            (Some(most), wanted) => HeaderValue::from(wanted.map_or(most, |wanted| wanted.min(most)).get()),
        };
        let mut response = allow(METHODS, StatusCode::OK.into_response());
        response.headers_mut().insert(ALLOWED_ORIGIN, origin.clone());
        response.headers_mut().insert(ALLOWED_RATE, rate);
        response
    }

    /// Refuses a delivery whose sender says that it is somebody who was not told that it may send, or is not any more.
    pub(super) fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let origin = headers.get(REQUEST_ORIGIN)?;
        (!self.origins.is_empty() && !self.expects(origin)).then(|| unexpected(origin))
    }

    fn expects(&self, sender: &HeaderValue) -> bool {
        self.origins.iter().any(|origin| origin.is(sender))
    }
}

fn unexpected(origin: &HeaderValue) -> Response {
    let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
    problem(StatusCode::FORBIDDEN, &format!("no webhooks are expected from {origin} (run --webhook-origin)"))
}

fn allow(methods: &'static str, mut response: Response) -> Response {
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
