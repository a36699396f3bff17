//! How far a rollout is: which rendering each Work has in each cluster, and which clusters were begun.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::ClusterId;
use crate::engine::conditions::RollingOut;
use crate::health::Health;
use crate::policy::MaxUpdate;
use crate::work::{AppliedState, AppliedWork, WorkId};

/// What nobody saw for so long after it was applied is not watched there, and counts as healthy.
const UNSEEN: Duration = Duration::from_secs(60);

/// How a Work stands in a cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// It does not belong there, or nothing of it was ever there: a rollout is not about it.
    Apart,
    /// It has another rendering, in full.
    Old,
    /// It is on its way to the rendering that it should have, or that is not healthy yet.
    Changing,
    /// It has the rendering, and was not seen since.
    Unseen(Instant),
    /// It has the rendering, and is well.
    Done,
    /// It cannot get the rendering, or is not well with it.
    Failed(String),
}

impl Standing {
    /// How a Work stands by its record, that should have this rendering (`None`: it cannot be rendered).
    pub(super) fn of(record: &AppliedWork, wanted: Option<&str>, generation: u64) -> Self {
        let was_there = record.inventory.iter().any(|item| item.uid.is_some());
        let is_wanted = wanted.is_some() && record.digest.as_deref() == wanted;
        match (&record.state, &record.digest) {
            // An event goes ahead.
            _ if record.generation != generation => {
                if was_there {
                    Self::Changing
                } else {
                    Self::Apart
                }
            }
            (_, Some(_)) if !is_wanted => Self::Old,
            (_, None) if !was_there => Self::Apart,
            (AppliedState::Stalled { reason, message }, _) => Self::Failed(format!("{reason}: {message}")),
            (AppliedState::Applied, Some(_)) => match &record.health {
                Some(Health::Ready) => Self::Done,
                Some(Health::Progressing { .. }) => Self::Changing,
                Some(Health::Failed { message }) => Self::Failed(format!("Failed: {message}")),
                None => Self::Unseen(Instant::now()),
            },
            _ => Self::Changing,
        }
    }
}

/// All Works of a trigger, by cluster.
#[derive(Debug, Default)]
pub(super) struct Table {
    clusters: BTreeMap<ClusterId, HashMap<WorkId, Standing>>,
    begun: BTreeSet<ClusterId>,
    /// Whether all Works were looked through: before that nothing is begun.
    pub(super) surveyed: bool,
}

/// What a look at the table came to.
#[derive(Debug)]
pub(super) struct Progress {
    /// Clusters that are begun now.
    pub(super) begun: Vec<ClusterId>,
    /// `None`: it is over.
    pub(super) condition: Option<RollingOut>,
}

/// The Works of one cluster together.
#[derive(Debug, Default)]
struct Tally {
    concerned: bool,
    old: bool,
    changing: bool,
    /// Some have the rendering already, or are on their way.
    mixed: bool,
    failed: Option<String>,
}

impl Table {
    pub(super) fn is_begun(&self, cluster: &ClusterId) -> bool {
        self.begun.contains(cluster)
    }

    /// Takes in how a Work stands now.
    pub(super) fn note(&mut self, cluster: &ClusterId, work: &WorkId, standing: Standing) {
        let works = self.clusters.entry(cluster.clone()).or_default();
        let is_underway = matches!(standing, Standing::Changing | Standing::Unseen(_));
        match (works.get_mut(work), standing) {
            // Since it was applied, not since it was last looked at.
            (Some(Standing::Unseen(_)), Standing::Unseen(_)) => {}
            // What an event asks for is no reason to wait, only to stop.
            (Some(Standing::Apart | Standing::Done), _) if is_underway => {}
            (None, _) if is_underway && self.surveyed => {}
            (Some(known), standing) => *known = standing,
            (None, standing) => _ = works.insert(work.clone(), standing),
        }
    }

    /// Takes in how a Work stood when it was read, unless more is known.
    pub(super) fn read(&mut self, cluster: &ClusterId, work: &WorkId, standing: Standing) {
        self.clusters.entry(cluster.clone()).or_default().entry(work.clone()).or_insert(standing);
    }

    /// A Work is not in a cluster any more. That is kept, as it may be read later as it was before.
    pub(super) fn forget(&mut self, cluster: &ClusterId, work: &WorkId) {
        self.note(cluster, work, Standing::Apart);
    }

    /// A cluster is not there any more.
    pub(super) fn leave(&mut self, cluster: &ClusterId) {
        self.begun.remove(cluster);
        if let Some(works) = self.clusters.get_mut(cluster) {
            works.values_mut().for_each(|standing| *standing = Standing::Apart);
        }
    }

    /// Begins further clusters, as far as that may be.
    pub(super) fn advance(&mut self, max: MaxUpdate, is_ready: impl Fn(&ClusterId) -> bool) -> Progress {
        let tallies: BTreeMap<&ClusterId, Tally> = self
            .clusters
            .iter()
            .map(|(cluster, works)| (cluster, Tally::of(works.values())))
            .filter(|(_, tally)| tally.concerned)
            .collect();
        self.begun.retain(|cluster| tallies.get(cluster).is_some_and(Tally::is_open));
        // After a restart: all of it was on its way.
        let is_underway = |tally: &Tally| !tally.old && tally.is_open();
        let underway = tallies.iter().filter(|(_, tally)| is_underway(tally));
        self.begun.extend(underway.map(|(cluster, _)| (*cluster).clone()));
        let most = max.of(tallies.len());
        let mut waiting: Vec<_> =
            tallies.iter().filter(|(cluster, tally)| tally.old && !self.begun.contains(**cluster)).collect();
        // What was begun before a restart goes on first; and what has failed there stops it at once.
        waiting.sort_by_key(|(_, tally)| (tally.failed.is_none(), !tally.mixed));
        let mut next = waiting.into_iter().map(|(cluster, _)| *cluster).filter(|cluster| is_ready(cluster));
        let mut begun = Vec::new();
        let failure = loop {
            // Where all is old, nothing says that the new rendering is to blame.
            let counts = |cluster: &ClusterId, tally: &Tally| !tally.old || self.begun.contains(cluster);
            let failed = tallies.iter().filter(|(cluster, tally)| counts(cluster, tally));
            let mut failed =
                failed.filter_map(|(cluster, tally)| Some(((*cluster).clone(), tally.failed.clone()?)));
            match failed.next() {
                None if self.begun.len() < most => {}
                failure => break failure,
            }
            let Some(cluster) = next.next() else { break None };
            self.begun.insert(cluster.clone());
            begun.push(cluster.clone());
        };
        let is_done =
            |(cluster, tally): &(&&ClusterId, &Tally)| !tally.old && !self.begun.contains(**cluster);
        let (done, total) = (tallies.iter().filter(is_done).count(), tallies.len());
        let condition = (done < total).then_some(RollingOut { done, total, failure });
        Progress { begun, condition }
    }
}

impl Tally {
    fn is_open(&self) -> bool {
        self.old || self.changing || self.failed.is_some()
    }

    fn of<'a>(works: impl Iterator<Item = &'a Standing>) -> Self {
        let mut tally = Self::default();
        for standing in works {
            tally.concerned |= *standing != Standing::Apart;
            match standing {
                Standing::Apart => {}
                Standing::Old => tally.old = true,
                Standing::Changing => (tally.changing, tally.mixed) = (true, true),
                Standing::Unseen(since) => {
                    tally.changing |= since.elapsed() < UNSEEN;
                    tally.mixed = true;
                }
                Standing::Done => tally.mixed = true,
                Standing::Failed(why) => {
                    if tally.failed.as_ref().is_none_or(|known| why < known) {
                        tally.failed = Some(why.clone());
                    }
                }
            }
        }
        tally
    }
}
