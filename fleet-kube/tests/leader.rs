//! Leader election on a real API server.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod lab;

use std::time::{Duration, Instant};

use fleet_kube::client::ClusterClient;
use fleet_kube::leader::{Election, Leadership, Lost, Standing, Timing};
use lab::*;
use local_fleet::{ClusterOptions, Network, Route, User};
use serde_json::json;

const LEASE: Duration = Duration::from_secs(3);
const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/fleet-events/leases/operator";

fn client(lab: &Lab, user: User, route: Route) -> ClusterClient {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&lab.kubeconfig(user, route)).unwrap();
    ClusterClient::new(kube::Config::try_from(kubeconfig).unwrap()).unwrap()
}

fn election(lab: &Lab, identity: &str, user: User, route: Route) -> Election {
    let timing = Timing::for_lease(LEASE).unwrap();
    Election::new(client(lab, user, route), "fleet-events", "operator", identity, timing).unwrap()
}

async fn within<T>(most: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(most, future).await.unwrap_or_else(|_| panic!("{what} took longer than {most:?}"))
}

async fn start() -> Lab {
    Lab::start(&ClusterOptions::default().controller_manager(false)).await
}

#[tokio::test]
async fn one_leads_and_another_follows() {
    let lab = start().await;
    let admin = lab.admin().await;
    let first = election(&lab, "first", User::Admin, Route::Proxied);
    let mut standing = first.standing();
    let acquiring = tokio::spawn(first.acquire());
    let trouble = standing.wait_for(|standing| matches!(standing, Standing::Trouble { .. }));
    let told = within(SOON, "the missing namespace", trouble).await.unwrap().clone();
    assert_eq!(
        told,
        Standing::Trouble { reason: "namespace fleet-events is not there; create it".to_owned() }
    );
    drop(admin.send("POST", "/api/v1/namespaces", Some(&namespace("fleet-events"))).await.unwrap());
    let first: Leadership = within(SOON, "the first lease", acquiring).await.unwrap();
    assert_eq!(*standing.borrow(), Standing::Leading);
    let lease = admin.get(PATH).await.unwrap();
    assert_eq!(
        (&lease["spec"]["holderIdentity"], &lease["spec"]["leaseDurationSeconds"]),
        (&json!("first"), &json!(3))
    );

    let second = election(&lab, "second", User::Admin, Route::Direct);
    let waiting = second.standing();
    let second = tokio::spawn(second.acquire());
    // What others write into the Lease stays, and takes nothing away from the leader.
    let label = json!({"metadata": {"labels": {"team": "a"}}});
    let renewed = |lease: &serde_json::Value| lease["spec"]["renewTime"].as_str().unwrap().to_owned();
    let labelled = admin.send("PATCH", PATH, Some(&label)).await.unwrap();
    let later = async {
        loop {
            let now = admin.get(PATH).await.unwrap();
            if renewed(&now) != renewed(&labelled) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let later = within(SOON, "a renewal", later).await;
    assert_eq!(later["metadata"]["labels"]["team"], "a");
    assert_eq!(later["spec"]["acquireTime"], lease["spec"]["acquireTime"]);
    assert_eq!(*waiting.borrow(), Standing::Waiting { holder: "first".to_owned() });

    let asked = Instant::now();
    first.release().await.unwrap();
    let second: Leadership = within(SOON, "the next leader", second).await.unwrap();
    assert!(asked.elapsed() < LEASE, "it need not wait for the lease to run out: {:?}", asked.elapsed());
    let lease = admin.get(PATH).await.unwrap();
    assert_eq!(
        (&lease["spec"]["holderIdentity"], &lease["spec"]["leaseTransitions"]),
        (&json!("second"), &json!(1))
    );
    assert!(second.tenure().holds());
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_before_the_next_one_begins() {
    let lab = start().await;
    let admin = lab.admin().await;
    drop(admin.send("POST", "/api/v1/namespaces", Some(&namespace("fleet-events"))).await.unwrap());
    let first = election(&lab, "first", User::Admin, Route::Proxied).acquire().await;
    let second = tokio::spawn(election(&lab, "second", User::Admin, Route::Direct).acquire());
    tokio::time::sleep(Duration::from_millis(500)).await;
    lab.cluster.proxy().set(Network::Silent);
    let cut = Instant::now();
    let lost = within(LEASE, "noticing", first.lost()).await;
    assert!(matches!(lost, Lost::NotRenewed { .. }), "{lost}");
    assert!(!first.tenure().holds() && !second.is_finished());
    let second = within(SOON, "the next leader", second).await.unwrap();
    assert!(cut.elapsed() < LEASE * 2, "{:?}", cut.elapsed());

    // With the API server gone for longer than the lease, nobody leads; afterwards somebody does again.
    lab.cluster.api_server().pause().await.unwrap();
    within(LEASE, "noticing", second.lost()).await;
    lab.cluster.proxy().heal();
    lab.cluster.api_server().resume().await.unwrap();
    let third = election(&lab, "third", User::Admin, Route::Direct);
    let third = within(SOON, "somebody leads again", third.acquire()).await;
    assert!(third.tenure().holds());
}

#[tokio::test]
async fn who_may_not_use_leases_is_told_what_to_allow() {
    let lab = start().await;
    let election = election(&lab, "nobody", User::Guest, Route::Direct);
    let mut standing = election.standing();
    let acquiring = tokio::spawn(election.acquire());
    let trouble = standing.wait_for(|standing| matches!(standing, Standing::Trouble { .. }));
    let told = format!("{:?}", within(SOON, "being told", trouble).await.unwrap());
    assert!(told.contains("allow get, create and update of leases"), "{told}");
    acquiring.abort();
}
