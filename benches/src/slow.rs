//! One of several clusters hangs: what that costs the others, next to the same events just before, when none hung.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::redb::RedbStore;
use local_fleet::{Cluster, ClusterOptions, Lab, NatsOptions, Route};

use crate::Failure;
use crate::engine::NAMESPACE as TEMPLATE;
use crate::fleet::{Applied, Fleet};
use crate::parts::trigger;
use crate::table::{line, median, millis, percentile};

const CLUSTERS: usize = 5;

pub(crate) async fn measure(rate: u32, time: Duration, rounds: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::builder()
        .clusters(CLUSTERS)
        .cluster_options(ClusterOptions::default().controller_manager(false))
        .nats(NatsOptions::default())
        .start_scratch()
        .await?;
    let nats = lab.nats().ok_or("the lab has no NATS")?.url(Route::Direct);
    let hung = lab.clusters().last().ok_or("the lab has no cluster")?;
    let store = Arc::new(RedbStore::open(&folder.path().join("fleet.redb"))?);
    let mut fleet = Fleet::start(&nats, "slow", lab.clusters(), store, trigger(TEMPLATE)).await?;
    let all: Vec<&str> = lab.clusters().iter().map(Cluster::name).collect();
    let others: Vec<&str> = all.iter().copied().filter(|name| *name != hung.name()).collect();
    // Connections are opened, caches filled.
    let mut warm = Events::new("warm", rate, time / 6);
    warm.run(&mut fleet, &all).await?;
    let mut ratios: [(usize, Vec<f64>); 2] = [(50, Vec::new()), (99, Vec::new())];
    for round in 0..rounds {
        let mut before = Events::new(&format!("before{round}"), rate, time);
        before.run(&mut fleet, &all).await?;
        let mut meanwhile = Events::new(&format!("meanwhile{round}"), rate, time);
        hung.api_server().pause().await?;
        let ran = meanwhile.run(&mut fleet, &others).await;
        hung.api_server().resume().await?;
        ran?;
        let began = Instant::now();
        let (mut calm, mut disturbed) = (before.latencies(&others), meanwhile.latencies(&others));
        for (percent, ratios) in &mut ratios {
            let (calm, disturbed) = (percentile(&mut calm, *percent), percentile(&mut disturbed, *percent));
            let ratio = disturbed.as_secs_f64() / calm.as_secs_f64();
            line(
                &format!("event to object in four clusters, p{percent}: all well / the fifth hangs / ratio"),
                format!("{} / {} / {ratio:.2}", millis(calm), millis(disturbed)),
            );
            ratios.push(ratio);
        }
        meanwhile.catch_up(&mut fleet, &all).await?;
        line("until the fifth had caught up", format!("{:.1} s", began.elapsed().as_secs_f64()));
    }
    for (percent, ratios) in ratios {
        line(
            &format!("event to object in four clusters, p{percent}, median ratio"),
            format!("{:.2}", median(ratios)),
        );
    }
    fleet.stop().await;
    lab.stop().await?;
    Ok(())
}

/// Events at a steady rate, and when each was where.
struct Events {
    prefix: String,
    count: u32,
    pause: Duration,
    /// From when it is due: an event that is published late is late too.
    due: HashMap<String, Instant>,
    /// By cluster and event, when it was first there.
    there: HashMap<String, HashMap<String, Instant>>,
}

impl Events {
    fn new(prefix: &str, rate: u32, time: Duration) -> Self {
        let pause = Duration::from_secs(1) / rate;
        let count = u32::try_from(time.as_millis() / pause.as_millis().max(1)).unwrap_or(u32::MAX);
        Self { prefix: prefix.to_owned(), count, pause, due: HashMap::new(), there: HashMap::new() }
    }

    /// Publishes them, and waits until all are in these clusters.
    async fn run(&mut self, fleet: &mut Fleet, clusters: &[&str]) -> Result<(), Failure> {
        let began = tokio::time::Instant::now();
        let mut number = 0;
        while number < self.count {
            let next = began + self.pause * number;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(next) => {
                    let name = format!("{}-{number}", self.prefix);
                    number += 1;
                    fleet.publish(&name).await?;
                    self.due.insert(name, next.into_std());
                }
                applied = fleet.next() => self.note(applied?),
            }
        }
        self.catch_up(fleet, clusters).await
    }

    /// Waits until all are in these clusters.
    async fn catch_up(&mut self, fleet: &mut Fleet, clusters: &[&str]) -> Result<(), Failure> {
        let count = self.due.len();
        while clusters.iter().any(|name| self.there.get(*name).is_none_or(|there| there.len() < count)) {
            self.note(fleet.next().await?);
        }
        Ok(())
    }

    fn note(&mut self, applied: Applied) {
        if self.due.contains_key(&applied.name) {
            let there = self.there.entry(applied.cluster.name().to_owned()).or_default();
            there.entry(applied.name).or_insert(applied.at);
        }
    }

    fn latencies(&self, clusters: &[&str]) -> Vec<Duration> {
        let there = clusters.iter().filter_map(|name| self.there.get(*name)).flatten();
        there.filter_map(|(name, at)| Some(at.saturating_duration_since(*self.due.get(name)?))).collect()
    }
}
