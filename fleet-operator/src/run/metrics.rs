//! `/metrics` and `/readyz`: the engine's counters, in the OpenMetrics text format.

use std::fmt::Error;
use std::sync::OnceLock;

use fleet_core::engine::{BUCKETS, Counter, Handle, Histogram};
use fleet_kube::leader::Standing;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::definitions::Troubles;
use super::leading;
use crate::http::Health;

/// What the HTTP server shows of an operator: of its election while it waits, then of its engine.
pub(super) struct OperatorHealth {
    standing: Option<watch::Receiver<Standing>>,
    engine: OnceLock<EngineHealth>,
}

impl OperatorHealth {
    /// Of an operator that has no engine yet.
    pub(super) fn new(standing: Option<watch::Receiver<Standing>>) -> Self {
        Self { standing, engine: OnceLock::new() }
    }

    /// The engine is there.
    pub(super) fn runs(&self, engine: Handle, troubles: Troubles) {
        let _ = self.engine.set(EngineHealth::of(engine, troubles));
    }
}

impl Health for OperatorHealth {
    fn unready(&self) -> Option<String> {
        match (self.engine.get(), &self.standing) {
            (Some(engine), _) => engine.unready(),
            (None, Some(standing)) => Some(leading::waiting(standing)),
            (None, None) => Some("the operator starts".to_owned()),
        }
    }

    fn metrics(&self) -> String {
        self.engine.get().map_or_else(|| "# EOF\n".to_owned(), EngineHealth::metrics)
    }
}

/// What is shown of an engine.
struct EngineHealth {
    engine: Handle,
    troubles: Troubles,
    registry: Registry,
}

impl EngineHealth {
    fn of(engine: Handle, troubles: Troubles) -> Self {
        let mut registry = Registry::with_prefix("fleet");
        registry.register_collector(Box::new(EngineCollector(engine.clone())));
        Self { engine, troubles, registry }
    }
}

impl EngineHealth {
    fn unready(&self) -> Option<String> {
        if self.engine.is_loaded() {
            return None;
        }
        let mut reason = "definitions and clusters are loading".to_owned();
        for trouble in self.troubles.now() {
            reason.push_str("; ");
            reason.push_str(&trouble);
        }
        Some(reason)
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[derive(Debug)]
struct EngineCollector(Handle);

impl Collector for EngineCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let counters = self.0.counters();
        let counts: [(&str, &str, &Counter); 16] = [
            ("events_received", "Deliveries read from sources", &counters.received),
            ("events_unmatched", "Deliveries that no trigger wanted", &counters.unmatched),
            ("events_stored", "Intents stored as Work", &counters.stored),
            (
                "events_superseded",
                "Deliveries that were duplicates or older than what is stored",
                &counters.superseded,
            ),
            (
                "keys_expired",
                "Keys deleted because no event renewed them within their trigger's ttl",
                &counters.expired,
            ),
            (
                "keys_missing",
                "Keys deleted because a list of all objects that are live lacks them",
                &counters.missing,
            ),
            (
                "events_duplicate",
                "Deliveries with the source and id of an earlier one, where that makes them duplicates",
                &counters.duplicates,
            ),
            ("dead_letters", "Deliveries that never became Work", &counters.dead_letters),
            (
                "events_given_back",
                "Deliveries given back because nothing could be stored",
                &counters.given_back,
            ),
            ("works_applied", "Times a Work was brought up to date in a cluster", &counters.applied),
            ("works_removed", "Times a Work was removed from a cluster", &counters.removed),
            ("works_stalled", "Times a Work stalled in a cluster", &counters.stalled),
            (
                "objects_repaired",
                "Times an object was put right that somebody had changed or deleted",
                &counters.repaired,
            ),
            (
                "objects_contested",
                "Times an object was left for a pause to somebody who changes it again and again",
                &counters.contested,
            ),
            ("objects_stray", "Objects seen that carry a mark without being any Work's", &counters.strays),
            ("works_retried", "Attempts in a cluster that failed for a reason outside", &counters.retried),
        ];
        for (name, help, counter) in counts {
            let metric = ConstCounter::new(counter.get());
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let gauges = [
            (
                "works_waiting",
                "Works that wait to be looked at, counted once for each cluster",
                self.0.backlog(),
            ),
            ("tombstones", "Works kept only because an older event may still come", self.0.tombstones()),
            (
                "strays",
                "Objects that carry a mark now without being any Work's (see `show strays`)",
                self.0.strays().len(),
            ),
            (
                "withdrawals_held",
                "Works whose withdrawal waits to be confirmed",
                self.0.held_withdrawals().map_or(0, |held| held.works),
            ),
        ];
        for (name, help, value) in gauges {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let mut lost = encoder.encode_descriptor(
            "events_lost",
            "Events a source knows to be lost",
            None,
            MetricType::Counter,
        )?;
        for (source, count) in self.0.lost() {
            let labels = [("source", &*source)];
            ConstCounter::new(count).encode(lost.encode_family(&labels)?)?;
        }
        for (name, help, histogram) in [
            (
                "durable_seconds",
                "From reading a delivery to its Work being durable",
                &counters.durable_latency,
            ),
            (
                "applied_seconds",
                "From accepting an event to its Work being applied in a cluster",
                &counters.applied_latency,
            ),
        ] {
            encode(histogram, encoder.encode_descriptor(name, help, None, MetricType::Histogram)?)?;
        }
        Ok(())
    }
}

fn encode(
    histogram: &Histogram,
    mut encoder: prometheus_client::encoding::MetricEncoder<'_>,
) -> Result<(), Error> {
    const MICROS: f64 = 1e6;
    let cumulative = histogram.cumulative();
    let mut before = 0;
    let bounds = BUCKETS.iter().map(|bound| *bound as f64 / MICROS).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds
        .zip(cumulative)
        .map(|(bound, count)| {
            let inside = count.saturating_sub(before);
            before = count;
            (bound, inside)
        })
        .collect();
    let sum = histogram.sum_micros() as f64 / MICROS;
    encoder.encode_histogram::<NoLabelSet>(sum, before, &buckets, None)
}
