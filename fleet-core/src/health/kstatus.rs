//! The rules of kstatus: how an object is doing, by what it says of itself.
//!
//! Follows `pkg/kstatus/status` of sigs.k8s.io/cli-utils v0.37.2 (The Kubernetes Authors, Apache-2.0), and is tested with
//! its cases. Otherwise here: a Pod that cannot be scheduled is never failed, because a node may come (there it is,
//! after 15 s); an APIService has to be available (there it is always ready).

use serde_json::{Map, Value};

use super::Health;

/// How an object is doing.
pub fn of_object(object: &Map<String, Value>) -> Health {
    let of = Object(object);
    of.generic().or_else(|| of.by_kind()).or_else(|| of.ready_condition()).unwrap_or(Health::Ready)
}

struct Object<'a>(&'a Map<String, Value>);

/// One of `status.conditions`.
struct Condition<'a> {
    kind: &'a str,
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

impl Condition<'_> {
    fn is(&self, kind: &str, status: &str) -> bool {
        self.kind == kind && self.status == status
    }

    /// What it says, for people.
    fn says(&self) -> String {
        match (self.reason, self.message) {
            ("", "") => format!("{} is {}", self.kind, self.status),
            ("", words) | (words, "") => words.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        }
    }
}

impl<'a> Object<'a> {
    fn find(&self, path: &[&str]) -> Option<&'a Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, part| value.get(part))
    }

    fn text(&self, path: &[&str]) -> &'a str {
        self.find(path).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, path: &[&str]) -> Option<i64> {
        self.find(path).and_then(Value::as_i64)
    }

    /// A count of its status; none if it is not there.
    fn count(&self, field: &str) -> i64 {
        self.number(&["status", field]).unwrap_or(0)
    }

    fn conditions(&self) -> impl Iterator<Item = Condition<'a>> + use<'a> {
        let conditions = self.find(&["status", "conditions"]).and_then(Value::as_array);
        conditions.into_iter().flatten().map(|condition| {
            let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
            Condition {
                kind: text("type"),
                status: text("status"),
                reason: text("reason"),
                message: text("message"),
            }
        })
    }

    fn has(&self, kind: &str, status: &str) -> bool {
        self.conditions().any(|condition| condition.is(kind, status))
    }

    /// What is the same for all kinds; `None` if it does not decide.
    fn generic(&self) -> Option<Health> {
        if !self.text(&["metadata", "deletionTimestamp"]).is_empty() {
            return Some(Health::progressing("it is being deleted"));
        }
        if let (Some(generation), Some(observed)) =
            (self.number(&["metadata", "generation"]), self.number(&["status", "observedGeneration"]))
            && generation != observed
        {
            let message = format!("its controller has seen generation {observed} of {generation}");
            return Some(Health::progressing(message));
        }
        self.conditions().find_map(|condition| {
            if condition.is("Reconciling", "True") {
                Some(Health::progressing(condition.says()))
            } else if condition.is("Stalled", "True") {
                Some(Health::failed(condition.says()))
            } else {
                None
            }
        })
    }

    /// The rules of a kind; `None` if it has none.
    fn by_kind(&self) -> Option<Health> {
        let group = self.text(&["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
        Some(match (group, self.text(&["kind"])) {
            ("", "Service") => self.service(),
            ("", "Pod") => self.pod(),
            ("", "PersistentVolumeClaim") => self.claim(),
            // A PodDisruptionBudget tells which generation was observed: it is ready once that is the latest.
            ("", "Secret" | "ConfigMap") | ("batch", "CronJob") | ("policy", "PodDisruptionBudget") => {
                Health::Ready
            }
            ("apps", "StatefulSet") => self.stateful_set(),
            ("apps" | "extensions", "DaemonSet") => self.daemon_set(),
            ("apps" | "extensions", "Deployment") => self.deployment(),
            ("apps" | "extensions", "ReplicaSet") => self.replica_set(),
            ("batch", "Job") => self.job(),
            ("apiextensions.k8s.io", "CustomResourceDefinition") => self.definition(),
            ("apiregistration.k8s.io", "APIService") => self.api_service(),
            _ => return None,
        })
    }

    /// For kinds without rules: what a `Ready` condition says, if there is one.
    fn ready_condition(&self) -> Option<Health> {
        self.conditions().filter(|condition| condition.kind == "Ready").find_map(|condition| match condition
            .status
        {
            "True" => Some(Health::Ready),
            "False" | "Unknown" => Some(Health::progressing(condition.says())),
            _ => None,
        })
    }

    fn service(&self) -> Health {
        if self.text(&["spec", "type"]) == "LoadBalancer" && self.text(&["spec", "clusterIP"]).is_empty() {
            return Health::progressing("it has no cluster IP yet");
        }
        Health::Ready
    }

    fn pod(&self) -> Health {
        match self.text(&["status", "phase"]) {
            // Whether it did what it was there for is not said by its phase.
            "Succeeded" | "Failed" => Health::Ready,
            "Running" if self.has("Ready", "True") => Health::Ready,
            "Running" => match self.crash_looping().as_slice() {
                [] => Health::progressing("it is running, but not ready"),
                names => Health::failed(format!("containers crash again and again: {}", names.join(", "))),
            },
            "Pending" => {
                let unschedulable = self.conditions().find(|condition| {
                    condition.is("PodScheduled", "False") && condition.reason == "Unschedulable"
                });
                Health::progressing(unschedulable.map_or_else(
                    || "it is pending".to_owned(),
                    |condition| format!("it cannot be scheduled: {}", condition.says()),
                ))
            }
            "" => Health::progressing("no node has seen it yet"),
            phase => Health::progressing(format!("its phase is {phase}")),
        }
    }

    fn crash_looping(&self) -> Vec<&'a str> {
        let statuses = self.find(&["status", "containerStatuses"]).and_then(Value::as_array);
        let loops = |status: &&Value| {
            status.pointer("/state/waiting/reason").and_then(Value::as_str) == Some("CrashLoopBackOff")
        };
        let name = |status: &'a Value| status.get("name").and_then(Value::as_str);
        statuses.into_iter().flatten().filter(loops).filter_map(name).collect()
    }

    fn claim(&self) -> Health {
        match self.text(&["status", "phase"]) {
            "Bound" => Health::Ready,
            "" => Health::progressing("it is not bound yet"),
            phase => Health::progressing(format!("it is not bound: its phase is {phase}")),
        }
    }

    fn replicas(&self) -> i64 {
        self.number(&["spec", "replicas"]).unwrap_or(1)
    }

    fn stateful_set(&self) -> Health {
        if self.text(&["spec", "updateStrategy", "type"]) == "OnDelete" {
            return Health::Ready;
        }
        let wanted = self.replicas();
        let there = self.count("replicas");
        if let Some(waits) = too_few(wanted, [("Replicas", there), ("Ready", self.count("readyReplicas"))])
            .or_else(|| too_many(wanted, there))
        {
            return waits;
        }
        let partition = ["spec", "updateStrategy", "rollingUpdate", "partition"];
        if let Some(partition) = self.number(&partition).filter(|partition| *partition != -1) {
            let wanted = wanted.saturating_sub(partition);
            return too_few(wanted, [("Updated", self.count("updatedReplicas"))]).unwrap_or(Health::Ready);
        }
        if let Some(waits) = too_few(wanted, [("Current", self.count("currentReplicas"))]) {
            return waits;
        }
        if self.text(&["status", "currentRevision"]) != self.text(&["status", "updateRevision"]) {
            return Health::progressing("not all replicas are of the latest revision");
        }
        Health::Ready
    }

    fn deployment(&self) -> Health {
        // Without a deadline there is no condition that tells of progress.
        let deadline = self.number(&["spec", "progressDeadlineSeconds"]).unwrap_or(i64::from(i32::MAX));
        let mut progressed = deadline == i64::from(i32::MAX);
        let mut available = false;
        for condition in self.conditions() {
            match condition.kind {
                "Progressing" if condition.reason == "ProgressDeadlineExceeded" => {
                    return Health::failed("it made no progress within its deadline");
                }
                "Progressing" => {
                    progressed |= condition.status == "True" && condition.reason == "NewReplicaSetAvailable";
                }
                "Available" => available |= condition.status == "True",
                _ => {}
            }
        }
        let wanted = self.replicas();
        let (there, updated) = (self.count("replicas"), self.count("updatedReplicas"));
        too_few(wanted, [("Replicas", there), ("Updated", updated)])
            .or_else(|| too_many(wanted, there))
            .or_else(|| too_few(updated, [("Available", self.count("availableReplicas"))]))
            .or_else(|| too_few(wanted, [("Ready", self.count("readyReplicas"))]))
            .unwrap_or_else(|| match (progressed, available) {
                (false, _) => Health::progressing("its latest ReplicaSet is not available"),
                (_, false) => Health::progressing("it is not available"),
                _ => Health::Ready,
            })
    }

    fn replica_set(&self) -> Health {
        if let Some(failure) = self.conditions().find(|condition| condition.is("ReplicaFailure", "True")) {
            return Health::progressing(format!("its Pods cannot be made: {}", failure.says()));
        }
        let wanted = self.replicas();
        let counts = [
            ("Labelled", self.count("fullyLabeledReplicas")),
            ("Available", self.count("availableReplicas")),
            ("Ready", self.count("readyReplicas")),
        ];
        too_few(wanted, counts).or_else(|| too_many(wanted, self.count("replicas"))).unwrap_or(Health::Ready)
    }

    fn daemon_set(&self) -> Health {
        // Its controller always says which generation it has seen.
        if self.number(&["metadata", "generation"]).is_none()
            || self.number(&["status", "observedGeneration"]).is_none()
        {
            return Health::progressing("its controller has not seen it yet");
        }
        let Some(wanted) = self.number(&["status", "desiredNumberScheduled"]).filter(|wanted| *wanted != -1)
        else {
            return Health::progressing("its controller has not counted the nodes yet");
        };
        let counts = [
            ("Current", self.count("currentNumberScheduled")),
            ("Updated", self.count("updatedNumberScheduled")),
            ("Available", self.count("numberAvailable")),
            ("Ready", self.count("numberReady")),
        ];
        too_few(wanted, counts).unwrap_or(Health::Ready)
    }

    /// A job is as it should be while it runs: how long it may take is its own affair.
    fn job(&self) -> Health {
        for condition in self.conditions() {
            if condition.is("Complete", "True") {
                return Health::Ready;
            }
            if condition.is("Failed", "True") {
                return Health::failed(format!("it failed: {}", condition.says()));
            }
        }
        if self.text(&["status", "startTime"]).is_empty() {
            return Health::progressing("it has not started yet");
        }
        Health::Ready
    }

    fn definition(&self) -> Health {
        for condition in self.conditions() {
            if condition.is("Established", "True") {
                return Health::Ready;
            }
            let refused = condition.is("NamesAccepted", "False")
                || (condition.is("Established", "False") && condition.reason != "Installing");
            if refused {
                return Health::failed(condition.says());
            }
        }
        Health::progressing("it is not established yet")
    }

    fn api_service(&self) -> Health {
        match self.conditions().find(|condition| condition.kind == "Available") {
            Some(condition) if condition.status == "True" => Health::Ready,
            Some(condition) => Health::progressing(condition.says()),
            None => Health::progressing("it is not known yet whether it is available"),
        }
    }
}

/// The first count that is short of what is wanted.
fn too_few<const N: usize>(wanted: i64, counts: [(&str, i64); N]) -> Option<Health> {
    let (what, count) = counts.into_iter().find(|(_, count)| wanted > *count)?;
    Some(Health::progressing(format!("{what}: {count}/{wanted}")))
}

fn too_many(wanted: i64, there: i64) -> Option<Health> {
    (there > wanted).then(|| Health::progressing(format!("{} more replicas have to go", there - wanted)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    enum Is {
        Ready,
        Progressing,
        Failed,
    }
    use Is::{Failed, Progressing, Ready};

    fn check(name: &str, api_version: &str, kind: &str, rest: Value, expected: &Is) {
        let mut object = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": "test", "namespace": "qual", "generation": 1},
        });
        for (field, value) in rest.as_object().unwrap() {
            match (field.as_str(), value) {
                ("metadata", Value::Object(fields)) => {
                    object["metadata"].as_object_mut().unwrap().extend(fields.clone());
                }
                _ => object[field] = value.clone(),
            }
        }
        let health = of_object(object.as_object().unwrap());
        let as_expected = match expected {
            Ready => matches!(health, Health::Ready),
            Progressing => matches!(health, Health::Progressing { .. }),
            Failed => matches!(health, Health::Failed { .. }),
        };
        assert!(as_expected, "{name}: {health:?}");
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason})
    }

    /// The cases of `status_compute_test.go`, in its order and under its names.
    #[test]
    fn objects_are_judged_as_kstatus_does() {
        let unschedulable = condition("PodScheduled", "False", "Unschedulable");
        let sts = |current: i64, ready: i64, replicas: i64| {
            json!({"spec": {"replicas": 4}, "status": {"observedGeneration": 1, "currentReplicas": current,
                "readyReplicas": ready, "replicas": replicas}})
        };
        let ds = |available: i64, ready: i64, generation: i64| {
            json!({"metadata": {"generation": generation}, "status": {"desiredNumberScheduled": 4,
                "currentNumberScheduled": 4, "updatedNumberScheduled": 4, "numberAvailable": available,
                "numberReady": ready, "observedGeneration": 1}})
        };
        let dep = |spec: Value, conditions: Value| {
            json!({"spec": spec, "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 1,
                "availableReplicas": 1, "replicas": 1, "conditions": conditions}})
        };
        let rs = |replicas: i64, ready: i64, available: i64, conditions: Value| {
            json!({"spec": {"replicas": replicas}, "status": {"observedGeneration": 1, "replicas": replicas,
                "readyReplicas": ready, "availableReplicas": available, "fullyLabeledReplicas": replicas,
                "conditions": conditions}})
        };
        let available = condition("Available", "True", "");
        let progressed = condition("Progressing", "True", "NewReplicaSetAvailable");
        let with = |conditions: Value| json!({"status": {"conditions": conditions}});
        let pods = [
            ("podNoStatus", json!({}), Progressing),
            (
                "podReady",
                json!({"status": {"phase": "Running", "conditions": [condition("Ready", "True", "")]}}),
                Ready,
            ),
            (
                "podCompletedSuccessfully",
                json!({"status": {"phase": "Succeeded", "conditions": [condition("Ready", "False", "PodCompleted")]}}),
                Ready,
            ),
            (
                "podCompletedFailed",
                json!({"status": {"phase": "Failed", "conditions": [condition("Ready", "False", "PodCompleted")]}}),
                Ready,
            ),
            // podUnschedulable is failed there: a difference that is meant.
            (
                "podBeingScheduled",
                json!({"status": {"phase": "Pending", "conditions": [unschedulable]}}),
                Progressing,
            ),
            (
                "podCrashLooping",
                json!({"status": {"phase": "Running", "conditions": [unschedulable],
                    "containerStatuses": [{"name": "nginx", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
                Failed,
            ),
        ];
        for (name, rest, expected) in pods {
            check(name, "v1", "Pod", rest, &expected);
        }
        for (name, rest, expected) in [
            ("pvcNoStatus", json!({}), Progressing),
            ("pvcBound", json!({"status": {"phase": "Bound"}}), Ready),
        ] {
            check(name, "v1", "PersistentVolumeClaim", rest, &expected);
        }
        for (name, rest, expected) in [
            ("stsNoStatus", json!({}), Progressing),
            ("stsBadStatus", json!({"status": {"observedGeneration": 1, "currentReplicas": 1}}), Progressing),
            ("stsOK", sts(4, 4, 4), Ready),
            ("stsLessReady", sts(4, 2, 4), Progressing),
            ("stsLessCurrent", sts(2, 4, 4), Progressing),
            ("stsExtraPods", sts(4, 4, 8), Progressing),
        ] {
            check(name, "apps/v1", "StatefulSet", rest, &expected);
        }
        for (name, rest, expected) in [
            ("dsNoStatus", json!({}), Progressing),
            ("dsBadStatus", json!({"status": {"observedGeneration": 1, "currentReplicas": 1}}), Progressing),
            ("dsOK", ds(4, 4, 1), Ready),
            ("dsLessReady", ds(4, 2, 1), Progressing),
            ("dsDifferentGeneration", ds(4, 4, 2), Progressing),
            ("dsLessAvailable", ds(2, 4, 1), Progressing),
        ] {
            check(name, "apps/v1", "DaemonSet", rest, &expected);
        }
        for (name, rest, expected) in [
            ("depNoStatus", json!({}), Progressing),
            ("depOK", dep(json!({}), json!([progressed, available])), Ready),
            (
                "depNotProgressing",
                dep(
                    json!({"progressDeadlineSeconds": 45}),
                    json!([condition("Progressing", "False", "Some reason"), available]),
                ),
                Progressing,
            ),
            ("depNoProgressDeadlineSeconds", dep(json!({}), json!([available])), Ready),
            (
                "depNotAvailable",
                dep(json!({}), json!([progressed, condition("Available", "False", "")])),
                Progressing,
            ),
            // Not among its cases, but its rule.
            (
                "depDeadlineExceeded",
                dep(json!({}), json!([condition("Progressing", "False", "ProgressDeadlineExceeded")])),
                Failed,
            ),
        ] {
            check(name, "apps/v1", "Deployment", rest, &expected);
        }
        for (name, rest, expected) in [
            ("rsNoStatus", json!({}), Progressing),
            ("rsOK1", rs(2, 2, 2, json!([condition("ReplicaFailure", "False", "")])), Ready),
            ("rsOK2", rs(2, 2, 2, json!([])), Ready),
            ("rsLessAvailable", rs(4, 4, 2, json!([])), Progressing),
            ("rsLessReady", rs(4, 2, 4, json!([])), Progressing),
            ("rsReplicaFailure", rs(4, 4, 4, json!([condition("ReplicaFailure", "True", "")])), Progressing),
        ] {
            check(name, "apps/v1", "ReplicaSet", rest, &expected);
        }
        for (name, generation, expected) in [("pdbNotObserved", 2, Progressing), ("pdbObserved", 1, Ready)] {
            let rest = json!({"metadata": {"generation": generation}, "status": {"observedGeneration": 1}});
            check(name, "policy/v1beta1", "PodDisruptionBudget", rest, &expected);
        }
        for (name, rest, expected) in [
            ("crdNoStatus", json!({}), Ready),
            ("crdReady", with(json!([condition("Ready", "True", "AllOk")])), Ready),
            (
                "crdNotReady",
                json!({"status": {"observedGeneration": 1, "conditions": [condition("Ready", "False", "NotReadyYet")]}}),
                Progressing,
            ),
            ("crdNoCondition", with(json!([condition("SomeCondition", "False", "")])), Ready),
            (
                "crdMismatchStatusGeneration",
                json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}),
                Progressing,
            ),
            // Not among its cases, but its rules.
            (
                "reconciling",
                with(json!([condition("Ready", "True", ""), condition("Reconciling", "True", "")])),
                Progressing,
            ),
            (
                "stalled",
                with(json!([condition("Ready", "False", ""), condition("Stalled", "True", "")])),
                Failed,
            ),
            ("terminating", json!({"metadata": {"deletionTimestamp": "2019-06-04T01:17:13Z"}}), Progressing),
            ("nothing of this is a status", json!({"status": {"conditions": "x"}, "spec": []}), Ready),
        ] {
            check(name, "something/v1", "MyCR", rest, &expected);
        }
        for (name, rest, expected) in [
            ("jobNoStatus", json!({}), Progressing),
            (
                "jobComplete",
                json!({"status": {"succeeded": 1, "active": 0, "conditions": [condition("Complete", "True", "")]}}),
                Ready,
            ),
            (
                "jobFailed",
                json!({"spec": {"completions": 4}, "status": {"succeeded": 3, "failed": 1,
                    "conditions": [condition("Failed", "True", "JobFailed")]}}),
                Failed,
            ),
            (
                "jobInProgress",
                json!({"spec": {"completions": 10, "parallelism": 2}, "status": {"startTime": "2019-06-04T01:17:13Z",
                    "succeeded": 3, "failed": 1, "active": 2,
                    "conditions": [condition("Failed", "False", ""), condition("Complete", "False", "")]}}),
                Ready,
            ),
        ] {
            check(name, "batch/v1", "Job", rest, &expected);
        }
        for (name, rest) in [("cronjobNoStatus", json!({})), ("cronjobWithStatus", json!({"status": null}))] {
            check(name, "batch/v1", "CronJob", rest, &Ready);
        }
        for (name, rest, expected) in [
            ("serviceDefault", json!({}), Ready),
            ("serviceNodePort", json!({"spec": {"type": "NodePort"}}), Ready),
            ("serviceLBnok", json!({"spec": {"type": "LoadBalancer"}}), Progressing),
            ("serviceLBok", json!({"spec": {"type": "LoadBalancer", "clusterIP": "1.2.3.4"}}), Ready),
        ] {
            check(name, "v1", "Service", rest, &expected);
        }
        for (name, rest, expected) in [
            ("crdNoConditions", json!({}), Progressing),
            (
                "crdInstalling",
                with(json!([
                    condition("NamesAccepted", "True", "NoConflicts"),
                    condition("Established", "False", "Installing"),
                ])),
                Progressing,
            ),
            ("crdNamesNotAccepted", with(json!([condition("NamesAccepted", "False", "SomeReason")])), Failed),
            (
                "crdEstablished",
                with(json!([
                    condition("NamesAccepted", "True", "NoConflicts"),
                    condition("Established", "True", "InitialNamesAccepted"),
                ])),
                Ready,
            ),
        ] {
            check(name, "apiextensions.k8s.io/v1", "CustomResourceDefinition", rest, &expected);
        }
        for (name, rest, expected) in [
            ("no status", json!({}), Progressing),
            ("unavailable", with(json!([condition("Available", "False", "ServiceNotFound")])), Progressing),
            ("available", with(json!([available])), Ready),
        ] {
            check(name, "apiregistration.k8s.io/v1", "APIService", rest, &expected);
        }
    }
}
