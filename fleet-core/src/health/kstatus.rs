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
mod tests;
