//! What concerns one cluster, out of all definitions. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_core::catalog::{OriginRule, TriggerDef, Withheld};
use fleet_core::cluster::Cluster;
use fleet_core::engine::ResourcesOfCluster;
use fleet_core::policy::StopMatching;
use fleet_core::render::Renderer;
use fleet_core::resource::{ResourceId, Resources};
use serde_json::value::RawValue;

use super::bundle::Bundle;
use super::readers::relayed_sources;
use crate::connection::ClusterDefinition;
use crate::definitions::{Definitions, Kind, ObjectId, Transport};

/// What an agent gets.
pub(super) struct Compiled {
    pub(super) bundle: Bundle,
    /// Triggers that would concern the cluster, but ask for what an agent does not do.
    pub(super) left_out: LeftOut,
    /// The objects of the hub that templates see there.
    pub(super) refers: BTreeSet<ResourceId>,
}

/// Triggers that an agent is not told of, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Which objects of the hub their templates see depends on the event.
    pub(super) by_event: Vec<Arc<str>>,
    /// What is local in them: it would be put into the management cluster, where an agent writes nothing.
    pub(super) local: Vec<Arc<str>>,
    /// They put something into other clusters because of objects in this one: of what is live the hub would have to know
    /// all at any time, and that is not handed on.
    pub(super) objects: Vec<Arc<str>>,
}

/// Puts together what concerns a cluster: itself, the triggers and profiles that select it, their sources, and what all
/// these refer to, as far as it is known.
pub(super) fn compile(
    definitions: &Definitions,
    cluster: &ClusterDefinition,
    resources: &Resources,
    renderer: &dyn Renderer,
) -> Compiled {
    let mut wanted = BTreeSet::new();
    let mut left_out = LeftOut::default();
    let mut refers = BTreeSet::new();
    let mut withheld = BTreeMap::new();
    let target = Cluster {
        annotations: cluster.annotations.clone(),
        ..Cluster::new(cluster.id.clone(), cluster.labels.clone())
    };
    wanted.insert(ObjectId::namespaced(Kind::Cluster, cluster.id.namespace(), cluster.id.name()));
    for (name, trigger) in &definitions.catalog.triggers {
        if !concerns(definitions, trigger, cluster) {
            if trigger.policy.stop_matching == StopMatching::LeavePolicies {
                // It may have concerned it before.
                withheld.insert(Arc::clone(name), Withheld::Leaves);
            }
            continue;
        }
        let seen = ResourcesOfCluster::new(trigger, &target, renderer);
        if !seen.by_event.is_empty() {
            left_out.by_event.push(Arc::clone(name));
            withheld.insert(Arc::clone(name), Withheld::Unread);
            continue;
        }
        if !trigger.local.is_empty() {
            left_out.local.push(Arc::clone(name));
            if trigger.payload.is_empty() {
                continue;
            }
        }
        let of_objects = trigger.source.as_ref().and_then(|source| definitions.transports.get(source));
        if trigger.destination_clusters.is_some() && matches!(of_objects, Some(Transport::Objects(_))) {
            // In its own cluster the agent does what it asks for.
            left_out.objects.push(Arc::clone(name));
        }
        refers.extend(seen.known);
        wanted.insert(ObjectId::of_rule(name));
        if let Some(source) = &trigger.source {
            wanted.insert(ObjectId::cluster_scoped(Kind::EventSource, source));
        }
    }
    let referred: Vec<ObjectId> = wanted.iter().flat_map(|id| definitions.references_of(id)).collect();
    wanted.extend(referred);
    let originals = wanted.iter().filter_map(|id| definitions.original(id));
    let objects = originals.filter_map(|text| RawValue::from_string(text.to_owned()).ok()).collect();
    let bundle = Bundle::new(cluster.id.clone(), definitions.catalog.complete, objects);
    let bundle = bundle.with_resources(refers.iter().map(|id| (id, resources.look_up(id))));
    let bundle = bundle.relaying(relayed_sources(definitions, cluster)).withholding(withheld);
    Compiled { bundle, left_out, refers }
}

impl LeftOut {
    /// What is left out, and what to do about it; nothing, if nothing is.
    pub(super) fn told(&self) -> Option<String> {
        let Self { by_event, local, objects } = self;
        let named = |names: &[Arc<str>]| names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
        let mut told = Vec::new();
        if !by_event.is_empty() {
            told.push(format!(
                "an agent is given objects of the hub before there is an event, so it does not know of: {}, whose \
                 templateResourceRefs depend on the event; have them name objects by the cluster alone",
                named(by_event)
            ));
        }
        if !local.is_empty() {
            told.push(format!(
                "what is local (deploymentType: Local) is not put into the management cluster for a cluster with an agent, \
                 and of these something is: {}; have it in a definition that does not select this cluster",
                named(local)
            ));
        }
        if !objects.is_empty() {
            told.push(format!(
                "what is told of objects in a cluster with an agent is not handed on to the hub, so these put nothing into other \
                 clusters because of them: {}; have their sourceClusterSelector leave this cluster out, or register it \
                 without an agent",
                named(objects)
            ));
        }
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// Whether events of a trigger may come from a cluster, or a profile is for it.
pub(super) fn concerns(definitions: &Definitions, trigger: &TriggerDef, cluster: &ClusterDefinition) -> bool {
    let selects =
        trigger.source_clusters.matches(&cluster.labels) || trigger.cluster_refs.contains(&cluster.id);
    let source = trigger.source.as_ref().and_then(|source| definitions.catalog.sources.get(source));
    let from_another = matches!(
        source.and_then(|source| source.origin.as_ref()),
        Some(OriginRule::Fixed(origin)) if *origin != cluster.id
    );
    selects && !from_another
}

#[cfg(test)]
mod tests {
    use fleet_core::minijinja::MinijinjaRenderer;
    use fleet_core::resource::{Others, Resource, ResourceState};
    use serde_json::{Value, json};

    use super::super::readers::is_read_by_agents_alone;
    use super::*;
    use crate::connection::Connection;
    use crate::definitions::{Parsed, RawObject};

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

    /// What a cluster's agent gets, as `Kind name`, and which sources it hands on.
    fn compiled(definitions: &Definitions, name: &str) -> (Vec<String>, Vec<String>) {
        let cluster = definitions.clusters.iter().find(|it| it.id.name() == name).unwrap();
        compiled_names(&compile(definitions, cluster, &Resources::default(), &MinijinjaRenderer))
    }

    fn compiled_names(Compiled { bundle, .. }: &Compiled) -> (Vec<String>, Vec<String>) {
        let named = |object: RawObject| {
            let text =
                |pointer: &str| object.value.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
            format!("{} {}", text("/kind"), text("/metadata/name"))
        };
        let objects = bundle.objects().into_iter().map(named).collect();
        (objects, bundle.relayed().iter().map(ToString::to_string).collect())
    }

    fn fleet() -> Vec<Value> {
        let elsewhere = |source: &str| {
            let mut elsewhere = trigger(&format!("elsewhere-{source}"), source, "one", "tpl-one");
            elsewhere["spec"]["destinationClusterSelector"] = json!({"matchLabels": {"env": "staging"}});
            elsewhere
        };
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
            nats("only-one", "conn-shared", json!({"fixed": {"namespace": "p1", "name": "one"}})),
            object("EventSource", "http", json!({"http": {}})),
            object("EventSource", "in-clusters", json!({"nats": {"clusterSecretRef": {}}})),
            elsewhere("shared"),
            elsewhere("only-one"),
            elsewhere("http"),
            elsewhere("in-clusters"),
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
        let (one, relayed) = compiled(&definitions, "one");
        let expected = [
            "EventSource http",
            "EventSource in-clusters",
            "EventSource only-one",
            "EventSource shared",
            "EventTrigger elsewhere-http",
            "EventTrigger elsewhere-in-clusters",
            "EventTrigger elsewhere-only-one",
            "EventTrigger elsewhere-shared",
            "EventTrigger of-one",
            "ClusterProfile base",
            "Cluster one",
            "ConfigMap tpl-one",
            "Secret conn-shared",
            "Secret profile",
        ];
        // The hub reads what clusters share by itself.
        let handed_on = ["http", "in-clusters", "only-one"].map(str::to_owned).to_vec();
        assert_eq!((one, relayed), (expected.map(str::to_owned).to_vec(), handed_on));
        let (two, relayed) = compiled(&definitions, "two");
        assert_eq!(relayed, Vec::<String>::new());
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
    fn what_templates_see_of_the_hub_is_given_along_unless_only_an_event_tells_what_it_is() {
        let refers = |name: &str, to: &str| {
            let mut trigger = trigger(name, "shared", "one", "tpl-one");
            trigger["spec"]["templateResourceRefs"] = json!([{"identifier": "plan",
                "resource": {"apiVersion": "v1", "kind": "Secret", "name": to}}]);
            trigger
        };
        let mut objects = fleet();
        objects.push(refers("by-name", "plans"));
        objects.push(refers("by-label", "plan-{{ cluster.labels.env }}"));
        objects.push(refers("by-event", "plan-{{ event.subject }}"));
        let definitions = read(objects);
        let id = |name: &str| ResourceId {
            api_version: "v1".into(),
            kind: "Secret".into(),
            // The Cluster's own.
            namespace: "p1".into(),
            name: name.into(),
        };
        let secret = Arc::new(Resource::new(json!({"kind": "Secret", "data": {"plan": "hunter2"}})));
        let hub = |known: &[(&str, ResourceState)]| Resources {
            known: known.iter().map(|(name, state)| (id(name), state.clone())).collect(),
            others: Others::Unread,
        };
        let compiled = |resources: &Resources| {
            let cluster = definitions.clusters.iter().find(|it| it.id.name() == "one").unwrap();
            compile(&definitions, cluster, resources, &MinijinjaRenderer)
        };
        let nothing_yet = compiled(&hub(&[]));
        assert_eq!(nothing_yet.refers, [id("plans"), id("plan-production")].into());
        assert_eq!(nothing_yet.bundle.resources(), hub(&[]), "what was not looked up is not missing");
        assert_eq!(nothing_yet.left_out.by_event, ["by-event".into()]);
        let told = nothing_yet.left_out.told().unwrap();
        assert!(told.contains("does not know of: by-event,"), "{told}");
        let known = hub(&[
            ("plans", ResourceState::Found(secret)),
            ("plan-production", ResourceState::Unavailable("may not be read".into())),
            ("nobodys", ResourceState::Absent),
        ]);
        let bundle = compiled(&known).bundle;
        let (written, digest) = bundle.to_secret("").unwrap().unwrap();
        let (read, _) = Bundle::of_secret(&written, &definitions.clusters[0].id).unwrap();
        let given: Vec<_> = read.resources().known.into_iter().collect();
        let expected: Vec<_> = known.known.into_iter().filter(|(id, _)| &*id.name != "nobodys").collect();
        assert_eq!(given, expected);
        assert!(!format!("{bundle:?}{:?}", read.resources()).contains("hunter2"));
        // Another version is another bundle.
        assert_ne!(
            compiled(&hub(&[("plans", ResourceState::Absent)])).bundle.to_secret("").unwrap().unwrap().1,
            digest
        );
    }

    #[test]
    fn what_an_agent_is_not_told_of_is_not_gone() {
        let mut objects = fleet();
        let mut by_event = trigger("by-event", "shared", "one", "tpl-one");
        by_event["spec"]["templateResourceRefs"] = json!([{"identifier": "plan",
            "resource": {"apiVersion": "v1", "kind": "Secret", "name": "{{ event.subject }}"}}]);
        let mut leaves = trigger("leaves", "shared", "two", "tpl-one");
        leaves["spec"]["stopMatchingBehavior"] = json!("LeavePolicies");
        let mut here = trigger("here", "shared", "one", "tpl-one");
        here["spec"]["stopMatchingBehavior"] = json!("LeavePolicies");
        objects.extend([by_event, leaves, here]);
        let definitions = read(objects);
        let compiled =
            compile(&definitions, &definitions.clusters[0], &Resources::default(), &MinijinjaRenderer);
        let withheld =
            [("by-event".into(), Withheld::Unread), ("leaves".into(), Withheld::Leaves)].into_iter();
        let (secret, _) = compiled.bundle.to_secret("").unwrap().unwrap();
        let (read, _) = Bundle::of_secret(&secret, &definitions.clusters[0].id).unwrap();
        assert_eq!(*read.withheld(), withheld.collect());
    }

    #[test]
    fn of_what_is_local_an_agent_gets_nothing_and_the_hub_says_so() {
        let of = |what: &str, kind: &str| json!({"kind": "ConfigMap", "namespace": "default", "name": what, "deploymentType": kind});
        let mut objects = fleet();
        for object in &mut objects {
            if object["metadata"]["name"] == "of-one" {
                object["spec"]["policyRefs"] = json!([of("tpl-one", "Remote"), of("tpl-two", "Local")]);
            } else if object["metadata"]["name"] == "base" {
                object["spec"]["policyRefs"] = json!([of("tpl-three", "Local")]);
            }
        }
        let definitions = read(objects);
        let cluster = definitions.clusters.iter().find(|it| it.id.name() == "one").unwrap();
        let compiled = compile(&definitions, cluster, &Resources::default(), &MinijinjaRenderer);
        assert_eq!(compiled.left_out.local, ["ClusterProfile/base".into(), "of-one".into()]);
        let (one, _) = compiled_names(&compiled);
        assert!(one.contains(&"EventTrigger of-one".to_owned()), "{one:?}");
        assert!(!one.contains(&"ClusterProfile base".to_owned()), "{one:?}");
        // What an agent makes of it.
        let mut own = Definitions::read(compiled.bundle.objects(), Vec::new(), None);
        super::super::narrow::narrow(&mut own, &cluster.id, &Connection::InCluster, &[]);
        let trigger = &own.catalog.triggers["of-one"];
        assert_eq!((trigger.payload.len(), trigger.local.len()), (1, 0));
    }

    #[test]
    fn what_objects_of_a_cluster_ask_for_elsewhere_is_told_to_be_left_out() {
        let selector = json!([{"version": "v1", "kind": "ConfigMap"}]);
        let mut across = trigger("across", "objects", "one", "tpl-one");
        across["spec"]["destinationClusterSelector"] = json!({"matchLabels": {"env": "staging"}});
        let further = [
            object("EventSource", "objects", json!({"kubernetes": {"resourceSelectors": selector}})),
            trigger("within", "objects", "one", "tpl-one"),
            across,
        ];
        let definitions = read(fleet().into_iter().chain(further));
        assert!(definitions.transports.contains_key("objects"), "{:?}", definitions.problems);
        let compiled =
            compile(&definitions, &definitions.clusters[0], &Resources::default(), &MinijinjaRenderer);
        assert_eq!(compiled.left_out.objects, ["across".into()]);
        assert!(compiled.left_out.told().unwrap().contains("into other clusters because of them: across"));
        let (objects, relayed) = compiled_names(&compiled);
        assert!(objects.contains(&"EventTrigger across".to_owned()), "its own cluster it does");
        assert!(!relayed.contains(&"objects".to_owned()));
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
    fn what_is_the_management_clusters_no_other_cluster_gets() {
        let management = ClusterDefinition::management_id("p1").unwrap();
        let read = |objects: Vec<Value>| {
            let parsed = objects.into_iter().map(|it| Arc::new(Parsed::new(RawObject::in_api(it))));
            let read =
                Definitions::assemble(parsed, Vec::new(), &Default::default(), None, Some(&management));
            let problems: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
            (read, problems.join("\n"))
        };
        let there = |name: &str, spec: Value| cluster("p1", name, "production", spec);
        // Its name, unless it is that.
        for spec in [json!({"directory": {}}), json!({"agent": {}})] {
            let (read, problems) = read(vec![there("management", spec)]);
            assert!(read.clusters.is_empty() && read.catalog.complete, "{problems}");
            let expected = "Cluster p1/management: metadata.name: management in the operator's namespace";
            assert!(problems.starts_with(expected), "{problems}");
        }
        let (itself, problems) = read(vec![there("management", json!({"inCluster": {}}))]);
        assert_eq!((itself.clusters.len(), problems), (1, String::new()));
        // Its namespace, where an agent would write.
        let (read, problems) = read(vec![there("one", json!({"agent": {}}))]);
        assert!(problems.contains("and this one is the operator's"), "{problems}");
        assert!(read.shares_namespace(&read.clusters[0].id).is_some(), "nothing is written for its agent");
    }

    #[test]
    fn what_is_missing_at_the_hub_is_not_gone_for_agents() {
        let broken = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventTrigger",
            "metadata": {"name": "of-one"}, "spec": {"eventSourceName": 7}});
        let mut objects = fleet();
        objects.retain(|it| it["metadata"]["name"] != "of-one");
        objects.push(broken);
        let definitions = read(objects);
        let of_one =
            compile(&definitions, &definitions.clusters[0], &Resources::default(), &MinijinjaRenderer);
        assert!(!of_one.bundle.complete());
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
