//! Up to when all that was published to a stream is settled, for a consumer of it.

use async_nats::jetstream::Context;
use jiff::Timestamp;
use serde::Deserialize;

use super::api::{self, ApiError};

#[derive(Deserialize)]
struct Consumer {
    ack_floor: Floor,
    num_ack_pending: u64,
    num_pending: u64,
    /// When the server says so, by its own clock: messages have their time from that one too. Servers before 2.10 do not.
    ts: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Floor {
    #[serde(rename = "stream_seq")]
    sequence: u64,
}

/// What was published before is settled; `None` if that cannot be told.
pub(super) async fn until(
    context: &Context,
    stream: &str,
    consumer: &str,
) -> Result<Option<Timestamp>, ApiError> {
    let asked = Timestamp::now();
    let consumer: Consumer = api::consumer_state(context, stream, consumer).await?;
    if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
        return Ok(Some(consumer.ts.unwrap_or(asked)));
    }
    // Times rise with sequences, also over subjects that the consumer does not ask for.
    match api::next_message(context, stream, consumer.ack_floor.sequence + 1).await {
        Ok(unsettled) => Ok(Timestamp::from_nanosecond(unsettled.published.into()).ok()),
        // It left the stream meanwhile.
        Err(ApiError::MessageNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
