//! What templates see of the management cluster, as definitions say it.

use fleet_core::catalog::TriggerDef;
use fleet_core::render::{GoPasses, Language};
use fleet_core::resource::{Lookup, ResourceId};
use fleet_kube::definitions::Fault;
use serde_json::json;

use super::{Definitions, STORY, after, problems, read};

const SVELTOS: &str = r"apiVersion: lib.projectsveltos.io/v1beta1
kind: EventSource
metadata: {name: user-login}
spec:
  messagingMatchCriteria: [{subject: user-login, cloudEventSource: auth}]
---
apiVersion: lib.projectsveltos.io/v1beta1
kind: EventTrigger
metadata: {name: t}
spec:
  eventSourceName: user-login
  sourceClusterSelector: {matchLabels: {env: production}}
  oneForEvent: true
  policyRefs: [{kind: ConfigMap, namespace: default, name: namespace}]
  templateResourceRefs:
  - identifier: tenant
    resource: {kind: Secret, name: 'tenant-{{ .CloudEvent.subject }}'}
    optional: true
    ignoreStatusChanges: true
---
apiVersion: config.projectsveltos.io/v1beta1
kind: ClusterProfile
metadata: {name: p}
spec:
  clusterSelector: {matchLabels: {env: production}}
  policyRefs: [{kind: ConfigMap, namespace: default, name: namespace}]
  templateResourceRefs:
  - identifier: limits
    resource: {apiVersion: v1, kind: ConfigMap, namespace: default, name: '{{ .Cluster.metadata.name }}'}
";

/// The story, with these references in its trigger.
fn story(refs: &str) -> String {
    let field = format!("  templateResourceRefs:\n{refs}  policyRefs:\n");
    STORY.replacen("  policyRefs:\n", &field, 1)
}

fn trigger(definitions: &Definitions) -> &TriggerDef {
    &definitions.catalog.triggers["manage-namespace"]
}

fn id(kind: &str, name: &str) -> ResourceId {
    ResourceId { api_version: "v1".into(), kind: kind.into(), namespace: "default".into(), name: name.into() }
}

const TENANTS: &str = "  - identifier: tenants\n    resource: {apiVersion: v1, kind: ConfigMap, namespace: default, name: tenants}\n";
const THERE: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: tenants}\ndata: {plan: gold}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: login, namespace: default}\ndata: {user: YQ==, other: Yg==}\nstringData: {user: mgianluc}\n";

#[test]
fn a_folder_has_its_config_maps_and_secrets() {
    let definitions = read(&format!("{}{THERE}", story(TENANTS)));
    assert_eq!(problems(&definitions), Vec::<String>::new());
    let [reference] = trigger(&definitions).resources.as_slice() else { panic!() };
    assert_eq!((&*reference.identifier, &*reference.name, reference.optional), ("tenants", "tenants", false));
    assert_eq!(reference.language, Language::Minijinja);
    let resources = &definitions.catalog.resources;
    let Lookup::Found(tenants) = resources.look_up(&id("ConfigMap", "tenants")) else { panic!() };
    assert_eq!(
        tenants.value(),
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tenants", "namespace": "default"}, "data": {"plan": "gold"}})
    );
    // As an API server has it.
    let Lookup::Found(login) = resources.look_up(&id("Secret", "login")) else { panic!() };
    assert_eq!(login.value()["data"], json!({"user": "bWdpYW5sdWM=", "other": "Yg=="}));
    assert_eq!(login.value().get("stringData"), None);
    assert_eq!(resources.look_up(&id("Secret", "nobody")), Lookup::Absent);
    let Lookup::Unavailable(why) = resources.look_up(&id("Pod", "a")) else { panic!() };
    assert!(why.contains("there are only ConfigMaps and Secrets"), "{why}");
    assert!(!format!("{definitions:?}").contains("mgianluc"));
    // Where nobody refers to anything, nothing is made of it, and no change is one.
    assert!(read(&format!("{STORY}{THERE}")).catalog.resources.known.is_empty());
}

#[test]
fn a_change_in_a_folder_is_one_and_what_is_broken_stays_as_it_was() {
    let before = read(&format!("{}{THERE}", story(TENANTS)));
    let edited = THERE.replace("gold", "free");
    let now = after(&before, &format!("{}{edited}", story(TENANTS)));
    assert!(!now.same(&before));
    let plan = |it: &Definitions| match it.catalog.resources.look_up(&id("ConfigMap", "tenants")) {
        Lookup::Found(tenants) => tenants.value()["data"]["plan"].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(plan(&now), "free");
    let broken = THERE.replace("{plan: gold}", "{plan: 7}");
    let still = after(&now, &format!("{}{broken}", story(TENANTS)));
    assert_eq!(plan(&still), "free");
    // Without a good version nobody can tell.
    let never = read(&format!("{}{broken}", story(TENANTS)));
    let found = never.catalog.resources.look_up(&id("ConfigMap", "tenants"));
    assert_eq!(found, Lookup::Unavailable("it cannot be used; correct it first"));
}

#[test]
fn each_mistake_is_named() {
    let of = |name: &str, resource: &str| format!("  - identifier: {name}\n    resource: {{{resource}}}\n");
    let pod = of("p", "apiVersion: v1, kind: Pod, namespace: default, name: a");
    let twice = format!("{TENANTS}{TENANTS}");
    for (refs, fault, expected) in [
        (
            TENANTS,
            Fault::MissingReference,
            "templateResourceRefs[0]: ConfigMap default/tenants does not exist; create it",
        ),
        (
            &pod,
            Fault::MissingReference,
            "templateResourceRefs[0].resource.kind: Pod of v1 cannot be had: without a management cluster",
        ),
        (&twice, Fault::Invalid, "templateResourceRefs[1].identifier: tenants is used twice"),
        (
            &of("a.b", "apiVersion: v1, kind: ConfigMap, name: a"),
            Fault::Invalid,
            "identifier: \"a.b\" must be",
        ),
        (
            &of("a", "apiVersion: v1, kind: ConfigMap, name: a/b"),
            Fault::Invalid,
            "resource.name: \"a/b\" must contain neither",
        ),
        (
            &of("a", "apiVersion: v1, kind: ConfigMap, name: a, namespace: A"),
            Fault::Invalid,
            "resource.namespace: \"A\"",
        ),
        (&of("a", "apiVersion: v1, kind: '', name: a"), Fault::Invalid, "resource.kind"),
        (&of("a", "apiVersion: a/b/c, kind: A, name: a"), Fault::Invalid, "resource.apiVersion"),
        (&of("a", "kind: ConfigMap, name: a"), Fault::Invalid, "apiVersion"),
    ] {
        let definitions = read(&story(refs));
        let found = &definitions.problems;
        assert!(
            found.iter().any(|it| it.fault == fault && it.to_string().contains(expected)),
            "{refs} gave {:?}",
            problems(&definitions)
        );
    }
    // What depends on more, or need not be there, is nobody's problem yet.
    for refs in [
        of("a", "apiVersion: v1, kind: ConfigMap, name: a"),
        of("a", "apiVersion: v1, kind: ConfigMap, namespace: default, name: 'of-{{ event.subject }}'"),
        format!("{TENANTS}    optional: true\n"),
    ] {
        assert_eq!(problems(&read(&story(&refs))), Vec::<String>::new(), "{refs}");
    }
}

#[test]
fn sveltos_says_the_same() {
    let definitions = read(SVELTOS);
    let of = |name: &str| definitions.catalog.triggers[name].resources[0].clone();
    let of_trigger = of("t");
    assert_eq!((&*of_trigger.api_version, of_trigger.namespace.as_deref()), ("v1", None));
    assert_eq!(of_trigger.language, Language::Go(GoPasses::Both));
    assert!(of_trigger.optional);
    let of_profile = of("ClusterProfile/p");
    assert_eq!(
        (&*of_profile.name, of_profile.namespace.as_deref()),
        ("{{ .Cluster.metadata.name }}", Some("default"))
    );
    assert_eq!(of_profile.language, Language::Go(GoPasses::Cluster));
}
