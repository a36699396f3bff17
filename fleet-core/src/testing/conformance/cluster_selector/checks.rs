//! The checks, each of one rule.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use super::Fixture;
use crate::cluster::{Cluster, ClusterChange, ClusterFeed, ClusterId, ClusterSelector, Labels};
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

/// After something was not told for that long, it is taken not to be told.
const QUIET: Duration = Duration::from_millis(500);

fn labels(env: &str) -> Labels {
    Labels::from([("env".to_owned(), env.to_owned())])
}

/// A feed, and what is known by it.
struct Follower {
    feed: ClusterFeed,
    known: BTreeMap<ClusterId, Arc<Cluster>>,
    patience: Duration,
}

impl Follower {
    async fn new(fixture: &impl Fixture) -> Result<Self, Finding> {
        let subscribed = fixture.selector();
        let feed = tokio::time::timeout(fixture.patience(), subscribed.subscribe()).await;
        let feed = feed.or_broken("a feed was not opened in time")?.or_broken("a feed could not be opened")?;
        let known = feed.snapshot.iter().map(|cluster| (cluster.id.clone(), Arc::clone(cluster))).collect();
        Ok(Self { feed, known, patience: fixture.patience() })
    }

    /// The next change that is not only one of readiness, which comes when it comes.
    async fn change(&mut self) -> Result<ClusterChange, Finding> {
        let next = async {
            loop {
                let change = self.feed.changes.next().await.or_broken("the feed ended")?;
                let before = self.note(&change)?;
                match change {
                    ClusterChange::Ready(_) | ClusterChange::Unready(_) => {}
                    // Told again, the same is no change.
                    ClusterChange::Joined(now) if before.is_some() => {
                        return Err(Finding::Broken(format!("{} joined twice", now.id)));
                    }
                    change => return Ok(change),
                }
            }
        };
        tokio::time::timeout(self.patience, next).await.or_broken("a change was not told in time")?
    }

    /// Takes note of a change; what was known of its cluster before.
    fn note(&mut self, change: &ClusterChange) -> Result<Option<Arc<Cluster>>, Finding> {
        let ready = |known: &mut BTreeMap<ClusterId, Arc<Cluster>>, id: &ClusterId, ready: bool| {
            let cluster = known.get_mut(id).or_broken("the readiness of a cluster is told that is not there")?;
            let before = Arc::clone(cluster);
            *cluster = Arc::new(Cluster { ready, ..(*before).clone() });
            Ok(Some(before))
        };
        match change {
            ClusterChange::Joined(cluster) => Ok(self.known.insert(cluster.id.clone(), Arc::clone(cluster))),
            ClusterChange::Relabelled(cluster) => {
                let before = self.known.insert(cluster.id.clone(), Arc::clone(cluster));
                before.or_broken("a cluster was relabelled that is not there").map(Some)
            }
            ClusterChange::Ready(id) => ready(&mut self.known, id, true),
            ClusterChange::Unready(id) => ready(&mut self.known, id, false),
            ClusterChange::Left(id) => {
                self.known.remove(id).or_broken("a cluster left that is not there").map(Some)
            }
        }
    }

    /// Follows what is told until what is known is as it should be.
    async fn until(&mut self, what: &str, is: impl Fn(&BTreeMap<ClusterId, Arc<Cluster>>) -> bool) -> Verdict {
        let reached = async {
            while !is(&self.known) {
                let change = self.feed.changes.next().await.or_broken("the feed ended")?;
                self.note(&change)?;
            }
            Ok(())
        };
        let reached = tokio::time::timeout(self.patience, reached).await;
        reached.or_broken(&format!("{what} was not told in time"))?
    }

    /// What is told in a while, besides readiness.
    async fn told_for(&mut self, time: Duration) -> Result<Vec<ClusterChange>, Finding> {
        let deadline = tokio::time::Instant::now() + time;
        let mut told = Vec::new();
        while let Ok(change) = tokio::time::timeout_at(deadline, self.feed.changes.next()).await {
            let change = change.or_broken("the feed ended")?;
            self.note(&change)?;
            if !matches!(change, ClusterChange::Ready(_) | ClusterChange::Unready(_)) {
                told.push(change);
            }
        }
        Ok(told)
    }
}

pub(super) async fn a_feed_waits_for_the_whole_set(fixture: &impl Fixture) -> Verdict {
    let unread = fixture.unread()?;
    let early = tokio::time::timeout(QUIET, unread.subscribe()).await;
    holds!(early.is_err(), "a feed was opened before the inventory was read");
    Ok(())
}

pub(super) async fn the_snapshot_is_the_whole_set(fixture: &impl Fixture) -> Verdict {
    let empty = Follower::new(fixture).await?.known;
    holds!(empty.is_empty(), "an empty inventory has the clusters {:?}", empty.keys());
    let clusters = fixture.clusters();
    for cluster in &clusters {
        fixture.put(cluster, labels(cluster.name())).await;
    }
    // What was put there may be told a moment later.
    let mut follower = Follower::new(fixture).await?;
    follower.until("a cluster in the inventory", |known| known.len() == clusters.len()).await?;
    let known = Follower::new(fixture).await?.known;
    for cluster in &clusters {
        let found = known.get(cluster).or_broken(&format!("{cluster} is not in the snapshot"))?;
        holds!(found.labels == labels(cluster.name()), "{cluster} has the labels {:?}", found.labels);
    }
    holds!(known.len() == clusters.len(), "of {} clusters {} are in the snapshot", clusters.len(), known.len());
    Ok(())
}

pub(super) async fn each_change_is_told_once(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, _] = fixture.clusters();
    let mut follower = Follower::new(fixture).await?;
    for cluster in [&c1, &c2] {
        fixture.put(cluster, labels("one")).await;
        let change = follower.change().await?;
        let right = matches!(&change, ClusterChange::Joined(it) if it.id == *cluster && it.labels == labels("one"));
        holds!(right, "{cluster} was added, told is {change:?}");
    }
    for env in ["two", "three"] {
        fixture.put(&c1, labels(env)).await;
        let change = follower.change().await?;
        let right = matches!(&change, ClusterChange::Relabelled(it) if it.id == c1 && it.labels == labels(env));
        holds!(right, "{c1} was given the label {env}, told is {change:?}");
    }
    fixture.remove(&c1).await;
    let change = follower.change().await?;
    holds!(change == ClusterChange::Left(c1.clone()), "{c1} was removed, told is {change:?}");
    fixture.put(&c1, labels("four")).await;
    let change = follower.change().await?;
    let right = matches!(&change, ClusterChange::Joined(it) if it.id == c1 && it.labels == labels("four"));
    holds!(right, "{c1} was added again, told is {change:?}");
    let more = follower.told_for(QUIET).await?;
    holds!(more.is_empty(), "nothing happened, told is {more:?}");
    Ok(())
}

pub(super) async fn an_unreached_cluster_does_not_leave(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    fixture.put(&c1, labels("production")).await;
    fixture.reach(true).await?;
    let mut follower = Follower::new(fixture).await?;
    let is = |ready: bool| {
        let c1 = c1.clone();
        move |known: &BTreeMap<ClusterId, Arc<Cluster>>| known.get(&c1).is_some_and(|it| it.ready == ready)
    };
    follower.until("that a cluster is reached", is(true)).await?;
    fixture.reach(false).await?;
    let change = follower.until("that a cluster cannot be reached", |known| {
        known.get(&c1).is_none_or(|it| !it.ready)
    });
    change.await?;
    holds!(follower.known.contains_key(&c1), "a cluster that cannot be reached left");
    let again = Follower::new(fixture).await?.known;
    let found = again.get(&c1).or_broken("a cluster that cannot be reached is not in the snapshot")?;
    holds!(!found.ready, "a cluster that cannot be reached is ready in the snapshot");
    fixture.reach(true).await?;
    follower.until("that a cluster is reached again", is(true)).await
}

pub(super) async fn a_failure_is_no_departure(fixture: &impl Fixture) -> Verdict {
    let clusters = fixture.clusters();
    let mut follower = Follower::new(fixture).await?;
    for cluster in &clusters {
        fixture.put(cluster, labels("production")).await;
    }
    follower.until("a cluster in the inventory", |known| known.len() == clusters.len()).await?;
    fixture.fail().await?;
    let told = follower.told_for(QUIET).await?;
    holds!(told.is_empty(), "the inventory failed, told is {told:?}");
    fixture.mend().await;
    let told = follower.told_for(QUIET).await?;
    holds!(told.is_empty(), "the inventory is whole again as it was, told is {told:?}");
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
    let [c1, c2, _] = fixture.clusters();
    fixture.put(&c1, labels("production")).await;
    let selector = fixture.selector();
    drop(selector.subscribe().now_or_never());
    drop(Follower::new(fixture).await?);
    fixture.put(&c2, labels("production")).await;
    let mut follower = Follower::new(fixture).await?;
    follower.until("a cluster in the inventory", |known| known.len() == 2).await
}

pub(super) async fn withdrawals_are_taken_without_blocking(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    fixture.put(&c1, labels("production")).await;
    let mut follower = Follower::new(fixture).await?;
    follower.until("a cluster in the inventory", |known| known.contains_key(&c1)).await?;
    fixture.remove(&c1).await;
    follower.until("that a cluster left", |known| !known.contains_key(&c1)).await?;
    let selector: Arc<dyn ClusterSelector> = fixture.selector();
    let (done, told) = tokio::sync::oneshot::channel();
    // On a thread of its own, which is left behind if it never ends.
    std::thread::spawn(move || {
        for _ in 0..3 {
            selector.withdrawn(&c1);
        }
        let _ = done.send(());
    });
    let told = tokio::time::timeout(fixture.patience(), told).await;
    told.or_broken("telling that a cluster is withdrawn blocks")?.or_broken("telling that it is withdrawn panicked")
}
