//! A helm that is killed in the middle of its work.

use std::time::Duration;

use fleet_core::apply::{Applier, ApplyRequest, Mode, Outcome};
use local_fleet::Program;
use serde_json::{Value, json};

use super::world::{World, applier, reason};

/// Begins what never ends, until helm has written down that it is at it.
async fn hang(world: &World, release: &Value, status: &str) {
    let request = ApplyRequest { deadline: Duration::from_millis(200), ..world.request(release, &[]) };
    assert!(matches!(&world.helm.apply(request).await[..], [Outcome::Waiting { .. }]));
    // It has put its objects there, and waits for what never comes.
    let greeting = &release["spec"]["values"]["greeting"];
    let begun = async {
        while world.data("beacon").await.is_none_or(|data| data["greeting"] != *greeting) {}
        world.history().await
    };
    let history = tokio::time::timeout(super::world::LONG, begun).await.unwrap();
    assert_eq!(history.last().unwrap().1, status);
    // It is known to be at work, and asked again nothing else is begun.
    let (request, runs) =
        (ApplyRequest { deadline: Duration::from_millis(200), ..world.request(release, &[]) }, world.runs());
    assert!(
        matches!(&world.helm.apply(request).await[..], [Outcome::Waiting { reason }] if reason.contains("at work"))
    );
    assert_eq!(world.runs(), runs);
}

async fn is_taken_up(mut world: World) {
    let hanging = world.release(json!({"values": {"hang": true, "greeting": "first"}}));
    hang(&world, &hanging, "pending-install").await;
    // Somebody else cannot tell whether it is still at work.
    let elsewhere = world.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let other = applier(&world.clusters, &elsewhere, &world.program);
    let outcome = other.apply(world.request(&hanging, &[])).await.remove(0);
    assert!(
        matches!(&outcome, Outcome::Waiting { reason } if reason.contains("begun elsewhere")),
        "{outcome:?}"
    );

    // Dropping the Applier kills it; the next one on the same folder knows that nobody is at it any more.
    world.restart();
    let well = world.release(json!({"values": {"greeting": "well"}}));
    let item = world.applied(&well, &[]).await;
    assert_eq!(world.data("beacon").await.unwrap()["greeting"], "well");
    assert_eq!(world.history().await, [(1, "deployed".into(), "beacon-1.0.0".into())]);

    // Of an upgrade, what it has made and is not wanted any more does not stay.
    let small = world.release(json!({"values": {"small": true}}));
    let item = world.applied(&small, &[item]).await;
    let hanging = world.release(json!({"values": {"hang": true, "greeting": "second"}}));
    hang(&world, &hanging, "pending-upgrade").await;
    assert!(world.data("beacon-more").await.is_some());
    world.restart();
    let last = world.release(json!({"values": {"small": true, "greeting": "last"}}));
    let item = world.applied(&last, &[item]).await;
    assert_eq!(world.data("beacon").await.unwrap()["greeting"], "last");
    assert!(world.data("beacon-more").await.is_none());

    // And what is half done can be removed.
    let hanging = world.release(json!({"values": {"hang": true, "greeting": "third"}}));
    hang(&world, &hanging, "pending-upgrade").await;
    world.restart();
    let removed = async {
        loop {
            match world.remove(&item, Mode::Write).await {
                Outcome::Waiting { .. } => {}
                outcome => return outcome,
            }
        }
    };
    assert_eq!(tokio::time::timeout(super::world::LONG, removed).await.unwrap(), Outcome::Gone);
    assert!(world.data("beacon").await.is_none() && world.mark().await.is_none());
}

#[tokio::test]
async fn what_a_kill_has_left_half_done_is_taken_up_by_helm_4() {
    is_taken_up(World::new("killed-four").await).await;
}

#[tokio::test]
async fn what_a_kill_has_left_half_done_is_taken_up_by_helm_3() {
    is_taken_up(World::with("killed-three", Program::Helm3).await).await;
}

#[tokio::test]
async fn a_run_that_takes_too_long_fails_and_the_next_one_hears_of_it() {
    let world = World::new("too-long").await;
    let release = world.release(json!({"values": {"hang": true}, "options": {"timeout": "3s"}}));
    let request = ApplyRequest { deadline: Duration::from_millis(500), ..world.request(&release, &[]) };
    assert!(matches!(&world.helm.apply(request).await[..], [Outcome::Waiting { .. }]));
    let outcome = world.apply(&release, &[]).await;
    assert!(reason(&outcome).contains("hook") || reason(&outcome).contains("timed out"), "{outcome:?}");
    let runs = world.runs();
    assert!(runs >= 2, "{runs}");
    assert_eq!(world.history().await.len(), 1, "it was tried once");
}
