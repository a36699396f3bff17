//! Requests to JetStream, each with a deadline, and what is the matter when one fails.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{ContextBuilder, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{Context, ErrorCode, consumer, stream};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::connection::Trouble;

pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// A request was not answered, or refused.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The stream does not exist.
    StreamNotFound,
    /// The consumer does not exist.
    ConsumerNotFound,
    /// The message does not exist.
    MessageNotFound,
    /// JetStream is not there (yet).
    Unavailable,
    /// No answer came in time.
    TimedOut,
    /// A limit of the account, the server or the stream is reached; in the server's words.
    LimitReached(String),
    /// The server says no.
    Refused(String),
}

impl ApiError {
    pub(crate) fn trouble(self, stream: &str, doing: &str) -> Trouble {
        let (reason, message) = match self {
            Self::StreamNotFound => (
                "StreamNotFound",
                format!("stream {stream} does not exist; create it, or set create: true to have it created"),
            ),
            Self::ConsumerNotFound => ("ConsumerNotFound", format!("{doing}: the consumer does not exist")),
            Self::MessageNotFound => ("MessageNotFound", format!("{doing}: the message does not exist")),
            Self::Unavailable => (
                "JetStreamUnavailable",
                format!(
                    "{doing}: JetStream does not answer; check that the server runs with JetStream and that this account may use it"
                ),
            ),
            Self::TimedOut => (
                "RequestTimedOut",
                format!(
                    "{doing}: no answer within {} s; check that the server is well, and that this user may publish to $JS.API.> and subscribe to _INBOX.>",
                    DEADLINE.as_secs()
                ),
            ),
            Self::LimitReached(limit) => (
                "LimitReached",
                format!(
                    "{doing}: {limit}; delete what is not needed any more, have the limit raised, or ask for less (maxAckPending); it is tried again"
                ),
            ),
            Self::Refused(reason) => ("JetStreamRefused", format!("{doing}: {reason}")),
        };
        Trouble { reason, message }
    }
}

pub(crate) fn context(client: &Client) -> Context {
    ContextBuilder::new().timeout(DEADLINE).build(client.clone())
}

pub(crate) async fn stream_info(context: &Context, stream: &str) -> Result<stream::Info, ApiError> {
    request(context, format!("STREAM.INFO.{stream}"), &json!({})).await
}

pub(crate) async fn create_stream(
    context: &Context,
    config: &stream::Config,
) -> Result<stream::Info, ApiError> {
    let payload = serde_json::to_value(config).map_err(|error| ApiError::Refused(error.to_string()))?;
    request(context, format!("STREAM.CREATE.{}", config.name), &payload).await
}

pub(crate) async fn consumer_info(
    context: &Context,
    stream: &str,
    consumer: &str,
) -> Result<consumer::Info, ApiError> {
    request(context, format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await
}

/// As [`consumer_info`], read as what the caller needs of it.
pub(super) async fn consumer_state<T: DeserializeOwned>(
    context: &Context,
    stream: &str,
    consumer: &str,
) -> Result<T, ApiError> {
    request(context, format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await
}

pub(crate) async fn delete_consumer(context: &Context, stream: &str, consumer: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Deleted {}
    let Deleted {} = request(context, format!("CONSUMER.DELETE.{stream}.{consumer}"), &json!({})).await?;
    Ok(())
}

/// A message as the stream has it.
pub(crate) struct Message {
    pub(crate) subject: String,
    /// When it was published, in nanoseconds since 1970.
    pub(crate) published: u64,
    /// Headers as they came over the wire; empty if there are none.
    pub(crate) headers: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// The message of a sequence.
pub(crate) async fn message(context: &Context, stream: &str, sequence: u64) -> Result<Message, ApiError> {
    get_message(context, stream, &json!({"seq": sequence})).await
}

/// The first message of that sequence or a higher one.
pub(crate) async fn next_message(
    context: &Context,
    stream: &str,
    sequence: u64,
) -> Result<Message, ApiError> {
    get_message(context, stream, &json!({"seq": sequence, "next_by_subj": ">"})).await
}

/// The last message of a subject.
pub(crate) async fn last_message(
    context: &Context,
    stream: &str,
    subject: &str,
) -> Result<Message, ApiError> {
    get_message(context, stream, &json!({"last_by_subj": subject})).await
}

async fn get_message(context: &Context, stream: &str, which: &Value) -> Result<Message, ApiError> {
    #[derive(Deserialize)]
    struct Answer {
        message: Stored,
    }
    #[derive(Deserialize)]
    struct Stored {
        subject: String,
        time: jiff::Timestamp,
        #[serde(default)]
        hdrs: String,
        #[serde(default)]
        data: String,
    }
    let Answer { message } = request(context, format!("STREAM.MSG.GET.{stream}"), which).await?;
    let decoded = |text: String| STANDARD.decode(text).map_err(|error| ApiError::Refused(error.to_string()));
    Ok(Message {
        subject: message.subject,
        published: u64::try_from(message.time.as_nanosecond()).unwrap_or_default(),
        headers: decoded(message.hdrs)?,
        payload: decoded(message.data)?,
    })
}

/// Some of the subjects that a stream has messages of, and how many there are.
pub(crate) struct Subjects {
    pub(crate) page: Vec<String>,
    pub(crate) total: usize,
}

/// The subjects matching a filter that a stream has messages of, from an offset on.
pub(crate) async fn subjects(
    context: &Context,
    stream: &str,
    filter: &str,
    offset: usize,
) -> Result<Subjects, ApiError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        total: usize,
        state: State,
    }
    #[derive(Deserialize)]
    struct State {
        subjects: Option<BTreeMap<String, u64>>,
    }
    let payload = json!({"subjects_filter": filter, "offset": offset});
    let answer: Answer = request(context, format!("STREAM.INFO.{stream}"), &payload).await?;
    let page: Vec<String> = answer.state.subjects.unwrap_or_default().into_keys().collect();
    Ok(Subjects { total: answer.total.max(page.len()), page })
}

/// Deletes the messages of a subject; how many there were.
pub(crate) async fn purge(context: &Context, stream: &str, subject: &str) -> Result<u64, ApiError> {
    #[derive(Deserialize)]
    struct Purged {
        purged: u64,
    }
    let payload = json!({"filter": subject});
    let Purged { purged } = request(context, format!("STREAM.PURGE.{stream}"), &payload).await?;
    Ok(purged)
}

async fn request<T: DeserializeOwned>(
    context: &Context,
    subject: String,
    payload: &Value,
) -> Result<T, ApiError> {
    match context.request(subject, payload).await {
        Ok(Response::Ok(answer)) => Ok(answer),
        Ok(Response::Err { error }) => Err(refused(&error)),
        Err(error) => Err(match error.kind() {
            RequestErrorKind::NoResponders => ApiError::Unavailable,
            RequestErrorKind::TimedOut => ApiError::TimedOut,
            _ => ApiError::Refused(error.to_string()),
        }),
    }
}

pub(crate) fn refused(error: &async_nats::jetstream::Error) -> ApiError {
    match error.error_code() {
        ErrorCode::STREAM_NOT_FOUND => ApiError::StreamNotFound,
        ErrorCode::CONSUMER_NOT_FOUND => ApiError::ConsumerNotFound,
        ErrorCode::NO_MESSAGE_FOUND => ApiError::MessageNotFound,
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            ApiError::Unavailable
        }
        code if is_limit(code) => ApiError::LimitReached(error.to_string()),
        _ => ApiError::Refused(error.to_string()),
    }
}

/// Whether it may be well once there is more room, or less is asked for.
fn is_limit(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::MAXIMUM_CONSUMERS_LIMIT
            | ErrorCode::MAXIMUM_STREAMS_LIMIT
            | ErrorCode::MEMORY_RESOURCES_EXCEEDED
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::STREAM_LIMITS
    )
}
