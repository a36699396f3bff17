//! Appliers that each break one rule, and what the suite says of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Change, Claim, Mode, Outcome, RemoveRequest};
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::manifest::{Gvk, MARK, Manifest, ObjectRef};
use fleet_core::memory::MemoryApplier;
use fleet_core::observe::{Depth, Observation};
use fleet_core::testing::conformance::{NotChecked, applier};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::appliers::Memory;
use crate::{assert_each_can_fail, assert_found, found};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    ForgetsMarks,
    TakesOver,
    ForgetsTheInventory,
    TakesFromWorks,
    IgnoresClaims,
    AdoptsFromWorks,
    ForgetsThatItAdopted,
    DeletesAdopted,
    DeletesWhatOthersLiveIn,
    LeavesObjects,
    DeletesByName,
    KeepsFields,
    WritesExcluded,
    WritesAgain,
    KeepsTheOrderGiven,
    WritesInPreviews,
    SaysGoneInPreviews,
    WritesToWhatIsBeingDeleted,
    TakesSilenceForRefusal,
    TakesSilenceForNoEffect,
    TurnsOutcomes,
    StopsAtFailures,
    GoesOnAfterConflicts,
    ForgetsTime,
    ListsOnlySome,
    ListsOneWorkOnly,
    IsDeaf,
    MissesDeletions,
    ForgetsWhatItMissed,
    EndsWhenBrokenOff,
    WatchesForNothing,
}

/// An Applier in memory which can be out of reach, refuses some objects and knows what needs another one, with a fault.
struct Wrapped {
    inner: Arc<MemoryApplier>,
    fault: Fault,
    reach: watch::Receiver<bool>,
    going: Arc<Mutex<HashSet<ObjectRef>>>,
}

fn waiting(reason: &str) -> Outcome {
    Outcome::Waiting { reason: reason.to_owned() }
}

impl Wrapped {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Waits for an answer, if there is to be none.
    async fn silence(&self, deadline: Duration) -> bool {
        if *self.reach.borrow() {
            return false;
        }
        let patience = if self.is(Fault::ForgetsTime) { Duration::from_secs(60) } else { deadline };
        tokio::time::sleep(patience).await;
        true
    }

    fn edit(&self, cluster: &ClusterId, id: &ObjectRef, edit: impl FnOnce(&mut Value)) {
        self.inner.edit(cluster, id, |fields| {
            let mut object = Value::Object(std::mem::take(fields));
            edit(&mut object);
            *fields = object.as_object().unwrap().clone();
        });
    }

    /// What is asked for, with the fields that are there already.
    fn with_all_fields(&self, cluster: &ClusterId, manifest: &Manifest) -> Manifest {
        let mut object = Value::Object(manifest.object().clone());
        if let Some(there) = self.inner.object(cluster, manifest.id())
            && let Some(data) = there.object.get("data").and_then(Value::as_object)
        {
            for (key, text) in data {
                let fields = object["data"].as_object_mut().unwrap();
                fields.entry(key.clone()).or_insert_with(|| text.clone());
            }
        }
        Manifest::new(object).unwrap()
    }

    /// What takes an object from whatever Work has it.
    fn claim(&self, cluster: &ClusterId, object: &ObjectRef) -> Option<Claim> {
        let there = self.inner.object(cluster, object)?;
        let mark = there.object["metadata"]["labels"].get(MARK)?.as_str()?;
        Some(Claim { object: object.clone(), from: mark.into() })
    }

    fn is_going(&self, object: &ObjectRef) -> bool {
        self.going.lock().contains(object) && !self.is(Fault::WritesToWhatIsBeingDeleted)
    }

    async fn apply_one(&self, mut request: ApplyRequest, manifest: &Manifest) -> Outcome {
        let (cluster, id) = (request.cluster.id.clone(), manifest.id());
        if id.name.ends_with("refused") {
            return Outcome::Rejected { reason: "it is refused".to_owned() };
        }
        if self.is_going(id) {
            return waiting("it is being deleted");
        }
        if let Some(name) = id.name.strip_suffix("second") {
            let first = ObjectRef { name: format!("{name}first").into(), ..id.clone() };
            if self.inner.object(&cluster, &first).is_none() {
                return waiting("what it needs is not there");
            }
        }
        let mut policy = (*request.policy).clone();
        match self.fault {
            Fault::TakesOver => policy.adopt = true,
            Fault::WritesExcluded => policy.drift_exclusions.clear(),
            Fault::ForgetsTheInventory => request.inventory.clear(),
            Fault::IgnoresClaims => request.claims.clear(),
            Fault::TakesFromWorks if !request.inventory.is_empty() => {
                request.claims.extend(self.claim(&cluster, id));
            }
            Fault::AdoptsFromWorks if policy.adopt => request.claims.extend(self.claim(&cluster, id)),
            _ => {}
        }
        request.policy = Arc::new(policy);
        let manifest = match self.fault {
            Fault::KeepsFields => self.with_all_fields(&cluster, manifest),
            _ => manifest.clone(),
        };
        let preview = request.mode == Mode::Preview;
        if self.is(Fault::WritesInPreviews) {
            request.mode = Mode::Write;
        }
        let is_known = !request.inventory.is_empty();
        request.manifests = vec![manifest.clone()].into();
        let mut outcome = self.inner.apply(request).await.remove(0);
        match (self.fault, &mut outcome) {
            (Fault::WritesInPreviews, Outcome::Applied(_)) if preview => {
                outcome = Outcome::Would(if is_known { Change::Nothing } else { Change::Create });
            }
            (Fault::ForgetsThatItAdopted, Outcome::Applied(placed)) => placed.adopted &= !is_known,
            (Fault::ForgetsMarks, Outcome::Applied(_)) => self.edit(&cluster, manifest.id(), |object| {
                object["metadata"]["labels"].as_object_mut().map(|labels| labels.remove(MARK));
            }),
            (Fault::WritesAgain, Outcome::Applied(_)) => self.edit(&cluster, manifest.id(), |object| {
                let times = object["times"].as_u64().unwrap_or_default();
                object["times"] = (times + 1).into();
            }),
            _ => {}
        }
        outcome
    }

    async fn remove_one(&self, mut request: RemoveRequest) -> Outcome {
        let (item, writes) = (&mut request.items[0], request.mode == Mode::Write);
        if self.is_going(&item.object) {
            return waiting("it is being deleted");
        }
        if item.object.name.ends_with("lived-in") && !self.is(Fault::DeletesWhatOthersLiveIn) {
            return Outcome::Rejected { reason: "others live in it".to_owned() };
        }
        match self.fault {
            Fault::LeavesObjects if writes => return Outcome::Gone,
            Fault::DeletesByName if writes && !item.adopted => {
                self.inner.take_away(&request.cluster.id, &item.object);
            }
            Fault::DeletesAdopted if writes && item.adopted => {
                self.inner.take_away(&request.cluster.id, &item.object);
            }
            _ => {}
        }
        match self.inner.remove(request).await.remove(0) {
            Outcome::Would(Change::Nothing) if self.is(Fault::SaysGoneInPreviews) => Outcome::Gone,
            outcome => outcome,
        }
    }
}

#[async_trait]
impl Applier for Wrapped {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let count = request.manifests.len();
        let reason = "no answer".to_owned();
        if self.silence(request.deadline).await {
            let outcome = match self.fault {
                Fault::TakesSilenceForRefusal => Outcome::Rejected { reason },
                Fault::TakesSilenceForNoEffect => {
                    self.inner.apply(request).await;
                    Outcome::Retry { after: Duration::ZERO, reason, cluster: true }
                }
                _ => Outcome::Unknown { reason },
            };
            return vec![outcome; count];
        }
        let mut order: Vec<usize> = (0..count).collect();
        if !self.is(Fault::KeepsTheOrderGiven) {
            order.sort_by_key(|index| request.manifests[*index].id().name.ends_with("second"));
        }
        let mut outcomes = vec![waiting("it is not tried"); count];
        for index in order {
            let manifest = &request.manifests[index];
            outcomes[index] = self.apply_one(request.clone(), manifest).await;
            let goes_on = request.policy.continue_on_conflict || self.is(Fault::GoesOnAfterConflicts);
            match outcomes[index] {
                Outcome::Conflict { .. } if !goes_on => break,
                Outcome::Rejected { .. } if self.is(Fault::StopsAtFailures) => break,
                _ => {}
            }
        }
        if self.is(Fault::TurnsOutcomes) && count == 3 {
            outcomes.rotate_left(1);
        }
        outcomes
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        if self.silence(request.deadline).await {
            return request
                .items
                .iter()
                .map(|_| Outcome::Unknown { reason: "no answer".to_owned() })
                .collect();
        }
        let mut outcomes = Vec::new();
        for item in &request.items {
            outcomes
                .push(self.remove_one(RemoveRequest { items: vec![item.clone()], ..request.clone() }).await);
        }
        outcomes
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        let (fault, mut reach) = (self.fault, self.reach.clone());
        let (mut listed, mut of) = (false, None);
        let told = self.inner.observe(cluster, kind, depth).filter(move |told| {
            let hidden = match (fault, told) {
                (Fault::ListsOnlySome, Observation::There(seen)) => {
                    !listed && seen.object.name.ends_with("-b")
                }
                (Fault::ListsOneWorkOnly, Observation::There(seen)) => {
                    *of.get_or_insert_with(|| Arc::clone(&seen.mark)) != seen.mark
                }
                (Fault::MissesDeletions, Observation::Gone { .. }) => true,
                (Fault::IsDeaf, _) => listed,
                _ => false,
            };
            listed |= matches!(told, Observation::Listed { .. });
            std::future::ready(!hidden)
        });
        match fault {
            Fault::WatchesForNothing => futures::stream::pending().boxed(),
            Fault::EndsWhenBrokenOff => {
                let broken_off = async move { reach.wait_for(|it| !*it).await.map(drop).unwrap_or_default() };
                told.take_until(Box::pin(broken_off)).boxed()
            }
            Fault::ForgetsWhatItMissed => {
                futures::stream::unfold((told.boxed(), reach), |(mut told, mut reach)| async move {
                    if reach.has_changed().unwrap_or_default() {
                        reach.mark_unchanged();
                        let moment = Duration::from_millis(50);
                        while let Ok(Some(_)) = tokio::time::timeout(moment, told.next()).await {}
                    }
                    Some((told.next().await?, (told, reach)))
                })
                .boxed()
            }
            _ => told.boxed(),
        }
    }
}

struct Fixture {
    memory: Memory,
    fault: Fault,
    reach: watch::Sender<bool>,
    going: Arc<Mutex<HashSet<ObjectRef>>>,
}

impl Fixture {
    fn new(fault: Fault) -> Self {
        Self { memory: Memory::new(), fault, reach: watch::Sender::new(true), going: Arc::default() }
    }
}

impl applier::Fixture for Fixture {
    async fn applier(&self) -> Arc<dyn Applier> {
        let (inner, reach, going) =
            (Arc::clone(&self.memory.0), self.reach.subscribe(), Arc::clone(&self.going));
        Arc::new(Wrapped { inner, fault: self.fault, reach, going })
    }

    fn cluster(&self) -> Arc<Cluster> {
        self.memory.cluster()
    }

    fn refused(&self, name: &str) -> Result<Value, NotChecked> {
        assert!(name.ends_with("refused"));
        Ok(self.object(name, &[]))
    }

    fn in_order(&self, name: &str) -> Result<[Value; 2], NotChecked> {
        Ok(["first", "second"].map(|suffix| self.object(&format!("{name}-{suffix}"), &[])))
    }

    fn lived_in(&self) -> Result<Value, NotChecked> {
        Ok(self.object("lived-in", &[]))
    }

    async fn read(&self, object: &ObjectRef) -> Option<Value> {
        self.memory.read(object).await
    }

    async fn put(&self, object: &Value) {
        self.memory.put(object).await;
    }

    async fn delete(&self, object: &ObjectRef) {
        self.memory.delete(object).await;
    }

    async fn hold(&self, object: &ObjectRef) -> Result<(), NotChecked> {
        self.going.lock().insert(object.clone());
        Ok(())
    }

    async fn let_go(&self, object: &ObjectRef) {
        self.going.lock().remove(object);
        self.memory.delete(object).await;
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        self.reach.send_replace(false);
        Ok(())
    }

    async fn mend(&self) {
        self.reach.send_replace(true);
    }

    fn abilities(&self) -> applier::Abilities {
        let observes = match self.fault {
            Fault::WatchesForNothing => Err(NotChecked::because("it says that it cannot")),
            _ => Ok(()),
        };
        applier::Abilities { observes, ..self.memory.abilities() }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

applier!(one_without_a_fault, Fixture::new(Fault::None));

#[tokio::test]
async fn each_fault_is_found_by_the_check_that_is_there_for_it() {
    let cases: &[(Fault, &[&str])] = &[
        (Fault::None, &[]),
        (
            Fault::ForgetsMarks,
            &[
                "what_is_applied_is_there_and_marked",
                "what_lost_its_mark_is_ours_by_the_inventory",
                "what_another_work_has_is_a_conflict",
                "what_is_claimed_is_taken",
                "what_is_taken_over_has_no_mark",
                "removal_takes_what_is_ours",
                "what_is_as_it_should_be_stays_as_it_is",
                "a_preview_changes_nothing",
                "a_list_comes_first",
                "each_change_is_told",
                "what_happened_out_of_reach_is_told",
            ],
        ),
        (
            Fault::TakesOver,
            &[
                "what_somebody_made_is_a_conflict",
                "what_was_adopted_is_given_back",
                "a_preview_changes_nothing",
                "a_conflict_holds_up_the_rest",
            ],
        ),
        (Fault::ForgetsTheInventory, &["what_lost_its_mark_is_ours_by_the_inventory"]),
        (Fault::TakesFromWorks, &["what_another_work_has_is_a_conflict", "what_is_claimed_is_taken"]),
        (Fault::IgnoresClaims, &["what_is_claimed_is_taken"]),
        (Fault::AdoptsFromWorks, &["what_is_taken_over_has_no_mark"]),
        (Fault::ForgetsThatItAdopted, &["what_was_adopted_is_given_back"]),
        (Fault::DeletesAdopted, &["what_was_adopted_is_given_back"]),
        (Fault::DeletesWhatOthersLiveIn, &["what_others_live_in_is_never_deleted"]),
        (Fault::LeavesObjects, &["what_was_adopted_is_given_back", "removal_takes_what_is_ours"]),
        (
            Fault::DeletesByName,
            &[
                "what_somebody_made_is_a_conflict",
                "what_another_work_has_is_a_conflict",
                "what_is_claimed_is_taken",
                "removal_checks_uid_and_mark",
            ],
        ),
        (Fault::KeepsFields, &["what_is_claimed_is_taken", "fields_that_are_not_wanted_any_more_go"]),
        (Fault::WritesExcluded, &["what_is_excluded_stays"]),
        (Fault::WritesAgain, &["what_is_as_it_should_be_stays_as_it_is"]),
        (Fault::KeepsTheOrderGiven, &["what_others_need_goes_first"]),
        (Fault::WritesInPreviews, &["a_preview_changes_nothing"]),
        (Fault::SaysGoneInPreviews, &["a_preview_changes_nothing"]),
        (Fault::WritesToWhatIsBeingDeleted, &["what_is_being_deleted_is_waited_for"]),
        (Fault::TakesSilenceForRefusal, &["what_is_not_answered_is_unknown"]),
        (Fault::TakesSilenceForNoEffect, &["what_is_not_answered_is_unknown"]),
        (
            Fault::TurnsOutcomes,
            &["outcomes_are_in_the_order_of_what_was_asked", "a_failure_keeps_no_other_from_being_tried"],
        ),
        (Fault::StopsAtFailures, &["a_failure_keeps_no_other_from_being_tried"]),
        (Fault::GoesOnAfterConflicts, &["a_conflict_holds_up_the_rest"]),
        (Fault::ForgetsTime, &["what_is_not_answered_is_unknown", "it_returns_by_the_deadline"]),
        (Fault::ListsOnlySome, &["a_list_comes_first"]),
        (Fault::ListsOneWorkOnly, &["a_list_comes_first"]),
        (Fault::IsDeaf, &["each_change_is_told", "what_happened_out_of_reach_is_told", "observing_goes_on"]),
        (Fault::MissesDeletions, &["each_change_is_told", "what_happened_out_of_reach_is_told"]),
        (Fault::ForgetsWhatItMissed, &["what_happened_out_of_reach_is_told"]),
        (Fault::EndsWhenBrokenOff, &["observing_goes_on"]),
        (Fault::WatchesForNothing, &["one_that_cannot_watch_tells_nothing"]),
    ];
    let run = cases.iter().map(async |(fault, expected)| {
        let fixture = async || Fixture::new(*fault);
        (*fault, found(applier::checks(), fixture).await, *expected)
    });
    assert_found("Applier", &futures::future::join_all(run).await);
    assert_each_can_fail(applier::checks::<Fixture>(), cases);
}
