//! Follows a feed as the engine does, with a deadline for everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::Fixture;
use crate::cluster::{Cluster, ClusterChange, ClusterFeed, ClusterId, ClusterSelector, Labels};
use crate::testing::conformance::{Finding, OrBroken, holds};

/// After something was not told for that long, it is taken not to be told.
pub(super) const QUIET: Duration = Duration::from_millis(500);

const ENV: &str = "env";

pub(super) fn labels(env: &str) -> Labels {
    Labels::from([(ENV.to_owned(), env.to_owned())])
}

/// The label that the suite gave, whatever others a source adds.
pub(super) fn env(cluster: &Cluster) -> Option<&str> {
    cluster.labels.get(ENV).map(String::as_str)
}

pub(super) type Known = BTreeMap<ClusterId, Arc<Cluster>>;

fn by_id(clusters: &[Arc<Cluster>]) -> Result<Known, Finding> {
    let known: Known = clusters.iter().map(|it| (it.id.clone(), Arc::clone(it))).collect();
    holds!(known.len() == clusters.len(), "a snapshot has a cluster twice: {clusters:?}");
    Ok(known)
}

/// A feed, and what is known by it.
pub(super) struct Follower {
    feed: ClusterFeed,
    pub(super) known: Known,
    pub(super) elsewhere: Known,
    patience: Duration,
}

impl Follower {
    pub(super) async fn new(fixture: &impl Fixture) -> Result<Self, Finding> {
        Self::of(fixture, &*fixture.selector().await).await
    }

    pub(super) async fn of(fixture: &impl Fixture, selector: &dyn ClusterSelector) -> Result<Self, Finding> {
        let feed = tokio::time::timeout(fixture.patience(), selector.subscribe()).await;
        let feed =
            feed.or_broken("a feed was not opened in time")?.or_broken("a feed could not be opened")?;
        let (known, elsewhere) = (by_id(&feed.snapshot)?, by_id(&feed.elsewhere)?);
        Ok(Self { feed, known, elsewhere, patience: fixture.patience() })
    }

    /// The next change of which clusters there are and of the label that the suite gives; readiness and what a source
    /// knows of a cluster by itself come when they come.
    pub(super) async fn change(&mut self) -> Result<ClusterChange, Finding> {
        let patience = self.patience;
        let next = async {
            loop {
                if let Some(change) = self.next().await? {
                    return Ok(change);
                }
            }
        };
        tokio::time::timeout(patience, next).await.or_broken("a change was not told in time")?
    }

    /// Reads one change; `None` if the suite did not make it.
    async fn next(&mut self) -> Result<Option<ClusterChange>, Finding> {
        let change = self.feed.changes.next().await.or_broken("the feed ended")?;
        let before = self.note(&change)?;
        let asked_for = match &change {
            ClusterChange::Ready(_) | ClusterChange::Unready(_) => false,
            ClusterChange::Relabelled(now) | ClusterChange::Elsewhere(now) => {
                before.is_none_or(|before| env(&before) != env(now))
            }
            _ => true,
        };
        Ok(asked_for.then_some(change))
    }

    /// Takes note of a change; what was known of its cluster before.
    fn note(&mut self, change: &ClusterChange) -> Result<Option<Arc<Cluster>>, Finding> {
        let of = |known: &Known, id: &ClusterId| {
            known.get(id).cloned().or_broken(&format!("told is {change:?}, of a cluster that is not there"))
        };
        match change {
            ClusterChange::Joined(now) => {
                let before = self.known.insert(now.id.clone(), Arc::clone(now));
                holds!(before.is_none(), "{} joined, and was there already", now.id);
                Ok(None)
            }
            ClusterChange::Relabelled(now) => {
                let before = of(&self.known, &now.id)?;
                let same = (&before.labels, &before.annotations, before.role)
                    == (&now.labels, &now.annotations, now.role);
                holds!(!same, "{} was relabelled, and nothing of it changed: {:?}", now.id, now.labels);
                self.known.insert(now.id.clone(), Arc::clone(now));
                Ok(Some(before))
            }
            ClusterChange::Ready(id) | ClusterChange::Unready(id) => {
                let before = of(&self.known, id)?;
                let ready = matches!(change, ClusterChange::Ready(_));
                self.known.insert(id.clone(), Arc::new(Cluster { ready, ..(*before).clone() }));
                Ok(Some(before))
            }
            ClusterChange::Left(id) => {
                let before = of(&self.known, id)?;
                self.known.remove(id);
                Ok(Some(before))
            }
            ClusterChange::Elsewhere(now) => Ok(self.elsewhere.insert(now.id.clone(), Arc::clone(now))),
            ClusterChange::NotElsewhere(id) => {
                let before = of(&self.elsewhere, id)?;
                self.elsewhere.remove(id);
                Ok(Some(before))
            }
        }
    }

    /// Follows what is told until what is known is as it should be.
    pub(super) async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) -> Result<(), Finding> {
        let patience = self.patience;
        let reached = async {
            while !is(self) {
                self.next().await?;
            }
            Ok(())
        };
        let reached = tokio::time::timeout(patience, reached).await;
        reached.or_broken(&format!("{what} was not told in time"))?
    }

    /// Until as many clusters are known as that.
    pub(super) async fn until_there(&mut self, count: usize) -> Result<(), Finding> {
        self.until(&format!("that {count} clusters are in the inventory"), |it| it.known.len() == count).await
    }

    /// What is told in a while.
    pub(super) async fn told_for(&mut self, time: Duration) -> Result<Vec<ClusterChange>, Finding> {
        let deadline = tokio::time::Instant::now() + time;
        let mut told = Vec::new();
        while let Ok(change) = tokio::time::timeout_at(deadline, self.next()).await {
            told.extend(change?);
        }
        Ok(told)
    }
}
