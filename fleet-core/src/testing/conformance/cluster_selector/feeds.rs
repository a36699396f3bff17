//! What a feed is.

use std::sync::Arc;

use futures::FutureExt;

use super::Fixture;
use super::follower::{Follower, QUIET, env, labels};
use crate::cluster::{ClusterChange, ClusterSelector};
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

pub(super) async fn a_feed_waits_for_the_whole_set(fixture: &impl Fixture) -> Verdict {
    let unread = fixture.unread().await?;
    // That it cannot be read may be said at once.
    let early = matches!(tokio::time::timeout(QUIET, unread.subscribe()).await, Ok(Ok(_)));
    holds!(!early, "a feed was opened before the inventory was read");
    Ok(())
}

pub(super) async fn the_snapshot_is_the_whole_set(fixture: &impl Fixture) -> Verdict {
    let mut follower = Follower::new(fixture).await?;
    holds!(follower.known.is_empty(), "an empty inventory has the clusters {:?}", follower.known.keys());
    let clusters = fixture.clusters();
    for cluster in &clusters {
        fixture.put(cluster, labels(cluster.name())).await;
    }
    // What was put there may be told a moment later.
    follower.until_there(clusters.len()).await?;
    let known = Follower::new(fixture).await?.known;
    for cluster in &clusters {
        let found = known.get(cluster).or_broken(&format!("{cluster} is not in the snapshot"))?;
        let label = env(found);
        holds!(label == Some(cluster.name()), "{cluster} has the label {label:?} in the snapshot");
    }
    holds!(known.len() == clusters.len(), "the snapshot has clusters that are not there: {:?}", known.keys());
    Ok(())
}

pub(super) async fn each_feed_is_told_all(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let mut followers = [Follower::new(fixture).await?, Follower::new(fixture).await?];
    fixture.put(&c1, labels("production")).await;
    for follower in &mut followers {
        let change = follower.change().await?;
        let joined = matches!(&change, ClusterChange::Joined(it) if it.id == c1);
        holds!(joined, "{c1} was added, one of two feeds tells {change:?}");
    }
    Ok(())
}

pub(super) async fn a_dropped_feed_leaves_nothing_behind(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, c3] = fixture.clusters();
    let mut goes_on = Follower::new(fixture).await?;
    fixture.put(&c1, labels("production")).await;
    let selector = fixture.selector().await;
    // Begun and not ended.
    drop(selector.subscribe().now_or_never());
    let dropped = Follower::of(fixture, &*selector).await?;
    fixture.put(&c2, labels("production")).await;
    // With something unread in it.
    drop(dropped);
    fixture.put(&c3, labels("production")).await;
    goes_on.until_there(3).await?;
    Follower::of(fixture, &*selector).await?.until_there(3).await
}

pub(super) async fn withdrawals_are_taken_without_blocking(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    fixture.put(&c1, labels("production")).await;
    let mut follower = Follower::new(fixture).await?;
    follower.until_there(1).await?;
    fixture.remove(&c1).await;
    follower.until_there(0).await?;
    let selector: Arc<dyn ClusterSelector> = fixture.selector().await;
    let (done, told) = tokio::sync::oneshot::channel();
    let withdrawn = c1.clone();
    // On a thread of its own, which is left behind if it never ends.
    std::thread::spawn(move || {
        for _ in 0..3 {
            selector.withdrawn(&withdrawn);
        }
        let _ = done.send(());
    });
    let told = tokio::time::timeout(fixture.patience(), told).await;
    told.or_broken("telling that a cluster is withdrawn blocks")?
        .or_broken("telling that it is withdrawn panicked")?;
    // One of that name is another cluster.
    fixture.put(&c1, labels("production")).await;
    follower.until_there(1).await
}
