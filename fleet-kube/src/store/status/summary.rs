//! What the AppliedWorks of a Work come to.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use fleet_core::cluster::ClusterId;
use fleet_core::health::Health;
use fleet_core::work::{AppliedState, AppliedWork, Foreseen, Intent, Work};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::{FailingCluster, WorkStatus};

/// How many failing clusters a status names.
const FAILING: usize = 20;
/// How long an explanation may be, in characters.
const MESSAGE: usize = 512;
/// How many objects are named of what would happen.
const NAMED: usize = 3;

/// How a Work stands in one cluster.
enum Standing<'a> {
    /// All is there, and as it should be.
    Ready,
    /// All is there, and is not as it should be yet.
    Progressing(&'a str),
    UnderWay,
    /// The first ones of a list are the worst.
    Failing(Severity, &'a str, &'a str),
    /// Nothing is written; this is what would happen.
    Previewed(&'a [Foreseen]),
    /// What is there stays, though the Work does not belong there.
    Left(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Somebody has to change something.
    Stalled,
    /// All is there, and does not work.
    Unhealthy,
    /// It may work the next time.
    Retrying,
}

impl<'a> Standing<'a> {
    fn of(one: &'a AppliedWork, work: &Work) -> Self {
        // What is to be removed was applied once; that says nothing about its removal.
        let is_current = one.generation == work.generation && work.intent == Intent::Create;
        match &one.state {
            AppliedState::Applied if is_current => match &one.health {
                Some(Health::Ready) => Self::Ready,
                Some(Health::Progressing { message }) => Self::Progressing(message),
                Some(Health::Failed { message }) => Self::Failing(Severity::Unhealthy, "Unhealthy", message),
                None => Self::Progressing("how it is doing was not seen yet"),
            },
            AppliedState::Stalled { reason, message } => Self::Failing(Severity::Stalled, reason, message),
            AppliedState::Retrying { reason } => Self::Failing(Severity::Retrying, "Retrying", reason),
            AppliedState::Previewed { changes } => Self::Previewed(changes),
            AppliedState::Left { reason } => Self::Left(reason),
            _ => Self::UnderWay,
        }
    }

    /// The worst first.
    fn rank(&self) -> u8 {
        match self {
            Self::Failing(severity, ..) => *severity as u8,
            Self::UnderWay => 3,
            Self::Previewed(_) => 4,
            Self::Progressing(_) => 5,
            Self::Left(_) => 6,
            Self::Ready => 7,
        }
    }
}

/// How many clusters stand how, and the first of each.
#[derive(Default)]
struct Standings<'a> {
    clusters: usize,
    applied: usize,
    progressing: Vec<(&'a ClusterId, &'a str)>,
    under_way: usize,
    failing: Vec<(Severity, &'a str, &'a str, &'a ClusterId)>,
    previewed: Vec<(&'a ClusterId, &'a [Foreseen])>,
    left: Vec<(&'a ClusterId, &'a str)>,
}

impl<'a> Standings<'a> {
    fn of(work: &Work, applied: &'a [Arc<AppliedWork>]) -> Self {
        // What a cluster has, and what is local for it: the worst of them.
        let mut clusters: BTreeMap<&ClusterId, Standing<'a>> = BTreeMap::new();
        for one in applied {
            let standing = Standing::of(one, work);
            match clusters.entry(one.for_cluster()) {
                Entry::Vacant(place) => _ = place.insert(standing),
                Entry::Occupied(mut known) if standing.rank() < known.get().rank() => {
                    known.insert(standing);
                }
                Entry::Occupied(_) => {}
            }
        }
        let mut all = Self { clusters: clusters.len(), ..Self::default() };
        for (cluster, standing) in clusters {
            let is_applied = matches!(
                standing,
                Standing::Ready | Standing::Progressing(_) | Standing::Failing(Severity::Unhealthy, ..)
            );
            all.applied += usize::from(is_applied);
            match standing {
                Standing::Ready => {}
                Standing::Progressing(message) => all.progressing.push((cluster, message)),
                Standing::UnderWay => all.under_way += 1,
                Standing::Failing(severity, reason, message) => {
                    all.failing.push((severity, reason, message, cluster));
                }
                Standing::Previewed(changes) => all.previewed.push((cluster, changes)),
                Standing::Left(reason) => all.left.push((cluster, reason)),
            }
        }
        all.failing.sort_unstable();
        all
    }

    fn is_stalled(&self) -> bool {
        self.failing.iter().any(|(severity, ..)| *severity != Severity::Retrying)
    }

    /// Whether all is as it should be, why in one word, and in one sentence.
    fn told(&self, intent: Intent, clusters: usize) -> (bool, &'a str, String) {
        if let Some((_, reason, message, cluster)) = self.failing.first() {
            return (false, reason, format!("{cluster}: {message}{}", more(self.failing.len() - 1)));
        }
        if !self.previewed.is_empty() {
            return (false, "DryRun", foreseen(&self.previewed));
        }
        let left = self.left.first().map(|(_, reason)| {
            let also = if clusters > 0 { "; " } else { "" };
            format!("{also}left as it is in {}: {reason}", number(self.left.len()))
        });
        let left = left.unwrap_or_default();
        match intent {
            Intent::Delete if clusters > 0 => {
                (false, "Removing", format!("to be removed from {}{left}", number(clusters)))
            }
            _ if clusters == 0 && !self.left.is_empty() => (true, "Left", left),
            Intent::Delete => {
                let message = "nothing is left; kept for as long as an older event may come";
                (true, "Removed", message.to_owned())
            }
            Intent::Create if clusters == 0 => {
                (true, "NoClusters", "no cluster is to have it now".to_owned())
            }
            Intent::Create if self.under_way > 0 => {
                (false, "Applying", format!("applied in {} of {}{left}", self.applied, number(clusters)))
            }
            Intent::Create => match self.progressing.first() {
                Some((cluster, message)) => {
                    let more = more(self.progressing.len() - 1);
                    (false, "Progressing", format!("applied; {cluster}: {message}{more}{left}"))
                }
                None => (true, "Applied", format!("applied in {}{left}", number(clusters))),
            },
        }
    }
}

/// The status of a Work.
pub(super) fn sum_up(
    work: &Work,
    observed: i64,
    applied: &[Arc<AppliedWork>],
    before: Option<&WorkStatus>,
    now: Timestamp,
) -> WorkStatus {
    let all = Standings::of(work, applied);
    let clusters = all.clusters - all.left.len();
    let (ready, reason, message) = all.told(work.intent, clusters);
    let before = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
        let since = same.map(|condition| condition.last_transition_time.clone());
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.clone(),
            last_transition_time: since.unwrap_or_else(|| Time(whole_seconds(now))),
            observed_generation: None,
        }
    };
    let mut conditions = vec![condition("Ready", ready)];
    if all.is_stalled() {
        conditions.push(condition("Stalled", true));
    } else if !ready && (!all.failing.is_empty() || all.previewed.is_empty()) {
        // A preview is not ready, and neither is anything done about that.
        conditions.push(condition("Reconciling", true));
    }
    let failed = all.failing.len();
    let failing = all.failing.iter().take(FAILING).map(|(_, reason, message, cluster)| FailingCluster {
        cluster: cluster.to_string(),
        reason: (*reason).to_owned(),
        message: message.chars().take(MESSAGE).collect(),
    });
    WorkStatus {
        observed_generation: Some(observed),
        clusters: count(clusters),
        applied: count(all.applied),
        failed: count(failed),
        left: count(all.left.len()),
        failing: failing.collect(),
        conditions,
    }
}

/// What would happen, in short.
fn foreseen(previewed: &[(&ClusterId, &[Foreseen])]) -> String {
    let mut changing = previewed.iter().filter(|(_, changes)| !changes.is_empty());
    let Some((cluster, changes)) = changing.next() else {
        return format!("nothing is written, and nothing would change in {}", number(previewed.len()));
    };
    let mut named: Vec<String> = changes.iter().take(NAMED).map(ToString::to_string).collect();
    if changes.len() > NAMED {
        named.push(format!("and {} more", changes.len() - NAMED));
    }
    let message = format!("nothing is written; {cluster}: would {}", named.join(", "));
    let message: String = message.chars().take(MESSAGE).collect();
    match changing.count() {
        0 => message,
        others => format!("{message}; and something in {} more", number(others)),
    }
}

fn more(others: usize) -> String {
    if others > 0 { format!(", and {others} more") } else { String::new() }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn number(clusters: usize) -> String {
    if clusters == 1 { "1 cluster".to_owned() } else { format!("{clusters} clusters") }
}

/// As they are written.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use fleet_core::apply::Change;
    use fleet_core::event::Event;
    use fleet_core::manifest::{Gvk, ObjectRef};
    use fleet_core::work::Local;
    use fleet_core::work::{EventKey, WorkId};

    use super::*;

    fn work(intent: Intent) -> Work {
        let key = EventKey::Text("k".to_owned());
        let event = br#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
        Work {
            id: WorkId::new("t", &key),
            trigger: "t".into(),
            source: "s".into(),
            key,
            origin: None,
            generation: 2,
            intent,
            event: Arc::new(Event::from_json(event).unwrap()),
            message: Arc::default(),
            positions: Default::default(),
            received: Timestamp::UNIX_EPOCH,
            published: None,
            recent: Vec::new(),
        }
    }

    fn applied(number: usize, generation: u64, state: AppliedState) -> Arc<AppliedWork> {
        let cluster = ClusterId::new("civo", &format!("c{number:03}")).unwrap();
        let pending = AppliedWork::pending(&work(Intent::Create), cluster, Timestamp::UNIX_EPOCH);
        Arc::new(AppliedWork { generation, state, health: Some(Health::Ready), ..pending })
    }

    fn doing(number: usize, health: Option<Health>) -> Arc<AppliedWork> {
        let applied = applied(number, 2, AppliedState::Applied);
        Arc::new(AppliedWork { health, ..(*applied).clone() })
    }

    fn foreseen(name: &str, change: Option<Change>) -> Foreseen {
        let gvk = Gvk { group: "".into(), version: "v1".into(), kind: "Namespace".into() };
        let object = ObjectRef { gvk, namespace: None, name: name.into() };
        let reason = change.is_none().then(|| "it is not ours; it belongs to kubectl".to_owned());
        Foreseen { object, change, reason }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reasons(status: &WorkStatus) -> Vec<String> {
        let conditions = status.conditions.iter();
        conditions.map(|it| format!("{}={} {}", it.type_, it.status, it.reason)).collect()
    }

    #[test]
    fn conditions_say_what_is_and_since_when() {
        let (create, delete) = (work(Intent::Create), work(Intent::Delete));
        let done = applied(1, 2, AppliedState::Applied);
        let old = applied(1, 1, AppliedState::Applied);
        for (work, applied, expected) in [
            (&create, vec![], &["Ready=True NoClusters"][..]),
            (&create, vec![done.clone()], &["Ready=True Applied"]),
            (&create, vec![old.clone()], &["Ready=False Applying", "Reconciling=True Applying"]),
            (&delete, vec![old], &["Ready=False Removing", "Reconciling=True Removing"]),
            (&delete, vec![done.clone()], &["Ready=False Removing", "Reconciling=True Removing"]),
            (&delete, vec![], &["Ready=True Removed"]),
        ] {
            assert_eq!(reasons(&sum_up(work, 5, &applied, None, at(0))), expected);
        }
        let first = sum_up(&create, 5, std::slice::from_ref(&done), None, at(10));
        let later = sum_up(&create, 5, std::slice::from_ref(&done), Some(&first), at(20));
        assert_eq!(first, later, "nothing to write");
        let retrying = applied(2, 2, AppliedState::Retrying { reason: "no answer".to_owned() });
        let worse = sum_up(&create, 5, &[done, retrying], Some(&later), at(30));
        assert_eq!(reasons(&worse), ["Ready=False Retrying", "Reconciling=True Retrying"]);
        assert_eq!(worse.conditions[0].last_transition_time.0, at(30));
        assert_eq!((worse.clusters, worse.applied, worse.failed), (2, 1, 1));
    }

    #[test]
    fn only_what_is_applied_and_healthy_everywhere_is_ready() {
        let create = work(Intent::Create);
        let good = doing(1, Some(Health::Ready));
        let waits = doing(2, Some(Health::progressing("Deployment web/a: Available: 0/1")));
        let broken = doing(3, Some(Health::failed("Job web/b: Job failed")));
        let status = |applied: &[&Arc<AppliedWork>]| {
            let applied: Vec<_> = applied.iter().map(|one| Arc::clone(one)).collect();
            sum_up(&create, 5, &applied, None, at(0))
        };
        assert_eq!(reasons(&status(&[&good])), ["Ready=True Applied"]);
        let waiting = status(&[&good, &waits]);
        assert_eq!(reasons(&waiting), ["Ready=False Progressing", "Reconciling=True Progressing"]);
        assert_eq!(waiting.conditions[0].message, "applied; civo/c002: Deployment web/a: Available: 0/1");
        assert_eq!((waiting.clusters, waiting.applied, waiting.failed), (2, 2, 0));
        let failing = status(&[&good, &waits, &broken]);
        assert_eq!(reasons(&failing), ["Ready=False Unhealthy", "Stalled=True Unhealthy"]);
        assert_eq!((failing.applied, failing.failed, failing.failing.len()), (3, 1, 1));
        let named = &failing.failing[0];
        assert_eq!((&*named.cluster, &*named.message), ("civo/c003", "Job web/b: Job failed"));
        let unseen = status(&[&good, &doing(2, None)]);
        assert_eq!(reasons(&unseen), ["Ready=False Progressing", "Reconciling=True Progressing"]);
    }

    /// What is local stands for the cluster that it is for, beside what that one has.
    #[test]
    fn a_cluster_is_as_well_as_the_worst_of_what_is_for_it() {
        let local = |number: usize, state: AppliedState| {
            let own = applied(number, 2, state);
            let local = Local { work: own.work.clone(), cluster: own.cluster.clone() };
            let hub = ClusterId::new("fleet", "management").unwrap();
            Arc::new(AppliedWork { work: local.id(), cluster: hub, local: Some(local), ..(*own).clone() })
        };
        let good = applied(1, 2, AppliedState::Applied);
        let one = |all: &[&Arc<AppliedWork>]| {
            let all: Vec<_> = all.iter().map(|one| Arc::clone(one)).collect();
            sum_up(&work(Intent::Create), 5, &all, None, at(0))
        };
        let well = one(&[&good, &local(1, AppliedState::Applied)]);
        assert_eq!((well.clusters, well.applied, well.failed), (1, 1, 0));
        let stalled = AppliedState::Stalled { reason: "Conflict".into(), message: "theirs".into() };
        for all in [[&good, &local(1, stalled.clone())], [&local(1, stalled.clone()), &good]] {
            let ill = one(&all);
            assert_eq!((ill.clusters, ill.applied, ill.failed), (1, 0, 1));
            assert_eq!(ill.failing[0].cluster, "civo/c001");
        }
    }

    #[test]
    fn a_dry_run_says_what_would_happen_and_is_neither_ready_nor_at_work() {
        let (create, delete) = (work(Intent::Create), work(Intent::Delete));
        let previewed =
            |number, changes: Vec<Foreseen>| applied(number, 2, AppliedState::Previewed { changes });
        let update = Change::Update { diff: "+  password: hunter2".to_owned() };
        let first = previewed(
            1,
            vec![
                foreseen("a", Some(Change::Create)),
                foreseen("b", Some(update)),
                foreseen("c", None),
                foreseen("d", Some(Change::Delete)),
            ],
        );
        let other = previewed(3, vec![foreseen("a", Some(Change::Create))]);
        let status = sum_up(&create, 5, &[first.clone(), other, previewed(2, vec![])], None, at(0));
        assert_eq!(reasons(&status), ["Ready=False DryRun"]);
        assert_eq!(
            status.conditions[0].message,
            "nothing is written; civo/c001: would create Namespace a, update Namespace b, not apply Namespace c: it is not \
             ours; it belongs to kubectl, and 1 more; and something in 1 cluster more"
        );
        assert_eq!((status.clusters, status.applied, status.failed), (3, 0, 0));
        for work in [&create, &delete] {
            let idle = sum_up(work, 5, &[previewed(1, vec![])], None, at(0));
            assert_eq!(reasons(&idle), ["Ready=False DryRun"]);
            let message = "nothing is written, and nothing would change in 1 cluster";
            assert_eq!(idle.conditions[0].message, message);
        }
        let retrying = applied(2, 2, AppliedState::Retrying { reason: "no answer".to_owned() });
        let status = sum_up(&create, 5, &[first, retrying], None, at(0));
        assert_eq!(reasons(&status), ["Ready=False Retrying", "Reconciling=True Retrying"]);
    }

    #[test]
    fn what_is_left_is_counted_apart() {
        let left = applied(1, 1, AppliedState::Left { reason: "LeavePolicies".to_owned() });
        let done = applied(2, 2, AppliedState::Applied);
        let status = sum_up(&work(Intent::Create), 5, &[left.clone(), done], None, at(0));
        assert_eq!(reasons(&status), ["Ready=True Applied"]);
        assert_eq!(
            status.conditions[0].message,
            "applied in 1 cluster; left as it is in 1 cluster: LeavePolicies"
        );
        assert_eq!((status.clusters, status.applied, status.left), (1, 1, 1));
        for intent in [Intent::Create, Intent::Delete] {
            let status = sum_up(&work(intent), 5, std::slice::from_ref(&left), None, at(0));
            assert_eq!(reasons(&status), ["Ready=True Left"]);
            assert_eq!((status.clusters, status.left), (0, 1));
        }
    }

    #[test]
    fn twenty_failing_clusters_are_named_the_stalled_first() {
        let mut all: Vec<_> = (0..30)
            .map(|number| applied(number, 2, AppliedState::Retrying { reason: "r".to_owned() }))
            .collect();
        let message = "m".repeat(10_000);
        all.push(applied(99, 2, AppliedState::Stalled { reason: "Conflict".to_owned(), message }));
        let status = sum_up(&work(Intent::Create), 5, &all, None, at(0));
        assert_eq!((status.failing.len(), status.failed), (20, 31));
        assert_eq!((status.failing[0].cluster.as_str(), status.failing[0].message.len()), ("civo/c099", 512));
        assert_eq!(status.failing[1].cluster, "civo/c000");
        assert_eq!(reasons(&status), ["Ready=False Conflict", "Stalled=True Conflict"]);
        assert!(status.conditions[0].message.ends_with("and 30 more"));
    }
}
