//! HTTP as a source keeps the contract, with a server and requests over the network.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::event::Event;
use fleet_core::testing::conformance::event_source::{Abilities, Fixture};
use fleet_core::testing::conformance::{NotChecked, event_source};
use tokio::sync::Mutex;

use super::*;

/// How many events wait to be read.
const WAITING: usize = 16;

struct Http {
    lab: Arc<Lab>,
    /// One request is sent after the other, so that it can be told which was taken.
    sending: Mutex<()>,
}

impl Http {
    async fn new() -> Self {
        // Nobody reads while somebody sends.
        let limits = Limits { patience: Duration::from_millis(10), ..Limits::default() };
        let intake = Intake::of(WAITING);
        let lab = Arc::new(lab_on(intake, limits, &AccessOptions::default()).await);
        Self { lab, sending: Mutex::default() }
    }

    /// Until the event waits to be read, or the request was answered, which it is then at once.
    async fn send(&self, body: String) {
        let _sending = self.sending.lock().await;
        let before = self.lab.intake.waiting();
        let lab = Arc::clone(&self.lab);
        let answered = tokio::spawn(async move { lab.post(JSON, &body).await });
        while self.lab.intake.waiting() == before && !answered.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Fixture for Http {
    async fn source(&self) -> Arc<dyn EventSource> {
        self.lab.intake.set_sources(&["s".into()].into());
        Arc::new(self.lab.intake.source("s"))
    }

    async fn publish(&self, subject: &str) {
        let event = Event::builder("1", "kit", "test").subject(subject).build().unwrap();
        self.send(event.to_json().to_string()).await;
    }

    async fn publish_event(&self, event: &Event) -> Result<(), NotChecked> {
        self.send(event.to_json().to_string()).await;
        Ok(())
    }

    async fn publish_garbage(&self, garbage: &[u8]) -> Result<(), NotChecked> {
        self.send(String::from_utf8(garbage.to_vec()).unwrap()).await;
        Ok(())
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        Err(NotChecked::because("it is the server itself: only senders can be out of reach"))
    }

    async fn mend(&self) {}

    fn abilities(&self) -> Abilities {
        let once =
            NotChecked::because("HTTP keeps nothing: whoever sent an event hears that it was not taken");
        Abilities {
            redelivers: Err(once.clone()),
            status: Ok(()),
            floors: Err(once),
            reopens: Ok(()),
            bound: Ok(WAITING as u64),
        }
    }
}

event_source!(http, Http::new().await);
