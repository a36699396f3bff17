//! Keeping the index of one cluster in step with the records.

use std::sync::Arc;

use tokio::time::Instant;

use super::sights::is_older;
use super::{Effects, Held, InCluster, Key, KindKey, OfKind, OfWork, Turn};
use crate::apply::{InventoryItem, Owner};
use crate::health::{self, Health};
use crate::observe::Depth;
use crate::work::{AppliedState, AppliedWork, WorkId};

impl InCluster {
    pub(super) fn by_mark(&self, mark: &str) -> Option<&WorkId> {
        self.marks.get(&WorkId::number_of_mark(mark)?).filter(|id| id.hash() == mark)
    }

    pub(super) fn take_in(
        &mut self,
        record: &AppliedWork,
        trigger: &Arc<str>,
        at: Option<Instant>,
    ) -> (Effects, Turn) {
        let mut effects = Effects::default();
        let id = &record.work;
        let known = self.works.remove(id);
        let was = known.as_ref().map(|known| known.ready);
        let mut of_work = known.unwrap_or_else(|| {
            self.marks.insert(id.number(), id.clone());
            OfWork {
                trigger: Arc::clone(trigger),
                local: record.local.clone().map(Arc::new),
                objects: Vec::new(),
                blocked: Vec::new(),
                ready: false,
                news: false,
                orphans: Vec::new(),
            }
        });
        let keeps = |key: &Key| record.inventory.iter().any(|item| item.object.same_object(&key.0));
        for key in of_work.objects.iter().filter(|key| !keeps(key)) {
            self.let_go(key, id);
        }
        for item in &record.inventory {
            self.hold(item, id, at, &mut effects);
        }
        let blocked: Vec<Key> = record
            .blocked
            .iter()
            .filter(|blocked| matches!(blocked.owner, Owner::Work(_)))
            .map(|blocked| Key(blocked.object.clone()))
            .collect();
        for key in of_work.blocked.iter().filter(|key| !blocked.contains(key)) {
            self.want_no_more(key, id);
        }
        of_work.blocked = blocked;
        for key in &of_work.blocked {
            self.wanted.entry(key.clone()).or_default().insert(id.clone());
        }
        of_work.objects = record.inventory.iter().map(|item| Key(item.object.clone())).collect();
        self.works.insert(id.clone(), of_work);
        let ready = record.state == AppliedState::Applied && self.health(id) == Some(Health::Ready);
        if let Some(of_work) = self.works.get_mut(id) {
            of_work.ready = ready;
            of_work.news = false;
        }
        (effects, Turn { was, is: Some(ready) })
    }

    /// Counts what became of a Work of a trigger that is for this cluster.
    pub(super) fn count(&mut self, trigger: &Arc<str>, turn: Turn, effects: &mut Effects) {
        let tally = self.triggers.entry(Arc::clone(trigger)).or_default();
        let before = *tally;
        let count =
            |number: usize, was: bool, is: bool| (number + usize::from(is)).saturating_sub(usize::from(was));
        tally.works = count(tally.works, turn.was.is_some(), turn.is.is_some());
        tally.ready = count(tally.ready, turn.was == Some(true), turn.is == Some(true));
        effects.turned = (before.is_ready() != tally.is_ready()).then_some(tally.is_ready());
        if tally.works == 0 {
            effects.last_of_trigger = before.works > 0;
            self.triggers.remove(trigger);
        }
    }

    fn hold(&mut self, item: &InventoryItem, work: &WorkId, at: Option<Instant>, effects: &mut Effects) {
        let key = Key(item.object.clone());
        if let Some(held) = self.objects.get_mut(&key) {
            if held.work != *work {
                // What is only planned takes nothing from anybody who has it.
                if item.uid.is_none() {
                    return;
                }
                effects.concerned.push(std::mem::replace(&mut held.work, work.clone()));
                self.handed.remove(&key);
            }
            held.take_in(item, at);
            return;
        }
        let of_kind = self.kinds.entry(KindKey::of(&item.object.gvk)).or_insert_with(|| {
            effects.kinds.push(item.object.gvk.clone());
            OfKind { gvk: item.object.gvk.clone(), objects: 0 }
        });
        of_kind.objects += 1;
        let held = Held {
            work: work.clone(),
            uid: item.uid.clone(),
            print: item.print.clone(),
            version: item.version.clone(),
            at,
            health: None,
            sight: None,
            contest: None,
        };
        self.objects.insert(key, held);
    }

    fn let_go(&mut self, key: &Key, work: &WorkId) {
        if self.objects.get(key).is_none_or(|held| held.work != *work) {
            return;
        }
        self.objects.remove(key);
        self.handed.remove(key);
        let kind = KindKey::of(&key.0.gvk);
        if let Some(of_kind) = self.kinds.get_mut(&kind) {
            of_kind.objects = of_kind.objects.saturating_sub(1);
            if of_kind.objects == 0 {
                self.kinds.remove(&kind);
            }
        }
    }

    fn want_no_more(&mut self, key: &Key, work: &WorkId) {
        if let Some(waiting) = self.wanted.get_mut(key) {
            waiting.remove(work);
            if waiting.is_empty() {
                self.wanted.remove(key);
            }
        }
        if self.handed.get(key) == Some(work) {
            self.handed.remove(key);
        }
    }

    pub(super) fn forget(&mut self, work: &WorkId) -> Option<(Effects, OfWork)> {
        let old = self.works.remove(work)?;
        self.marks.remove(&work.number());
        let mut effects = Effects::default();
        for key in &old.objects {
            if self.objects.get(key).is_some_and(|held| held.work == *work) {
                effects.concerned.extend(self.wanted.get(key).into_iter().flatten().cloned());
            }
            self.let_go(key, work);
        }
        for key in &old.blocked {
            self.want_no_more(key, work);
        }
        Some((effects, old))
    }

    /// The worst health of a Work's objects; `None` if one of them was not seen yet and none is unwell.
    pub(super) fn health(&self, work: &WorkId) -> Option<Health> {
        let mut all_seen = true;
        let mut worst = Health::Ready;
        for key in &self.works.get(work)?.objects {
            let Some(held) = self.objects.get(key).filter(|held| held.work == *work) else { continue };
            match &held.health {
                Some((_, health)) if *health > worst => worst = named(health, key),
                Some(_) => {}
                // It needs no status: it is there.
                None if held.uid.is_some() && health::depth(&key.0.gvk) == Depth::Metadata => {}
                None => all_seen = false,
            }
        }
        (all_seen || worst != Health::Ready).then_some(worst)
    }
}

/// The health of one object, as that of its Work.
fn named(health: &Health, key: &Key) -> Health {
    let name = |message: &str| format!("{}: {message}", key.0);
    match health {
        Health::Ready => Health::Ready,
        Health::Progressing { message } => Health::Progressing { message: name(message) },
        Health::Failed { message } => Health::Failed { message: name(message) },
    }
}

impl Held {
    fn take_in(&mut self, item: &InventoryItem, at: Option<Instant>) {
        if self.uid != item.uid || self.print != item.print || self.version != item.version {
            self.uid.clone_from(&item.uid);
            self.print.clone_from(&item.print);
            self.version.clone_from(&item.version);
            self.at = at;
            let is_before = |version: &Option<Arc<str>>| {
                *version != item.version && !is_older(item.version.as_ref(), version.as_ref())
            };
            if self.health.as_ref().is_some_and(|(version, _)| is_before(version)) {
                // It was like that before; what it is like now is seen next.
                self.health = None;
            }
        }
        if self.sight.as_ref().is_some_and(|sight| sight.is_explained_by(item)) {
            self.sight = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::cluster::ClusterId;
    use crate::engine::holdings::Holdings;
    use crate::manifest::Manifest;
    use crate::observe::{Owned, Seen};
    use crate::work::EventKey;

    /// A controller may be faster than the answer to the call that made the object.
    #[test]
    fn what_is_seen_before_the_answer_counts_if_it_came_after_the_write() {
        let cluster = ClusterId::new("fleet", "c1").unwrap();
        let work = WorkId::new("names", &EventKey::All);
        let object = json!({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "a"}});
        let object = Manifest::new(object).unwrap().id().clone();
        for (seen, expected) in [("5", Some(Health::Ready)), ("3", None)] {
            let holdings = Holdings::default();
            let take_in = |item: InventoryItem| {
                let record = AppliedWork {
                    work: work.clone(),
                    cluster: cluster.clone(),
                    local: None,
                    generation: 1,
                    digest: None,
                    inventory: vec![item],
                    state: AppliedState::Applied,
                    health: None,
                    blocked: Vec::new(),
                    updated: Timestamp::UNIX_EPOCH,
                };
                let _ = holdings.take_in(&record, &"names".into());
            };
            take_in(InventoryItem::planned(object.clone()));
            let seen = Seen {
                object: object.clone(),
                mark: work.hash().into(),
                uid: "u".into(),
                version: Some(seen.into()),
                going: false,
                written_by_us: true,
                owned: Owned(Arc::new(json!({}))),
                other: None,
                whole: None,
            };
            holdings.see(&cluster, &seen, |_| ("print".into(), Health::Ready));
            take_in(InventoryItem {
                uid: Some("u".into()),
                print: Some("print".into()),
                version: Some("4".into()),
                ..InventoryItem::planned(object.clone())
            });
            assert_eq!(holdings.health(&work, &cluster), expected);
            assert!(!holdings.has_sights(&work, &cluster));
        }
    }
}
