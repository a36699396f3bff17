//! A stream from its publisher's side: what is published is in it exactly once, also when the server is killed.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context, consumer};
use bytes::Bytes;

use crate::stage::wait_for;
use crate::world::World;

/// The stream, and the EventSource that reads it.
pub(crate) const STREAM: &str = "users";
pub(crate) const SUBJECT: &str = "user-operation";
/// The consumer that the EventSource makes.
const CONSUMER: &str = "fleet-users";
/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Feed {
    context: Context,
}

/// A message in the stream.
pub(crate) struct Message {
    pub(crate) sequence: u64,
    pub(crate) payload: Bytes,
}

/// How far the consumer is.
#[derive(Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) unread: u64,
    pub(crate) outstanding: usize,
}

impl Feed {
    /// Makes the stream, in files, as its user would.
    pub(crate) fn create(world: &World) -> Self {
        world.sh(&format!("nats stream add {STREAM} --subjects {SUBJECT} --storage file --defaults"));
        // It has a task of its own.
        let mut context = wait_for(async { jetstream::new(world.client().clone()) });
        context.set_timeout(Duration::from_secs(2));
        Self { context }
    }

    /// Publishes until the server says that it has it. The id, which is the message's alone, lets the server keep one
    /// of several attempts. Its sequence.
    pub(crate) async fn publish(&self, id: &str, headers: &HeaderMap, payload: &Bytes) -> u64 {
        let begun = Instant::now();
        loop {
            let message = jetstream::message::PublishMessage::build()
                .headers(headers.clone())
                .payload(payload.clone())
                .message_id(id);
            let error = match self.context.send_publish(SUBJECT, message).await {
                Ok(acknowledgement) => match acknowledgement.await {
                    Ok(acknowledgement) => return acknowledgement.sequence,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            assert!(begun.elapsed() < PATIENCE, "{id} could not be published: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that is in the stream.
    pub(crate) fn read(&self) -> Vec<Message> {
        wait_for(async {
            let stream = self.context.get_stream(STREAM).await.unwrap();
            let state = &stream.cached_info().state;
            let mut messages = Vec::new();
            for sequence in state.first_sequence..=state.last_sequence {
                let message = stream.get_raw_message(sequence).await.unwrap();
                messages.push(Message { sequence, payload: message.payload });
            }
            messages
        })
    }

    pub(crate) fn progress(&self) -> Result<Progress, String> {
        wait_for(async {
            let stream = self.context.get_stream_no_info(STREAM).await.map_err(|error| error.to_string())?;
            let info = stream.consumer_info(CONSUMER).await.map_err(|error| error.to_string())?;
            let consumer::Info { num_pending, num_ack_pending, .. } = info;
            Ok(Progress { unread: num_pending, outstanding: num_ack_pending })
        })
    }
}

impl Progress {
    /// Whether all was read and settled.
    pub(crate) fn is_complete(&self) -> bool {
        *self == Self { unread: 0, outstanding: 0 }
    }
}
