//! Appliers that each break one rule, and what the suite says of them.

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
use serde_json::Value;
use tokio::sync::watch;

use crate::appliers::Memory;
use crate::{assert_each_can_fail, assert_found, found};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    ForgetsMarks,
    TakesOver,
    TakesFromWorks,
    IgnoresClaims,
    DeletesAdopted,
    LeavesObjects,
    DeletesByName,
    KeepsFields,
    WritesExcluded,
    WritesAgain,
    WritesInPreviews,
    TurnsOutcomes,
    StopsAtFailures,
    GoesOnAfterConflicts,
    ForgetsTime,
    ListsOnlySome,
    IsDeaf,
    MissesDeletions,
    EndsWhenBrokenOff,
}

/// An Applier in memory that can be out of reach and refuses some objects, with a fault.
struct Wrapped {
    inner: Arc<MemoryApplier>,
    fault: Fault,
    reach: watch::Receiver<bool>,
}

impl Wrapped {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
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
}

fn is_refused(manifest: &Manifest) -> bool {
    manifest.id().name.ends_with("refused")
}

#[async_trait]
impl Applier for Wrapped {
    async fn apply(&self, mut request: ApplyRequest) -> Vec<Outcome> {
        if !*self.reach.borrow() {
            let patience = if self.is(Fault::ForgetsTime) { Duration::from_secs(60) } else { request.deadline };
            let back = self.reach.clone();
            let _back = tokio::time::timeout(patience, async move { back.clone().wait_for(|it| *it).await.map(drop) }).await;
            return request.manifests.iter().map(|_| Outcome::Unknown { reason: "no answer".to_owned() }).collect();
        }
        let mut policy = (*request.policy).clone();
        policy.adopt |= self.is(Fault::TakesOver);
        policy.continue_on_conflict |= self.is(Fault::GoesOnAfterConflicts);
        request.policy = Arc::new(policy);
        if self.is(Fault::IgnoresClaims) {
            request.claims.clear();
        }
        let cluster = request.cluster.id.clone();
        for item in request.inventory.iter().filter(|_| self.is(Fault::TakesFromWorks)) {
            let there = self.inner.object(&cluster, &item.object);
            let mark = there.and_then(|it| Some(it.object["metadata"]["labels"].get(MARK)?.as_str()?.to_owned()));
            let claim = mark.map(|mark| Claim { object: item.object.clone(), from: mark.into() });
            request.claims.extend(claim);
        }
        if self.is(Fault::KeepsFields) {
            request.manifests = request.manifests.iter().map(|it| self.with_all_fields(&cluster, it)).collect();
        }
        let asked = Arc::clone(&request.manifests);
        request.manifests = asked.iter().filter(|manifest| !is_refused(manifest)).cloned().collect();
        let preview = request.mode == Mode::Preview;
        if self.is(Fault::WritesInPreviews) {
            request.mode = Mode::Write;
        }
        let mut made = self.inner.apply(request).await.into_iter();
        let mut failed = false;
        let mut outcomes: Vec<_> = asked
            .iter()
            .map(|manifest| {
                if is_refused(manifest) {
                    failed = true;
                    return Outcome::Rejected { reason: "it is refused".to_owned() };
                }
                let outcome = made.next().unwrap();
                if failed && self.is(Fault::StopsAtFailures) {
                    return Outcome::Waiting { reason: "another one failed".to_owned() };
                }
                if preview && self.is(Fault::WritesInPreviews) {
                    return Outcome::Would(Change::Create);
                }
                outcome
            })
            .collect();
        for manifest in asked.iter() {
            match self.fault {
                Fault::ForgetsMarks => self.edit(&cluster, manifest.id(), |object| {
                    object["metadata"]["labels"].as_object_mut().map(|labels| labels.remove(MARK));
                }),
                Fault::WritesAgain if !preview => self.edit(&cluster, manifest.id(), |object| {
                    let times = object["times"].as_u64().unwrap_or_default();
                    object["times"] = (times + 1).into();
                }),
                _ => {}
            }
        }
        if self.is(Fault::TurnsOutcomes) && outcomes.len() == 4 {
            outcomes.reverse();
        }
        outcomes
    }

    async fn remove(&self, mut request: RemoveRequest) -> Vec<Outcome> {
        match self.fault {
            Fault::LeavesObjects => return request.items.iter().map(|_| Outcome::Gone).collect(),
            Fault::DeletesByName if request.mode == Mode::Write => {
                for item in request.items.iter().filter(|item| !item.adopted) {
                    self.inner.take_away(&request.cluster.id, &item.object);
                }
            }
            Fault::DeletesAdopted => request.items.iter_mut().for_each(|item| item.adopted = false),
            _ => {}
        }
        self.inner.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        let (fault, mut reach) = (self.fault, self.reach.clone());
        let mut listed = false;
        let told = self.inner.observe(cluster, kind, depth).filter(move |told| {
            let is_some = matches!(told, Observation::There(seen) if seen.object.name.ends_with("-b"));
            let hidden = match fault {
                Fault::ListsOnlySome => is_some,
                Fault::MissesDeletions => matches!(told, Observation::Gone { .. }),
                Fault::IsDeaf => listed,
                _ => false,
            };
            listed |= matches!(told, Observation::Listed { .. });
            std::future::ready(!hidden)
        });
        if fault != Fault::EndsWhenBrokenOff {
            return told.boxed();
        }
        let broken_off = async move { reach.wait_for(|it| !*it).await.map(drop).unwrap_or_default() };
        told.take_until(Box::pin(broken_off)).boxed()
    }
}

struct Fixture {
    memory: Memory,
    fault: Fault,
    reach: watch::Sender<bool>,
}

impl Fixture {
    fn new(fault: Fault) -> Self {
        Self { memory: Memory::new(), fault, reach: watch::Sender::new(true) }
    }
}

impl applier::Fixture for Fixture {
    async fn applier(&self) -> Arc<dyn Applier> {
        let (inner, reach) = (Arc::clone(&self.memory.0), self.reach.subscribe());
        Arc::new(Wrapped { inner, fault: self.fault, reach })
    }

    fn cluster(&self) -> Arc<Cluster> {
        self.memory.cluster()
    }

    fn refused(&self, name: &str) -> Result<Value, NotChecked> {
        Ok(self.object(name, &[]))
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

    async fn break_off(&self) -> Result<(), NotChecked> {
        self.reach.send_replace(false);
        Ok(())
    }

    async fn mend(&self) {
        self.reach.send_replace(true);
    }

    fn abilities(&self) -> applier::Abilities {
        let mut abilities = self.memory.abilities();
        if self.fault == Fault::WritesExcluded {
            abilities.excludes = Ok(());
        }
        abilities
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

applier!(in_memory_and_out_of_reach, Fixture::new(Fault::None));

#[tokio::test]
async fn each_fault_is_found_by_the_check_that_is_there_for_it() {
    let cases: &[(Fault, &[&str])] = &[
        (Fault::None, &[]),
        (Fault::ForgetsMarks, &["what_is_applied_is_there_and_marked"]),
        (Fault::TakesOver, &["what_somebody_made_is_a_conflict", "a_conflict_holds_up_the_rest"]),
        (Fault::TakesFromWorks, &["what_another_work_has_is_a_conflict"]),
        (Fault::IgnoresClaims, &["what_is_claimed_is_taken"]),
        (Fault::DeletesAdopted, &["what_was_adopted_is_given_back"]),
        (Fault::LeavesObjects, &["removal_takes_what_is_ours"]),
        (Fault::DeletesByName, &["removal_checks_uid_and_mark"]),
        (Fault::KeepsFields, &["fields_that_are_not_wanted_any_more_go"]),
        (Fault::WritesExcluded, &["what_is_excluded_stays"]),
        (Fault::WritesAgain, &["what_is_as_it_should_be_stays_as_it_is"]),
        (Fault::WritesInPreviews, &["a_preview_changes_nothing"]),
        (Fault::TurnsOutcomes, &["outcomes_are_in_the_order_of_what_was_asked"]),
        (Fault::StopsAtFailures, &["a_failure_keeps_no_other_from_being_tried"]),
        (Fault::GoesOnAfterConflicts, &["a_conflict_holds_up_the_rest"]),
        (Fault::ForgetsTime, &["it_returns_by_the_deadline"]),
        (Fault::ListsOnlySome, &["a_list_comes_first"]),
        (Fault::IsDeaf, &["each_change_is_told", "observing_goes_on"]),
        (Fault::MissesDeletions, &["each_change_is_told"]),
        (Fault::EndsWhenBrokenOff, &["observing_goes_on"]),
    ];
    let run = cases.iter().map(async |(fault, expected)| {
        let fixture = async || Fixture::new(*fault);
        (*fault, found(applier::checks(), fixture).await, *expected)
    });
    assert_found("Applier", &futures::future::join_all(run).await);
    assert_each_can_fail(applier::checks::<Fixture>(), cases);
}
