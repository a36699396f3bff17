//! What went wrong with a request, sorted once by what the caller can do about it.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::chain;

/// Why a request failed.
///
/// Messages are the API server's, and may quote values of the object. What comes from events is shown only through
/// [`crate::applier`], which masks them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// An object of that name exists (POST).
    #[error("it exists already")]
    AlreadyExists,
    /// The UID that the request named is not the object's; or there is no object that could have it.
    #[error("another object has its name now")]
    UidMismatch,
    /// Somebody else changed the object at the same time.
    #[error("{message}")]
    Conflict {
        /// The server's words.
        message: String,
    },
    /// The object, or the namespace it should be in, is not there.
    #[error("{resource} {name:?} is not there")]
    NotFound {
        /// The resource that is missing, as `namespaces`.
        resource: String,
        /// Its name.
        name: String,
    },
    /// Nothing is served at this path: the kind is not known (any more), or this is no API server.
    #[error("the API server serves no such kind")]
    NoSuchPath,
    /// The namespace is being deleted; nothing can be created in it.
    #[error("its namespace is being deleted")]
    NamespaceTerminating,
    /// Not allowed.
    #[error("{message}")]
    Forbidden {
        /// The server's words.
        message: String,
    },
    /// The credentials are not accepted.
    #[error("the API server does not accept the credentials")]
    Unauthorized,
    /// The server does not take the object as it is.
    #[error("{message}")]
    Invalid {
        /// The server's words.
        message: String,
        /// What is wrong, by field.
        causes: Vec<Cause>,
    },
    /// The object is larger than the API server or its storage takes.
    #[error("it is too large for the API server: {sent} bytes were sent")]
    TooLarge {
        /// The size of what was sent, in bytes.
        sent: usize,
        /// How much it may be at most, if the server told.
        limit: Option<u64>,
    },
    /// Too many requests.
    #[error("{reason}")]
    Throttled {
        /// Not before that.
        retry_after: Duration,
        /// What is busy.
        reason: String,
        /// Whether all requests to the cluster are concerned, and not only those for this kind.
        cluster: bool,
    },
    /// It was certainly not sent: no connection, or no credentials for it.
    #[error("{reason}")]
    Unreachable {
        /// Why.
        reason: String,
    },
    /// It was not sent, because the call's deadline came first.
    #[error("{reason}")]
    NotTried {
        /// What took the time.
        reason: String,
    },
    /// There was no answer, or one that leaves open what happened: the request may take effect, now or later.
    #[error("{reason}")]
    NoAnswer {
        /// What happened.
        reason: String,
    },
    /// It was refused in another way.
    #[error("the API server answered {code}: {message}")]
    Other {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Cause {
    /// One CamelCase word.
    #[serde(default)]
    pub reason: String,
    /// The server's words; may quote the value.
    #[serde(default)]
    pub message: String,
    /// The field's path.
    #[serde(default)]
    pub field: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    reason: String,
    message: String,
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    name: String,
    kind: String,
    causes: Vec<Cause>,
}

impl Failure {
    /// Whether the request may have taken effect, or may yet.
    pub fn may_have_taken_effect(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }

    /// Sorts an answer that is not a success, to a request with a body of `sent` bytes.
    pub(super) fn of_status(
        code: StatusCode,
        retry_after: Option<Duration>,
        sent: usize,
        body: &[u8],
    ) -> Self {
        // A proxy or load balancer answers without a Status; a 429 is plain text from API servers as well.
        let status: Option<Status> = serde_json::from_slice(body).ok();
        let from_api_server = status.is_some();
        let Status { reason, message, details } = status.unwrap_or_default();
        let has_cause = |field: &str, reason: &str| {
            details.causes.iter().any(|cause| {
                (field.is_empty() || cause.field == field) && (reason.is_empty() || cause.reason == reason)
            })
        };
        match code {
            StatusCode::TOO_MANY_REQUESTS => Self::Throttled {
                retry_after: retry_after.unwrap_or(Duration::from_secs(1)),
                // Limits on requests answer in plain text; a Status means a resource that is not ready for it, as one
                // whose definition was just made ("storage is (re)initializing").
                reason: if from_api_server { message } else { "the API server throttles".to_owned() },
                cluster: !from_api_server,
            },
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN if has_cause("", "NamespaceTerminating") => Self::NamespaceTerminating,
            StatusCode::FORBIDDEN => Self::Forbidden { message },
            StatusCode::NOT_FOUND if !details.name.is_empty() => {
                Self::NotFound { resource: details.kind, name: details.name }
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Self::NoSuchPath,
            StatusCode::CONFLICT if reason == "AlreadyExists" => Self::AlreadyExists,
            // Server-side apply and deletion have no reason of their own for this.
            StatusCode::CONFLICT
                if ["uid mismatch", "UID in the precondition", "UID in precondition"]
                    .iter()
                    .any(|words| message.contains(words)) =>
            {
                Self::UidMismatch
            }
            StatusCode::CONFLICT => Self::Conflict { message },
            StatusCode::UNPROCESSABLE_ENTITY if has_cause("metadata.uid", "") => Self::UidMismatch,
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST => {
                Self::Invalid { message, causes: details.causes }
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge { sent, limit: limit(&message) },
            // The storage's own bound, which is lower than the API server's.
            _ if code.is_server_error()
                && ["request is too large", "trying to send message larger than max"]
                    .iter()
                    .any(|words| message.contains(words)) =>
            {
                Self::TooLarge { sent, limit: None }
            }
            // Both come before anything is stored: the schema does not have the field; a webhook cannot be asked.
            StatusCode::INTERNAL_SERVER_ERROR if message.contains("failed to create typed patch object") => {
                Self::Invalid { message, causes: details.causes }
            }
            StatusCode::INTERNAL_SERVER_ERROR if message.contains("failed calling webhook") => {
                Self::Other { code: code.as_u16(), message }
            }
            // 500 also stands for storage that gave no answer; 502 to 504 may come from anything on the way.
            _ if code.is_server_error() => Self::NoAnswer {
                reason: if from_api_server && !message.is_empty() {
                    format!("the API server answered {}: {message}", code.as_u16())
                } else {
                    format!("the answer was {}", code.as_u16())
                },
            },
            _ => Self::Other { code: code.as_u16(), message },
        }
    }

    /// Sorts an error of the transport.
    pub(super) fn of_transport(error: kube::Error) -> Self {
        let reason = chain(&error);
        let not_sent = match &error {
            kube::Error::Auth(_) => true,
            kube::Error::Service(inner) => {
                inner.is::<kube::client::AuthError>()
                    || inner
                        .downcast_ref::<hyper_util::client::legacy::Error>()
                        .is_some_and(hyper_util::client::legacy::Error::is_connect)
            }
            _ => false,
        };
        if not_sent {
            Self::Unreachable {
                reason: reason.replace("ServiceError: ", "").replace("client error (Connect): ", ""),
            }
        } else {
            Self::NoAnswer { reason: "the connection to the API server broke".to_owned() }
        }
    }
}

/// As in `Request entity too large: limit is 3145728`.
fn limit(message: &str) -> Option<u64> {
    let (_, after) = message.split_once("limit is ")?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
