//! Answers that say what is wrong: problem documents, as RFC 9457 has them.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    problem_with(status, json!({ "detail": detail }))
}

pub(super) fn problem_with(status: StatusCode, mut body: Value) -> Response {
    if let Some(fields) = body.as_object_mut() {
        fields.insert("status".to_owned(), status.as_u16().into());
        fields.insert("title".to_owned(), status.canonical_reason().unwrap_or_default().into());
    }
    let mut response = Response::new(Body::from(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// It may be tried again, after so many seconds.
pub(super) fn later(status: StatusCode, seconds: u64, detail: &str) -> Response {
    let mut response = problem(status, detail);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
