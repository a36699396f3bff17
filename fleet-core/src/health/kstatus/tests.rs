//! What the rules say of objects as they are seen.

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
    for (name, rest, expected) in
        [("pvcNoStatus", json!({}), Progressing), ("pvcBound", json!({"status": {"phase": "Bound"}}), Ready)]
    {
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
        ("stalled", with(json!([condition("Ready", "False", ""), condition("Stalled", "True", "")])), Failed),
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
