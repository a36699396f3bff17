//! One of several clusters hangs: what that costs the others, next to the same events just before, when none hung.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::redb::RedbStore;
use local_fleet::{ClusterOptions, Lab, NatsOptions, Route};

use crate::Failure;
use crate::fleet::Fleet;
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
    let mut fleet = Fleet::start(&nats, "slow", lab.clusters(), store).await?;
    // Connections are opened, caches filled.
    run(&mut fleet, "warm", rate, time / 6, hung.name(), CLUSTERS).await?;
    let mut ratios: [(usize, Vec<f64>); 2] = [(50, Vec::new()), (99, Vec::new())];
    for round in 0..rounds {
        let mut before =
            run(&mut fleet, &format!("before{round}"), rate, time, hung.name(), CLUSTERS).await?;
        hung.api_server().pause().await?;
        let meanwhile =
            run(&mut fleet, &format!("meanwhile{round}"), rate, time, hung.name(), CLUSTERS - 1).await;
        hung.api_server().resume().await?;
        let mut meanwhile = meanwhile?;
        for (percent, ratios) in &mut ratios {
            let (before, meanwhile) =
                (percentile(&mut before, *percent), percentile(&mut meanwhile, *percent));
            let ratio = meanwhile.as_secs_f64() / before.as_secs_f64();
            line(
                &format!(
                    "event to object in the other clusters, p{percent}: none / one of {CLUSTERS} hangs / ratio"
                ),
                format!("{} / {} / {ratio:.2}", millis(before), millis(meanwhile)),
            );
            ratios.push(ratio);
        }
        let began = Instant::now();
        let events = usize::try_from(rate * u32::try_from(time.as_secs())?)?;
        for _ in 0..events {
            fleet.next().await?;
        }
        line("until the cluster that hung had caught up", millis(began.elapsed()));
    }
    for (percent, ratios) in ratios {
        line(
            &format!("event to object in the other clusters, p{percent}, median ratio"),
            format!("{:.2}", median(ratios)),
        );
    }
    fleet.stop().await;
    lab.stop().await?;
    Ok(())
}

/// Publishes at this rate for so long; how long each event took until it was in each of the clusters but `hung`.
async fn run(
    fleet: &mut Fleet,
    prefix: &str,
    rate: u32,
    time: Duration,
    hung: &str,
    clusters: usize,
) -> Result<Vec<Duration>, Failure> {
    let began = tokio::time::Instant::now();
    let events = rate * u32::try_from(time.as_secs())?;
    let mut due = HashMap::new();
    let mut latencies = Vec::new();
    let mut left = usize::try_from(events)? * clusters;
    let mut number = 0;
    while left > 0 {
        let next = began + Duration::from_secs(1) / rate * number;
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(next), if number < events => {
                let name = format!("{prefix}-{number}");
                number += 1;
                // From when it is due: an event that is published late is late too.
                due.insert(name.clone(), next.into_std());
                fleet.publish(&name).await?;
            }
            applied = fleet.next() => {
                let applied = applied?;
                left -= 1;
                if let Some(due) = due.get(&applied.name).filter(|_| applied.cluster.name() != hung) {
                    latencies.push(applied.at.saturating_duration_since(*due));
                }
            }
        }
    }
    Ok(latencies)
}
