//! The engine's counters, in the registry of the controller.

use std::fmt;

use fleet_core::engine::Handle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

#[derive(Debug)]
struct Engine(Handle);

/// Shows an engine's counters. They are read when somebody asks.
pub(crate) fn register(engine: Handle, registry: &mut Registry) {
    registry.sub_registry_with_prefix("fleet").register_collector(Box::new(Engine(engine)));
}

impl Collector for Engine {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counters = self.0.counters();
        for (name, help, count) in [
            ("events_stored", "Intents stored as Work", &counters.stored),
            ("works_applied", "Times a Work was brought up to date in a cluster", &counters.applied),
            ("works_stalled", "Times a Work stalled in a cluster", &counters.stalled),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count.get()).encode(descriptor)?;
        }
        Ok(())
    }
}
