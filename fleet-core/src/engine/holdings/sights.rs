//! What is seen in clusters, against what is expected there.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::{Held, Holdings, InCluster, Key, KindKey};
use crate::apply::InventoryItem;
use crate::cluster::ClusterId;
use crate::health::{self, Health};
use crate::manifest::ObjectRef;
use crate::observe::{Depth, Owned, Seen};
use crate::work::WorkId;

/// So many objects with a mark that nobody knows are named for a cluster.
const MOST_STRAYS: usize = 1000;
/// So many objects that a Work does not know of are taken in at a time.
const MOST_ORPHANS: usize = 64;

/// Something that is not as expected.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Sight {
    /// It is not there, or does not carry the mark any more.
    Gone {
        /// The UID of what is gone.
        uid: Option<Arc<str>>,
    },
    /// It is another object, or somebody changed something that may be ours.
    Changed(Box<Changed>),
}

/// An object as it was seen.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Changed {
    pub(in crate::engine) uid: Arc<str>,
    pub(in crate::engine) mark: Arc<str>,
    pub(in crate::engine) print: Arc<str>,
    pub(in crate::engine) version: Option<Arc<str>>,
    pub(in crate::engine) owned: Owned,
    pub(in crate::engine) going: bool,
    pub(in crate::engine) other: Option<Arc<str>>,
}

impl Sight {
    /// Whether what was written is what was seen, or came after it.
    pub(super) fn is_explained_by(&self, item: &InventoryItem) -> bool {
        match self {
            Self::Gone { uid } => *uid != item.uid,
            Self::Changed(changed) => {
                let is_same = item.uid.as_ref() == Some(&changed.uid)
                    && item.print.as_ref() == Some(&changed.print)
                    && !changed.going;
                is_same || is_older(changed.version.as_ref(), item.version.as_ref())
            }
        }
    }
}

/// Whether the first version is known to be older.
pub(super) fn is_older(version: Option<&Arc<str>>, than: Option<&Arc<str>>) -> bool {
    let number = |version: Option<&Arc<str>>| version?.parse::<u64>().ok();
    matches!((number(version), number(than)), (Some(version), Some(than)) if version < than)
}

/// Objects that carry a mark without being known.
#[derive(Debug, Default)]
pub(super) struct Strays(BTreeMap<ObjectRef, Arc<str>>);

/// An object that carries a mark and is not known to belong to any Work: somebody's copy, another installation's, or
/// what a request left that took effect long after it was given up. It is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Where it is.
    pub cluster: ClusterId,
    /// Which object.
    pub object: ObjectRef,
    /// The hash in its mark.
    pub mark: Arc<str>,
}

/// What a sight came to.
#[derive(Debug, PartialEq)]
pub(in crate::engine) enum Met {
    /// It is as expected.
    Expected,
    /// Somebody has to look.
    Look(WorkId),
    /// Nobody knows it.
    Stray {
        /// Whether it is seen for the first time.
        is_new: bool,
    },
}

impl Holdings {
    /// Takes in what was seen of an object. `judge` gives print and health, by the trigger of the Work that has it.
    pub(in crate::engine) fn see(
        &self,
        cluster: &ClusterId,
        seen: &Seen,
        judge: impl FnOnce(&str) -> (Arc<str>, Health),
    ) -> Met {
        self.cluster(cluster).lock().see(seen, judge)
    }

    /// An object is not there any more.
    pub(in crate::engine) fn see_gone(
        &self,
        cluster: &ClusterId,
        object: &ObjectRef,
        uid: Option<&Arc<str>>,
    ) -> Met {
        self.cluster(cluster).lock().see_gone(object, uid)
    }

    /// A list of a kind that began then, or is as of a version, is complete: what was not in it is gone. Returns the Works
    /// that have to look.
    pub(in crate::engine) fn listed(
        &self,
        cluster: &ClusterId,
        kind: &KindKey,
        told: &HashSet<Key>,
        (began, version): (Instant, Option<&Arc<str>>),
    ) -> Vec<WorkId> {
        let found = self.cluster(cluster);
        let mut found = found.lock();
        found.strays.0.retain(|object, _| !kind.covers(object) || told.contains(&Key(object.clone())));
        // What was written since is told next.
        let is_newer = |held: &Held| match version {
            Some(_) => is_older(version, held.version.as_ref()),
            None => held.at.is_some_and(|at| at >= began),
        };
        let missing: Vec<ObjectRef> = found
            .objects
            .iter()
            .filter(|(key, held)| {
                kind.covers(&key.0) && held.uid.is_some() && !is_newer(held) && !told.contains(key)
            })
            .map(|(key, _)| key.0.clone())
            .collect();
        let look = |object: ObjectRef| match found.see_gone(&object, None) {
            Met::Look(work) => Some(work),
            Met::Expected | Met::Stray { .. } => None,
        };
        missing.into_iter().filter_map(look).collect()
    }

    /// Takes out what was seen of a Work's objects and is not as expected.
    pub(in crate::engine) fn take_sights(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Vec<(ObjectRef, Sight)> {
        let Some(found) = self.find(cluster) else { return Vec::new() };
        let mut found = found.lock();
        let InCluster { works, objects, .. } = &mut *found;
        let Some(of_work) = works.get_mut(work) else { return Vec::new() };
        of_work.news = false;
        let sight = |key: &Key| {
            let held = objects.get_mut(key).filter(|held| held.work == *work)?;
            Some((key.0.clone(), held.sight.take()?))
        };
        of_work.objects.iter().filter_map(sight).collect()
    }

    /// Puts back what was taken out and not dealt with.
    pub(in crate::engine) fn put_back(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        sights: Vec<(ObjectRef, Sight)>,
    ) {
        let Some(found) = self.find(cluster).filter(|_| !sights.is_empty()) else { return };
        let mut found = found.lock();
        for (object, sight) in sights {
            if let Some(held) = found.objects.get_mut(&Key(object)).filter(|held| held.work == *work) {
                held.sight.get_or_insert(sight);
            }
        }
    }

    /// Takes out objects with a Work's mark, and their UIDs, that it does not know of.
    pub(in crate::engine) fn take_orphans(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Vec<(ObjectRef, Arc<str>)> {
        let Some(found) = self.find(cluster) else { return Vec::new() };
        let mut found = found.lock();
        found.works.get_mut(work).map(|of_work| std::mem::take(&mut of_work.orphans)).unwrap_or_default()
    }

    /// Whether something of a Work was seen that is not as expected, or that its record does not say yet.
    pub(in crate::engine) fn has_sights(&self, work: &WorkId, cluster: &ClusterId) -> bool {
        let Some(found) = self.find(cluster) else { return false };
        let found = found.lock();
        found.works.get(work).is_some_and(|of_work| {
            let has_sight =
                |key| found.objects.get(key).is_some_and(|held| held.work == *work && held.sight.is_some());
            of_work.news || !of_work.orphans.is_empty() || of_work.objects.iter().any(has_sight)
        })
    }

    /// Objects that carry a mark without being known, over all clusters.
    pub(in crate::engine) fn strays(&self) -> Vec<Stray> {
        let mut strays = Vec::new();
        for (id, cluster) in &*self.clusters.read() {
            let stray = |(object, mark): (&ObjectRef, &Arc<str>)| Stray {
                cluster: id.clone(),
                object: object.clone(),
                mark: Arc::clone(mark),
            };
            strays.extend(cluster.lock().strays.0.iter().map(stray));
        }
        strays
    }

    /// A stray turned out to belong to somebody.
    pub(in crate::engine) fn is_no_stray(&self, stray: &Stray) {
        if let Some(found) = self.find(&stray.cluster) {
            found.lock().strays.0.remove(&stray.object);
        }
    }
}

impl InCluster {
    fn see(&mut self, seen: &Seen, judge: impl FnOnce(&str) -> (Arc<str>, Health)) -> Met {
        let Some(held) = self.objects.get_mut(&Key(seen.object.clone())) else {
            return self.see_unknown(seen);
        };
        self.strays.0.remove(&seen.object);
        let Some(of_work) = self.works.get_mut(&held.work) else { return Met::Expected };
        if is_older(seen.version.as_ref(), held.version.as_ref()) {
            return Met::Expected;
        }
        let work = held.work.clone();
        let (print, health) = judge(&of_work.trigger);
        let health = if seen.going {
            Health::Progressing { message: "it is being deleted".to_owned() }
        } else {
            health
        };
        let was = held.health.replace((seen.version.clone(), health.clone()));
        let is_expected = held.uid.as_ref() == Some(&seen.uid)
            && held.print.as_ref() == Some(&print)
            && *seen.mark == *work.hash()
            && !seen.going;
        if is_expected {
            held.sight = None;
            let is_news = match was {
                Some((_, was)) => was != health,
                // What needs no status counts as healthy before it is seen.
                None => health != Health::Ready || health::depth(&seen.object.gvk) == Depth::Whole,
            };
            of_work.news |= is_news;
            return if is_news { Met::Look(work) } else { Met::Expected };
        }
        held.sight = Some(Sight::Changed(Box::new(Changed {
            uid: Arc::clone(&seen.uid),
            mark: Arc::clone(&seen.mark),
            print,
            version: seen.version.clone(),
            owned: seen.owned.clone(),
            going: seen.going,
            other: seen.other.clone(),
        })));
        Met::Look(work)
    }

    /// An object with a mark that is in no inventory: what we wrote and lost sight of is its Work's to take away; what
    /// somebody else wrote is a copy, and stays.
    fn see_unknown(&mut self, seen: &Seen) -> Met {
        if seen.going {
            self.strays.0.remove(&seen.object);
            return Met::Expected;
        }
        if seen.written_by_us
            && let Some(id) = self.by_mark(&seen.mark).cloned()
        {
            if let Some(of_work) = self.works.get_mut(&id)
                && of_work.orphans.len() < MOST_ORPHANS
            {
                of_work.orphans.push((seen.object.clone(), Arc::clone(&seen.uid)));
            }
            return Met::Look(id);
        }
        if self.strays.0.len() >= MOST_STRAYS && !self.strays.0.contains_key(&seen.object) {
            return Met::Stray { is_new: false };
        }
        let was = self.strays.0.insert(seen.object.clone(), Arc::clone(&seen.mark));
        Met::Stray { is_new: was.is_none() }
    }

    fn see_gone(&mut self, object: &ObjectRef, uid: Option<&Arc<str>>) -> Met {
        self.strays.0.remove(object);
        let Some(held) = self.objects.get_mut(&Key(object.clone())) else { return Met::Expected };
        // Another object of that name, or one that is not there yet as far as we know.
        if held.uid.is_none() || (uid.is_some() && uid != held.uid.as_ref()) {
            return Met::Expected;
        }
        held.health = Some((None, Health::Failed { message: "it was deleted".to_owned() }));
        held.sight = Some(Sight::Gone { uid: held.uid.clone() });
        Met::Look(held.work.clone())
    }
}
