//! What is told of the last deliveries: what came of each, for how many of them, and nothing of their data.

use std::sync::Arc;

use fleet_core::engine::{Config, DeliveryFate, RecentDelivery, WorkFate};
use fleet_core::memory::MemoryCatalog;
use fleet_core::policy::{Policy, SyncMode};
use fleet_core::work::Intent;

use crate::rig::{Feed, Rig, Setup, at, event, login, logout, source, template, trigger, until};

fn subject(delivery: &RecentDelivery) -> &str {
    delivery.event.as_ref().and_then(|event| event.subject.as_deref()).unwrap_or_default()
}

/// The last delivery, once all that is asked of it holds.
async fn last(rig: &Rig, what: &str, holds: impl Fn(&RecentDelivery) -> bool) -> RecentDelivery {
    until(what, async || rig.handle.recent().last().is_some_and(&holds)).await;
    rig.handle.recent().pop().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_came_of_deliveries_is_told() {
    let rig = Setup::default().start();
    rig.source.send(login("anna")).await.await;
    let told =
        last(&rig, "it is done in both", |it| it.triggers.first().is_some_and(|it| it.done == 2)).await;
    assert_eq!((told.fate, subject(&told)), (DeliveryFate::Settled, "anna"));
    let [work] = &told.triggers[..] else { panic!("{told:?}") };
    assert_eq!((work.fate, work.intent), (WorkFate::Stored, Some(Intent::Create)));
    assert!(work.took.is_some() && work.stalled + work.waiting == 0, "{work:?}");

    rig.source.send(logout("anna")).await.await;
    let told =
        last(&rig, "it is gone from both", |it| it.triggers.first().is_some_and(|it| it.done == 2)).await;
    assert_eq!(told.triggers[0].intent, Some(Intent::Delete));

    rig.source.send(event("auth.other", "x")).await.await;
    let told = last(&rig, "it is refused", |it| it.fate == DeliveryFate::Settled).await;
    assert_eq!(told.triggers[0].fate, WorkFate::Refused("ActionInvalid"));
    rig.source.send(login(&"x".repeat(3000))).await.await;
    let told = rig.handle.recent().pop().unwrap();
    assert_eq!(told.fate, DeliveryFate::Refused("TooLarge"));
    assert_eq!(subject(&told).len(), 256, "long names are cut");
    assert_eq!(rig.handle.recent().len(), 4);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_repair_or_an_edit_later_is_not_the_events_doing() {
    let rig = Setup::default().start();
    rig.source.send(login("anna")).await.await;
    let told =
        last(&rig, "it is done in both", |it| it.triggers.first().is_some_and(|it| it.done == 2)).await;
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    rig.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).payload = vec![template("$subject more")];
    });
    rig.until_names("c2", &["anna", "more"]).await;
    assert_eq!(rig.handle.recent(), [told]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn duplicates_and_what_is_only_previewed_are_told_apart() {
    let preview = Policy { sync: SyncMode::DryRun, ..Policy::default() };
    let setup = Setup {
        catalog: MemoryCatalog::new(
            [source()],
            [fleet_core::catalog::TriggerDef { policy: Arc::new(preview), ..trigger() }],
        ),
        ..Setup::default()
    };
    let rig = setup.start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("anna"), at(7));
    last(&rig, "it is previewed in both", |it| it.triggers.first().is_some_and(|it| it.previewed == 2)).await;
    feed.deliver(logout("bert"), at(9));
    last(&rig, "nothing is there", |it| {
        it.triggers.first().is_some_and(|it| it.fate == WorkFate::NothingThere)
    })
    .await;
    feed.deliver(login("anna"), at(7));
    let told = last(&rig, "it is settled", |it| {
        it.triggers.first().is_some_and(|it| it.fate == WorkFate::Superseded)
            && it.fate == DeliveryFate::Settled
    })
    .await;
    assert_eq!(told.triggers[0].done, 0);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_kept() {
    let rig =
        Setup { config: Config { recent_deliveries: 3, ..Config::default() }, ..Setup::default() }.start();
    for number in 0..10 {
        rig.source.send(login(&format!("user-{number}"))).await.await;
        last(&rig, "it is done", |it| it.triggers.first().is_some_and(|it| it.done == 2)).await;
    }
    let recent = rig.handle.recent();
    assert_eq!(recent.iter().map(subject).collect::<Vec<_>>(), ["user-7", "user-8", "user-9"]);
    assert!(recent.iter().all(|it| it.triggers.len() == 1 && it.triggers[0].done == 2), "{recent:?}");
    rig.stop().await;
    let rig =
        Setup { config: Config { recent_deliveries: 0, ..Config::default() }, ..Setup::default() }.start();
    rig.source.send(login("anna")).await.await;
    rig.until_names("c1", &["anna"]).await;
    assert!(rig.handle.recent().is_empty());
    rig.stop().await;
}
