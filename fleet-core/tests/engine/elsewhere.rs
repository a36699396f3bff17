//! Clusters that other operators drive: events come from them, and nothing is put there from here.

use std::sync::Arc;

use fleet_core::catalog::{CatalogSnapshot, OriginRule, TriggerDef};
use fleet_core::memory::MemoryCatalog;
use fleet_core::selector::LabelSelector;
use fleet_core::source::Settled;

use crate::rig::{Feed, Rig, Setup, at, cluster, labelled, login, logout, source, trigger};

/// What is for the cluster of the event alone, and what goes to all in staging.
fn triggers() -> [TriggerDef; 2] {
    let staging = LabelSelector::labels([("env", "staging")]).unwrap();
    let across = TriggerDef { name: "across".into(), destination_clusters: Some(staging), ..trigger() };
    [trigger(), across]
}

fn setup() -> Setup {
    let setup = Setup { catalog: MemoryCatalog::new([source()], triggers()), ..Setup::default() };
    setup.clusters.put_elsewhere(labelled("agent", "production"));
    // As if its labels said that it is a destination, too.
    setup.clusters.put_elsewhere(labelled("agent2", "staging"));
    setup
}

async fn works(rig: &Rig) -> usize {
    rig.works().await.len()
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_there_does_its_work_in_other_clusters_only() {
    let rig = setup().start();
    let feed = Feed::in_cluster("users", "agent");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("a"), at(1));
    rig.until_names("staging1", &["a"]).await;
    assert_eq!(works(&rig).await, 1, "what is for that cluster alone is its operator's");
    for name in ["agent", "agent2", "c1", "c2"] {
        assert_eq!(rig.names(name), [""; 0], "{name}");
    }
    feed.deliver(login("b"), at(2));
    feed.deliver(logout("a"), at(3));
    rig.until_names("staging1", &["b"]).await;

    // Its labels are levels, as are those of any origin.
    rig.clusters.put_elsewhere(labelled("agent", "development"));
    rig.until_names("staging1", &[]).await;
    rig.clusters.put_elsewhere(labelled("agent", "production"));
    rig.until_names("staging1", &["b"]).await;
    rig.clusters.remove_elsewhere(&cluster("agent"));
    rig.until_names("staging1", &[]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_driven_from_here_once_it_is_and_no_earlier() {
    let rig = setup().start();
    let feed = Feed::in_cluster("users", "agent2");
    rig.handle.attach(Arc::clone(&feed) as _);
    rig.clusters.put_elsewhere(labelled("agent", "staging"));
    let other = Feed::in_cluster("users", "c1");
    rig.handle.attach(Arc::clone(&other) as _);
    other.deliver(login("a"), at(1));
    rig.until_names("staging1", &["a"]).await;
    assert_eq!(rig.names("agent"), [""; 0]);
    // Whoever tells it first: both may be so for a moment.
    rig.clusters.put(labelled("agent", "staging"));
    rig.clusters.remove_elsewhere(&cluster("agent"));
    rig.until_names("agent", &["a"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_only_we_hear_and_another_should_is_a_dead_letter() {
    for only_here in [true, false] {
        let setup = setup();
        setup.catalog.edit(|CatalogSnapshot { sources, .. }| {
            let source = Arc::make_mut(sources.get_mut("users").unwrap());
            source.origin = Some(OriginRule::Fixed(cluster("agent")));
            source.only_here = only_here;
        });
        let rig = setup.start();
        let settled = rig.source.send(login("a")).await.await;
        assert_eq!(settled, Settled::Acked, "the other trigger has it");
        rig.until_names("staging1", &["a"]).await;
        let letters = rig.store.dead_letters(None, 10).await.unwrap();
        let told: Vec<_> = letters.iter().map(|it| (it.trigger.as_deref(), &*it.reason)).collect();
        match only_here {
            true => {
                assert_eq!(told, [(Some("names"), "DrivenElsewhere")]);
                assert!(
                    letters[0].detail.contains("civo/agent is driven by its agent"),
                    "{}",
                    letters[0].detail
                );
            }
            // The agent reads it by itself.
            false => assert_eq!(told, []),
        }
        rig.stop().await;
    }
}
