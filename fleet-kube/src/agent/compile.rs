//! What concerns one cluster, out of all definitions. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_core::catalog::{OriginRule, TriggerDef};
use serde_json::value::RawValue;

use super::bundle::Bundle;
use crate::connection::{ClusterDefinition, Connection};
use crate::definitions::{Definitions, Kind, ObjectId, Transport};

/// What an agent gets.
pub(super) struct Compiled {
    pub(super) bundle: Bundle,
    /// Triggers that would concern the cluster, but ask for what an agent does not do.
    pub(super) left_out: Vec<Arc<str>>,
}

/// Puts together what concerns a cluster: itself, the triggers and profiles that select it, their sources, and what all
/// these refer to.
pub(super) fn compile(definitions: &Definitions, cluster: &ClusterDefinition) -> Compiled {
    let mut wanted = BTreeSet::new();
    let mut left_out = Vec::new();
    wanted.insert(ObjectId::namespaced(Kind::Cluster, cluster.id.namespace(), cluster.id.name()));
    for (name, trigger) in &definitions.catalog.triggers {
        if !concerns(definitions, trigger, cluster) {
            continue;
        }
        if goes_elsewhere(definitions, trigger, cluster) {
            left_out.push(Arc::clone(name));
            continue;
        }
        wanted.insert(ObjectId::of_rule(name));
        if let Some(source) = &trigger.source {
            wanted.insert(ObjectId::cluster_scoped(Kind::EventSource, source));
        }
    }
    let referred: Vec<ObjectId> = wanted.iter().flat_map(|id| definitions.references_of(id)).collect();
    wanted.extend(referred);
    let originals = wanted.iter().filter_map(|id| definitions.original(id));
    let objects = originals.filter_map(|text| RawValue::from_string(text.to_owned()).ok()).collect();
    Compiled { bundle: Bundle::new(cluster.id.clone(), definitions.catalog.complete, objects), left_out }
}

/// Whether events of a trigger may come from a cluster, or a profile is for it.
fn concerns(definitions: &Definitions, trigger: &TriggerDef, cluster: &ClusterDefinition) -> bool {
    let selects =
        trigger.source_clusters.matches(&cluster.labels) || trigger.cluster_refs.contains(&cluster.id);
    let source = trigger.source.as_ref().and_then(|source| definitions.catalog.sources.get(source));
    let from_another = matches!(
        source.and_then(|source| source.origin.as_ref()),
        Some(OriginRule::Fixed(origin)) if *origin != cluster.id
    );
    selects && !from_another
}

/// Whether a trigger puts anything into other clusters.
fn goes_elsewhere(definitions: &Definitions, trigger: &TriggerDef, cluster: &ClusterDefinition) -> bool {
    let Some(destination) = &trigger.destination_clusters else { return false };
    !destination.matches(&cluster.labels)
        || definitions.clusters.iter().any(|it| it.id != cluster.id && destination.matches(&it.labels))
}

/// Whether an EventSource is read by agents and by nobody else: because its events come from a cluster with an agent, or
/// because the triggers of it select such clusters only. The NATS in each cluster is not meant: who reads that follows
/// from the cluster.
pub fn is_read_by_agents_alone(definitions: &Definitions, source: &str) -> bool {
    if matches!(definitions.transports.get(source), Some(Transport::ClusterNats(_) | Transport::Objects(_))) {
        return false;
    }
    let by_agent = |it: &&ClusterDefinition| matches!(it.connection, Connection::Agent);
    let mut agents = definitions.clusters.iter().filter(by_agent).peekable();
    if agents.peek().is_none() {
        return false;
    }
    let origin = definitions.catalog.sources.get(source).and_then(|source| source.origin.as_ref());
    if let Some(OriginRule::Fixed(origin)) = origin {
        return agents.any(|it| it.id == *origin);
    }
    let triggers = definitions.catalog.triggers.values();
    let triggers: Vec<_> = triggers.filter(|it| it.source.as_deref() == Some(source)).collect();
    let selected = |it: &ClusterDefinition| {
        triggers.iter().any(|trigger| {
            let destination = trigger.destination_clusters.as_ref();
            trigger.source_clusters.matches(&it.labels)
                || destination.is_some_and(|destination| destination.matches(&it.labels))
        })
    };
    let from_here = definitions.clusters.iter().filter(|it| !by_agent(it)).any(selected);
    agents.any(selected) && !from_here
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::definitions::RawObject;

    fn object(kind: &str, name: &str, spec: Value) -> Value {
        json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
    }

    fn cluster(namespace: &str, name: &str, env: &str, spec: Value) -> Value {
        json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster", "spec": spec,
            "metadata": {"namespace": namespace, "name": name, "labels": {"env": env, "name": name}}})
    }

    fn trigger(name: &str, source: &str, cluster: &str, template: &str) -> Value {
        object(
            "EventTrigger",
            name,
            json!({
                "eventSourceName": source, "oneForEvent": true,
                "sourceClusterSelector": {"matchLabels": {"name": cluster}},
                "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": template}],
            }),
        )
    }

    fn config_map(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name},
            "data": {"a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n"}})
    }

    fn nats(name: &str, secret: &str, origin: Value) -> Value {
        let mut spec = json!({"nats": {"connectionSecretRef": {"namespace": "default", "name": secret}, "subjects": ["x"]}});
        if !origin.is_null() {
            spec["origin"] = origin;
        }
        object("EventSource", name, spec)
    }

    fn secret(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "default", "name": name},
            "stringData": {"url": "nats://a:4222", "token": "hunter2"}})
    }

    fn read(objects: impl IntoIterator<Item = Value>) -> Definitions {
        Definitions::read(objects.into_iter().map(RawObject::in_api), Vec::new(), None)
    }

    /// What a cluster's agent gets, as `Kind name`, and what it does not.
    fn compiled(definitions: &Definitions, name: &str) -> (Vec<String>, Vec<String>) {
        let cluster = definitions.clusters.iter().find(|it| it.id.name() == name).unwrap();
        let Compiled { bundle, left_out } = compile(definitions, cluster);
        let named = |object: RawObject| {
            let text =
                |pointer: &str| object.value.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
            format!("{} {}", text("/kind"), text("/metadata/name"))
        };
        let objects = bundle.objects().into_iter().map(named).collect();
        (objects, left_out.iter().map(ToString::to_string).collect())
    }

    fn fleet() -> Vec<Value> {
        let mut elsewhere = trigger("elsewhere", "shared", "one", "tpl-one");
        elsewhere["spec"]["destinationClusterSelector"] = json!({"matchLabels": {"env": "production"}});
        let profile = object(
            "ClusterProfile",
            "base",
            json!({
                "clusterSelector": {"matchLabels": {"env": "production"}},
                "policyRefs": [{"kind": "Secret", "namespace": "default", "name": "profile"}],
            }),
        );
        vec![
            cluster("p1", "one", "production", json!({"agent": {}})),
            cluster("p2", "two", "production", json!({"agent": {}})),
            cluster("p3", "three", "staging", json!({"kubeconfigSecretRef": {"name": "kubeconfig"}})),
            nats("shared", "conn-shared", Value::Null),
            nats("only-two", "conn-two", json!({"fixed": {"namespace": "p2", "name": "two"}})),
            trigger("of-one", "shared", "one", "tpl-one"),
            trigger("of-two", "only-two", "two", "tpl-two"),
            trigger("one-hears-two", "only-two", "one", "tpl-one"),
            trigger("of-three", "shared", "three", "tpl-three"),
            elsewhere,
            profile,
            config_map("tpl-one"),
            config_map("tpl-two"),
            config_map("tpl-three"),
            config_map("nobodys"),
            secret("conn-shared"),
            secret("conn-two"),
            secret("profile"),
        ]
    }

    #[test]
    fn each_gets_what_concerns_it_and_nothing_else() {
        let definitions = read(fleet());
        let (one, left_out) = compiled(&definitions, "one");
        let expected = [
            "EventSource shared",
            "EventTrigger of-one",
            "ClusterProfile base",
            "Cluster one",
            "ConfigMap tpl-one",
            "Secret conn-shared",
            "Secret profile",
        ];
        assert_eq!((one, left_out), (expected.map(str::to_owned).to_vec(), vec!["elsewhere".to_owned()]));
        let (two, _) = compiled(&definitions, "two");
        let expected = [
            "EventSource only-two",
            "EventTrigger of-two",
            "ClusterProfile base",
            "Cluster two",
            "ConfigMap tpl-two",
            "Secret conn-two",
            "Secret profile",
        ];
        assert_eq!(two, expected);
        // What comes from a cluster with an agent is read there; what others send too, here as well.
        assert!(is_read_by_agents_alone(&definitions, "only-two"));
        assert!(!is_read_by_agents_alone(&definitions, "shared"));
        let without_three = fleet().into_iter().filter(|it| it["metadata"]["name"] != "three");
        assert!(is_read_by_agents_alone(&read(without_three), "shared"));
    }

    #[test]
    fn a_namespace_is_one_agents_alone() {
        let definitions = read([
            cluster("p1", "one", "production", json!({"agent": {}})),
            cluster("p1", "two", "production", json!({"inCluster": {}})),
            cluster("p2", "three", "production", json!({"agent": {}})),
        ]);
        let problems: Vec<String> = definitions.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("Cluster p1/one: spec.agent: a Cluster with an agent needs a namespace of its own, and Cluster p1/two"),
            "{problems:?}"
        );
    }

    #[test]
    fn what_is_missing_at_the_hub_is_not_gone_for_agents() {
        let broken = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventTrigger",
            "metadata": {"name": "of-one"}, "spec": {"eventSourceName": 7}});
        let mut objects = fleet();
        objects.retain(|it| it["metadata"]["name"] != "of-one");
        objects.push(broken);
        let definitions = read(objects);
        assert!(!compile(&definitions, &definitions.clusters[0]).bundle.complete());
        // With a good version from before, that one is given on.
        let good = read(fleet());
        let broken = definitions;
        let again = Definitions::read(
            fleet().into_iter().map(|mut it| {
                if it["metadata"]["name"] == "of-one" {
                    it["spec"]["eventSourceName"] = json!(7);
                }
                RawObject::in_api(it)
            }),
            Vec::new(),
            Some(&good),
        );
        assert!(!broken.problems.is_empty() && again.catalog.complete);
        assert!(compiled(&again, "one").0.contains(&"EventTrigger of-one".to_owned()));
    }
}
