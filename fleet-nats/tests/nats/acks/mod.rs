//! The acknowledgement matrix of the JetStream source, on a real server: what is done with a delivery, or happens to it, and
//! what comes of that.
//!
//! | done, or happens | what comes of it | shown by |
//! |---|---|---|
//! | acknowledged | never again, also for the next reader | `settling::*::ack` |
//! | given back with a delay | again, not before the delay is over, with its position | `settling::*::give_back` |
//! | terminated | never again; the server's advisory has the reason | `settling::*::terminate` |
//! | a slow handler that says so | not again, however long it takes | `settling::*::progress` |
//! | a handler that says nothing | again after `ack_wait` | `settling::*::silence` |
//! | dropped unsettled | again at once, not only after `ack_wait` | `settling::*::dropped` |
//! | the reader is killed | again for the next one, after `ack_wait` | `settling::*::crash` |
//! | the reader is closed | what it had fetched again at once | `jetstream::what_a_closed_source_had_fetched_comes_again_at_once` |
//! | the consumer is deleted | made again behind the floor; what was settled does not come again | `jetstream::a_consumer_that_is_deleted_is_made_again_where_it_was` |
//! | the same, with something unsettled | it comes again, with its position | `failures::a_deleted_consumer_brings_what_is_unsettled_again` |
//! | the stream is deleted and made again | a new epoch | `positions::a_stream_made_again_is_a_new_epoch` |
//! | the same, with something unsettled | settling it fails, and settles nothing of the new stream | `failures::what_a_deleted_stream_delivered_settles_nothing_of_the_new_one` |
//! | the stream loses its tail | a new epoch | `positions::a_stream_that_lost_its_tail_is_a_new_epoch_*` |
//! | the same, with something unsettled | as with a new stream | `failures::what_a_lost_tail_delivered_settles_nothing_of_the_new_one` |
//! | the server is killed and started | read on; what was handed out can be settled | `jetstream::a_restart_of_the_server_costs_nothing_but_time` |
//! | the server is stopped and started, meanwhile it is given back | it comes again | `failures::what_is_given_back_while_the_server_is_away_comes_again` |
//! | the account's limit of consumers, streams or pending acknowledgements is reached | said in the condition, and what to do; it heals | `limits::*` |
//! | the account's storage is full | what is stored is read; publishers are refused until there is room | `limits::storage` |
//! | floors, with all of it | below what is unsettled | `positions::*` |
//! | a replay | again from the beginning | `replay::*` |
//! | headers that cannot be read | a dead letter; nothing else waits | `unreadable::*` |
//!
//! `*` in `settling` is each of the [dialects](Dialect) in which an event can come; elsewhere events come in all of them in turn.

mod failures;
mod limits;
mod settling;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer, stream};
use bytes::Bytes;
use fleet_core::event::Data;
use fleet_core::source::Delivery;
use fleet_nats::connection::Connections;
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
use serde_json::json;

use crate::reader::{Reader, Server};

/// How an event is put into a message.
#[derive(Clone, Copy, Debug)]
enum Dialect {
    /// Binary mode, by the binding.
    Binary,
    /// Binary mode, as Go's SDK writes it.
    Go,
    /// Structured mode, by the binding.
    Structured,
    /// A JSON event without any header.
    Bare,
}

impl Dialect {
    /// Each in turn.
    fn of(id: u64) -> Self {
        [Self::Binary, Self::Go, Self::Structured, Self::Bare][usize::try_from(id % 4).unwrap()]
    }

    fn message(self, id: u64) -> (HeaderMap, Bytes) {
        let data = json!({"number": id}).to_string();
        let structured = json!({
            "specversion": "1.0", "id": id.to_string(), "source": "auth.example.com",
            "type": "auth.example.com.login", "subject": "mgianluc",
            "datacontenttype": "application/json", "data": {"number": id},
        });
        let mut headers = HeaderMap::new();
        if matches!(self, Self::Binary | Self::Go) {
            headers.insert("ce-specversion", "1.0");
            headers.insert("ce-id", id.to_string());
            headers.insert("ce-source", "auth.example.com");
            headers.insert("ce-type", "auth.example.com.login");
            headers.insert("ce-subject", "mgianluc");
        }
        match self {
            Self::Binary => headers.insert("ce-datacontenttype", "application/json"),
            Self::Go => headers.insert("content-type", "application/json"),
            Self::Structured => headers.insert("Content-Type", "application/cloudevents+json; charset=utf-8"),
            Self::Bare => {}
        }
        let body = match self {
            Self::Binary | Self::Go => data,
            Self::Structured | Self::Bare => structured.to_string(),
        };
        (headers, body.into())
    }
}

/// Which event this is, if it came as it was published.
fn id_of(delivery: &Delivery) -> u64 {
    let event = delivery.event.as_ref().unwrap();
    let id = event.id().parse().unwrap();
    assert_eq!(event.data(), Some(&Data::Json(json!({"number": id}))));
    assert_eq!(
        (event.ty(), event.source(), event.subject()),
        ("auth.example.com.login", "auth.example.com", Some("mgianluc"))
    );
    assert_eq!(delivery.message.subject, "events.login");
    id
}

/// A stream, and a reader of it.
struct Stage {
    server: Server,
    context: jetstream::Context,
    source: JetStreamSource,
    reader: Reader,
}

impl Stage {
    async fn open(config: JetStreamConfig) -> Self {
        let server = Server::with_jetstream().await;
        let context = jetstream::new(server.client().await);
        create_stream(&context).await;
        let source = JetStreamSource::new("logins", &Connections::new(), server.config(), config);
        let reader = Reader::open(&source).await;
        Self { server, context, source, reader }
    }

    async fn publish(&self, dialect: Dialect, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            publish(&self.context, dialect, id).await;
        }
    }

    async fn publish_in_turn(&self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            publish(&self.context, Dialect::of(id), id).await;
        }
    }

    /// What the server has to say of the consumer.
    async fn consumer(&self) -> consumer::Info {
        let stream = self.context.get_stream_no_info("EVENTS").await.unwrap();
        stream.consumer_info("fleet-logins").await.unwrap()
    }

    /// The next delivery, which is to be of this event.
    async fn next(&mut self, id: u64) -> Delivery {
        let delivery = self.reader.delivery().await;
        assert_eq!(id_of(&delivery), id);
        delivery
    }
}

async fn create_stream(context: &jetstream::Context) {
    let config =
        stream::Config { name: "EVENTS".into(), subjects: vec!["events.>".into()], ..Default::default() };
    context.create_stream(config).await.unwrap();
}

async fn publish(context: &jetstream::Context, dialect: Dialect, id: u64) {
    let (headers, body) = dialect.message(id);
    context.publish_with_headers("events.login", headers, body).await.unwrap().await.unwrap();
}
