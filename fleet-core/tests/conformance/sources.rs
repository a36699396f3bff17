//! Our source in memory keeps the contract.

use std::sync::Arc;

use fleet_core::event::Event;
use fleet_core::memory::MemorySource;
use fleet_core::source::EventSource;
use fleet_core::testing::conformance::{NotChecked, event_source};

struct Memory(Arc<MemorySource>);

impl event_source::Fixture for Memory {
    async fn source(&self) -> Arc<dyn EventSource> {
        Arc::clone(&self.0) as _
    }

    async fn publish(&self, subject: &str) {
        let event = Event::builder("1", "kit", "test").subject(subject).build().unwrap();
        tokio::spawn(self.0.send(event).await);
    }

    async fn publish_event(&self, event: &Event) -> Result<(), NotChecked> {
        tokio::spawn(self.0.send(event.clone()).await);
        Ok(())
    }

    async fn publish_garbage(&self, _garbage: &[u8]) -> Result<(), NotChecked> {
        Err(NotChecked::because("it is sent events, not bytes"))
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        Err(NotChecked::because("memory is never out of reach"))
    }

    async fn mend(&self) {}

    fn abilities(&self) -> event_source::Abilities {
        let once = NotChecked::because("what was sent is delivered once");
        event_source::Abilities {
            redelivers: Err(once.clone()),
            status: Err(NotChecked::because("it is always ready")),
            floors: Err(once),
            reopens: Err(NotChecked::because("a memory source opens once")),
            bound: Ok(1024),
        }
    }
}

event_source!(memory, Memory(Arc::new(MemorySource::new("users"))));
