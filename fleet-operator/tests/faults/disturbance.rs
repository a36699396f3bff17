//! What goes wrong meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use local_fleet::{Cluster, Nats};

use crate::random::Random;
use crate::service::Service;
use crate::stage::wait_for;
use crate::world::World;

/// How long a cluster is away.
const AWAY: Duration = Duration::from_secs(10);

/// What makes a cluster be away.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Stopped,
    /// It takes connections and answers nothing.
    Frozen,
    /// The same, and what it was asked may take effect when it goes on.
    EtcdFrozen,
}

const FAULTS: [Fault; 3] = [Fault::Stopped, Fault::Frozen, Fault::EtcdFrozen];

/// The operator is killed every 1 to 3 s, and started again; how often.
pub(crate) fn kill_operators(world: &World, mut random: Random, over: &AtomicBool) -> usize {
    let mut kills = 0;
    while !over.load(Ordering::Relaxed) {
        Service::start(world).killed_after(random.millis(1_000..3_000));
        kills += 1;
    }
    kills
}

/// NATS is killed every 8 to 15 s, and stays away for a while; how often.
pub(crate) fn kill_nats(nats: &Nats, mut random: Random, over: &AtomicBool) -> usize {
    let mut kills = 0;
    loop {
        sleep(random.millis(8_000..15_000));
        if over.load(Ordering::Relaxed) {
            return kills;
        }
        wait_for(nats.server().kill()).unwrap();
        sleep(random.millis(200..3_000));
        wait_for(nats.server().start()).unwrap();
        kills += 1;
    }
}

/// One cluster after the other is away: its API server is stopped, hangs, or hangs for its etcd does. Each of them at
/// least once.
pub(crate) fn disturb_clusters(clusters: &[Cluster], mut random: Random, over: &AtomicBool) -> Vec<String> {
    let mut done = Vec::new();
    let first = random.below(clusters.len());
    while done.len() < FAULTS.len() || !over.load(Ordering::Relaxed) {
        let fault = done.len() % FAULTS.len();
        // Each time round, another cluster for each.
        let cluster = &clusters[(first + fault + done.len() / FAULTS.len()) % clusters.len()];
        sleep(random.millis(2_000..5_000));
        wait_for(away(cluster, FAULTS[fault]));
        done.push(format!("{} {:?}", cluster.name(), FAULTS[fault]));
    }
    done
}

async fn away(cluster: &Cluster, fault: Fault) {
    let api_server = cluster.api_server();
    match fault {
        Fault::Stopped => {
            api_server.stop().await.unwrap();
            tokio::time::sleep(AWAY).await;
            api_server.start().await.unwrap();
        }
        Fault::Frozen => {
            api_server.pause().await.unwrap();
            tokio::time::sleep(AWAY).await;
            api_server.resume().await.unwrap();
        }
        Fault::EtcdFrozen => {
            cluster.etcd().server().pause().await.unwrap();
            tokio::time::sleep(AWAY).await;
            cluster.etcd().server().resume().await.unwrap();
        }
    }
    api_server.wait_ready().await.unwrap();
}
