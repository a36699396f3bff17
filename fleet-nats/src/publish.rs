//! Publishing one event.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Request};
use fleet_core::event::Event;
use serde::Deserialize;

use crate::binding;
use crate::connection::{ConfigError, NatsConfig, round_trip};
use crate::subject;

/// How long a stream that takes the event may take to say so.
const STORED_WITHIN: Duration = Duration::from_millis(300);

/// What became of a published event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Published {
    /// A stream keeps it.
    Stored {
        /// The stream.
        stream: String,
        /// Its sequence there.
        sequence: u64,
    },
    /// Somebody reads the subject, over core NATS.
    Delivered,
    /// Nobody reads the subject and no stream keeps it: it is lost.
    Unheard,
}

/// An event could not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no connection.
    #[error("{0}")]
    NotConnected(String),
    /// It did not end in time; the event may have been published.
    #[error(
        "NATS did not take the event within {} ms, or did not say so: publish it again, if a repetition does no harm",
        .0.as_millis()
    )]
    TimedOut(Duration),
    /// The server or a stream refused the event.
    #[error("the event was not published: {0}; publish it again once that is mended")]
    Refused(String),
}

impl PublishError {
    /// Whether the same call may work later, without another configuration or subject.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Config(_) => false,
            Self::NotConnected(_) | Self::TimedOut(_) | Self::Refused(_) => true,
        }
    }
}

/// Connects, publishes an event to a subject in structured mode, and waits until the server has it. If a stream takes
/// the subject, waits until it is stored there.
///
/// # Errors
/// When the subject or the configuration cannot be used, or the event was not published within `deadline`.
///
/// Cancelled, it may have been published.
pub async fn publish(
    nats: &NatsConfig,
    subject: &str,
    event: &Event,
    deadline: Duration,
) -> Result<Published, PublishError> {
    if !subject::is_publishable(subject) {
        return Err(ConfigError {
            reason: format!(
                "cannot publish to subject {subject:?}: expected words between dots, no wildcards or spaces"
            ),
        }
        .into());
    }
    let options = nats.options()?;
    let work = async {
        let connected = options.connect(nats.servers()).await;
        let client = connected.map_err(|error| PublishError::NotConnected(nats.trouble(&error).message))?;
        send(&client, subject, event).await
    };
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(PublishError::TimedOut(deadline)))
}

async fn send(client: &Client, subject: &str, event: &Event) -> Result<Published, PublishError> {
    #[derive(Deserialize)]
    struct Answer {
        stream: Option<String>,
        seq: Option<u64>,
        error: Option<Refusal>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        description: String,
    }
    let (headers, payload) = binding::encode(event);
    let request = Request::new().headers(headers).payload(payload).timeout(Some(STORED_WITHIN));
    // A stream answers; a subscriber of core NATS does not, or with something else.
    match client.send_request(subject.to_owned(), request).await {
        Ok(answer) => match serde_json::from_slice(&answer.payload) {
            Ok(Answer { error: Some(Refusal { description }), .. }) => {
                Err(PublishError::Refused(description))
            }
            Ok(Answer { stream: Some(stream), seq: Some(sequence), .. }) => {
                Ok(Published::Stored { stream, sequence })
            }
            _ => Ok(Published::Delivered),
        },
        Err(error) => match error.kind() {
            RequestErrorKind::NoResponders => Ok(Published::Unheard),
            RequestErrorKind::TimedOut => {
                round_trip(client).await;
                Ok(Published::Delivered)
            }
            _ => Err(PublishError::Refused(error.to_string())),
        },
    }
}
