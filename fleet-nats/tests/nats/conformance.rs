//! Both sources keep the contract of EventSource.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::pull, stream};
use bytes::Bytes;
use fleet_core::event::Event;
use fleet_core::source::EventSource;
use fleet_core::testing::conformance::event_source::{Abilities, Fixture};
use fleet_core::testing::conformance::{NotChecked, event_source};
use fleet_nats::connection::Connections;
use fleet_nats::core::{CoreConfig, CoreSource};
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
use local_fleet::NatsOptions;

use crate::reader::Server;

fn about(subject: &str) -> Bytes {
    let event = Event::builder("1", "kit", "test").subject(subject).build().unwrap();
    event.to_json().to_string().into()
}

struct Core(Server);

impl Core {
    async fn new() -> Self {
        Self(Server::start(NatsOptions::default()).await)
    }

    async fn send(&self, payload: impl Into<Bytes>) {
        let client = self.0.client().await;
        client.publish("events", payload.into()).await.unwrap();
        client.flush().await.unwrap();
    }
}

impl Fixture for Core {
    async fn source(&self) -> Arc<dyn EventSource> {
        let config = CoreConfig { queue_messages: 8, ..CoreConfig::new(["events"]) };
        Arc::new(CoreSource::new("s", &Connections::new(), self.0.config(), config))
    }

    async fn publish(&self, subject: &str) {
        self.send(about(subject)).await;
    }

    async fn publish_event(&self, event: &Event) -> Result<(), NotChecked> {
        self.send(event.to_json().to_string()).await;
        Ok(())
    }

    async fn publish_garbage(&self, garbage: &[u8]) -> Result<(), NotChecked> {
        self.send(garbage.to_vec()).await;
        Ok(())
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        self.0.nats.server().stop().await.unwrap();
        Ok(())
    }

    async fn mend(&self) {
        self.0.nats.server().start().await.unwrap();
    }

    fn abilities(&self) -> Abilities {
        let never = NotChecked::because("core NATS keeps nothing");
        Abilities {
            redelivers: Err(never.clone()),
            status: Ok(()),
            floors: Err(never),
            reopens: Ok(()),
            bound: Ok(8),
        }
    }
}

event_source!(core, Core::new().await);

const ACK_WAIT: Duration = Duration::from_secs(1);
const MAX_ACK_PENDING: u32 = 16;

struct JetStream(Server);

impl JetStream {
    async fn new() -> Self {
        let stream = Self(Server::with_jetstream().await);
        stream.create().await;
        stream
    }

    async fn create(&self) {
        let config =
            stream::Config { name: "EVENTS".into(), subjects: vec!["events".into()], ..Default::default() };
        self.context().await.create_stream(config).await.unwrap();
    }

    async fn context(&self) -> jetstream::Context {
        jetstream::new(self.0.client().await)
    }

    async fn send(&self, payload: impl Into<Bytes>) {
        self.context().await.publish("events", payload.into()).await.unwrap().await.unwrap();
    }
}

impl Fixture for JetStream {
    async fn source(&self) -> Arc<dyn EventSource> {
        let config = JetStreamConfig {
            ack_wait: ACK_WAIT,
            max_ack_pending: MAX_ACK_PENDING,
            batch: 4,
            ..JetStreamConfig::new("EVENTS")
        };
        Arc::new(JetStreamSource::new("s", &Connections::new(), self.0.config(), config))
    }

    async fn publish(&self, subject: &str) {
        self.send(about(subject)).await;
    }

    async fn publish_event(&self, event: &Event) -> Result<(), NotChecked> {
        self.send(event.to_json().to_string()).await;
        Ok(())
    }

    async fn publish_garbage(&self, garbage: &[u8]) -> Result<(), NotChecked> {
        self.send(garbage.to_vec()).await;
        Ok(())
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        self.0.nats.server().stop().await.unwrap();
        Ok(())
    }

    async fn mend(&self) {
        self.0.nats.server().start().await.unwrap();
    }

    async fn begin_anew(&self) -> Result<(), NotChecked> {
        self.context().await.delete_stream("EVENTS").await.unwrap();
        self.create().await;
        Ok(())
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            redelivers: Ok(ACK_WAIT),
            status: Ok(()),
            floors: Ok(()),
            reopens: Ok(()),
            bound: Ok(MAX_ACK_PENDING.into()),
        }
    }

    async fn taken(&self) -> Result<u64, NotChecked> {
        let stream = self.context().await.get_stream("EVENTS").await.unwrap();
        let mut consumer: jetstream::consumer::Consumer<pull::Config> =
            stream.get_consumer("fleet-s").await.unwrap();
        Ok(consumer.info().await.unwrap().num_ack_pending as u64)
    }
}

event_source!(durable, JetStream::new().await);
