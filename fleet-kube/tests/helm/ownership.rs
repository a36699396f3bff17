//! Whose a release is.

use std::sync::Arc;

use fleet_core::apply::{Applier, ApplyRequest, Mode, Outcome, Owner};
use fleet_core::policy::Policy;
use serde_json::json;

use super::lab::*;
use super::world::{World, claim};

#[tokio::test]
async fn somebody_elses_release_is_a_conflict_and_stays_untouched() {
    let world = World::new("foreign").await;
    world.by_hand(&["install", "beacon", &world.chart("1.0.0"), "--create-namespace"]).await;
    let (release, absent) = (world.release(json!({})), world.release(json!({"action": "Uninstall"})));
    for wish in [&release, &absent] {
        let outcome = world.apply(wish, &[]).await;
        assert!(
            matches!(&outcome, Outcome::Conflict { owner: Owner::Other(who) } if who.contains("helm")),
            "{outcome:?}"
        );
        assert!(matches!(world.preview(wish).await, Outcome::Conflict { .. }));
    }
    assert_eq!(world.remove(&item(&release, Some("x")), Mode::Write).await, Outcome::Gone);
    assert_eq!(world.runs(), 0);
    assert_eq!(world.history().await, [(1, "deployed".into(), "beacon-1.0.0".into())]);

    // Unless it is to be taken over; then it is given back.
    let policy = Arc::new(Policy { adopt: true, ..Policy::default() });
    let request =
        ApplyRequest { policy, ..world.request(&world.release(json!({"values": {"count": 2}})), &[]) };
    let adopted = placed(&release, &world.helm.apply(request).await.remove(0));
    assert!(adopted.adopted);
    assert_eq!(
        world.remove(&adopted, Mode::Preview).await,
        Outcome::Would(fleet_core::apply::Change::GiveBack)
    );
    assert_eq!(world.remove(&adopted, Mode::Write).await, Outcome::Gone);
    assert_eq!(world.data("beacon").await.unwrap()["count"], "2");
    assert_eq!(world.mark().await, None);
    assert!(matches!(world.apply(&release, &[]).await, Outcome::Conflict { .. }), "it is theirs again");
}

#[tokio::test]
async fn a_release_passes_to_another_work_that_claims_it_and_the_loser_lets_go() {
    let world = World::new("passing").await;
    let release = world.release(json!({}));
    let lost = world.applied(&release, &[]).await;
    let heir = work("the-heir");
    let theirs = Outcome::Conflict { owner: Owner::Work(world.work.hash().into()) };
    let ask = ApplyRequest { work: heir.clone(), ..world.request(&release, &[]) };
    assert_eq!(world.helm.apply(ask.clone()).await, [theirs]);
    let taking = ApplyRequest { claims: vec![claim(&release, &world.work)], ..ask };
    assert!(matches!(world.helm.apply(taking).await[..], [Outcome::Applied(_)]));
    assert_eq!(world.mark().await.as_deref(), Some(heir.hash()));
    let lost_it = Outcome::Conflict { owner: Owner::Work(heir.hash().into()) };
    assert_eq!(world.apply(&release, std::slice::from_ref(&lost)).await, lost_it);
    assert_eq!(world.remove(&lost, Mode::Write).await, Outcome::Gone);
    assert!(world.data("beacon").await.is_some());
}
