//! Sveltos' manifests as they are.

use std::fs;
use std::path::Path;

use fleet_core::catalog::{Payload, Tells, profile_name};
use fleet_core::event::Event;
use fleet_core::filter::Facts;
use fleet_core::policy::SyncMode;
use fleet_core::render::{GoPasses, Language, TemplateKind};
use fleet_core::source::Message;
use fleet_kube::connection::Connection;
use fleet_kube::definitions::{Definitions, Fault, RawObject, Transport};

use crate::{problems, read};

fn article(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sveltos");
    format!("{}---\n", fs::read_to_string(folder.join(name)).unwrap())
}

#[test]
fn the_trigger_of_the_article_is_read_as_it_is() {
    let definitions = read(&article("user-operation.yaml"));
    assert_eq!(problems(&definitions), [""; 0]);
    let trigger = &definitions.catalog.triggers["manage-namespace"];
    assert_eq!(trigger.source.as_deref(), Some("user-operation"));
    let Transport::ClusterNats(nats) = &definitions.transports["user-operation"] else { panic!() };
    assert_eq!(nats.secret.to_string(), "Secret projectsveltos/sveltos-nats");
    assert_eq!(trigger.source_clusters.to_string(), "env=production");
    assert_eq!(trigger.language, Language::Go(GoPasses::Event));
    assert_eq!(trigger.policy.sync, SyncMode::ContinuousWithDriftDetection);
    assert!(trigger.one_for_event);
    assert!(trigger.action.as_ref().unwrap().starts_with("{{if eq .CloudEvent.type"));
    let [Payload::Template(template)] = &trigger.payload[..] else { panic!("{:?}", trigger.payload) };
    assert_eq!(template.language, Language::Go(GoPasses::Event));
    assert_eq!(template.kind, TemplateKind::Manifests);
    let filter = &definitions.catalog.sources["user-operation"].filter;
    for (subject, source, expected) in [
        ("user-operation", "auth.example.com", true),
        ("a.user-operation.b", "https://authXexample.com/x", true),
        ("user", "auth.example.com", false),
        ("user-operation", "example.com", false),
    ] {
        let event = Event::builder("1", source, "auth.example.com.login").build().unwrap();
        let message = Message { subject: subject.to_owned(), headers: Vec::new() };
        assert_eq!(filter.matches(&Facts::new(&event, &message)), Ok(expected), "{subject} {source}");
    }
}

#[test]
fn the_secret_of_the_article_holds_a_manifest() {
    let nobody = "apiVersion: config.projectsveltos.io/v1beta1\nkind: ClusterProfile\nmetadata: {name: nats}\nspec:\n  \
                  clusterSelector: {matchLabels: {env: production}}\n  policyRefs:\n  - {kind: Secret, namespace: default, \
                  name: deploy-sveltos-nats-secret}\n---\n";
    let definitions = read(&format!("{}{nobody}", article("nats-secret.yaml")));
    assert_eq!(problems(&definitions), [""; 0]);
    let profile = &definitions.catalog.triggers[&profile_name("deploy-deploy-sveltos-nats-secret")];
    assert_eq!(profile.policy.depends_on, [profile_name("nats")]);
    let [Payload::Template(template)] = &profile.payload[..] else { panic!("{:?}", profile.payload) };
    assert_eq!(template.kind, TemplateKind::Literal);
    assert!(template.text.contains("namespace: projectsveltos"));
}

#[test]
fn a_cluster_has_the_secret_that_sveltos_gives_it() {
    let cluster = |spec: &str| {
        format!(
            "apiVersion: lib.projectsveltos.io/v1beta1\nkind: SveltosCluster\nmetadata: {{name: c, namespace: civo, \
             labels: {{env: production}}}}\n{spec}---\n"
        )
    };
    let secret = |name: &str, data: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: civo}}\nstringData: {data}\n---\n"
        )
    };
    for (spec, name, data, key) in [
        ("", "c-sveltos-kubeconfig", "{kubeconfig: x, other: z}", "kubeconfig"),
        ("spec: {}\n", "c-sveltos-kubeconfig", "{value: x}", "value"),
        (
            "spec: {kubeconfigName: k, kubeconfigKeyName: re-kubeconfig}\n",
            "k",
            "{a: z, re-kubeconfig: x}",
            "re-kubeconfig",
        ),
    ] {
        let definitions = read(&format!("{}{}", cluster(spec), secret(name, data)));
        assert_eq!(problems(&definitions), [""; 0]);
        let [cluster] = &definitions.clusters[..] else { panic!() };
        assert_eq!(cluster.labels["env"], "production");
        let Connection::KubeconfigSecret { name: found, kubeconfig: Ok(_) } = &cluster.connection else {
            panic!("{:?}", cluster.connection)
        };
        assert_eq!(*found, format!("Secret civo/{name}, key {key}"));
    }
}

/// Each is named, with its line, and says what to do instead.
#[test]
fn what_is_not_supported_is_told_by_name() {
    let trigger = article("user-operation.yaml");
    let with = |after: &str, what: &str| trigger.replacen(after, &format!("{after}{what}"), 1);
    for (text, field, fault, says) in [
        (
            with("  oneForEvent: true\n", "  kustomizationRefs: [{name: a}]\n"),
            "spec.kustomizationRefs",
            Fault::NotSupported,
            "no Kustomize",
        ),
        (
            with("  oneForEvent: true\n", "  patches: [{patch: a}]\n"),
            "spec.patches",
            Fault::NotSupported,
            "change the template",
        ),
        (with("  oneForEvent: true\n", "  tire: 5\n"), "spec.tire", Fault::Invalid, "unknown field `tire`"),
        (
            trigger.replace("Name: user-operation", "Name: 'x-{{ .Cluster.metadata.name }}'"),
            "spec.eventSourceName",
            Fault::NotSupported,
            "is a template",
        ),
        (
            trigger.replace("kind: ConfigMap\n---", "kind: GitRepository\n---"),
            "spec.policyRefs[0].kind",
            Fault::NotSupported,
            "GitRepository is not supported",
        ),
        (
            with("  - name: namespace\n", "    deploymentType: Elsewhere\n"),
            "spec.policyRefs[0].deploymentType",
            Fault::Invalid,
            "unknown variant `Elsewhere`, expected `Remote` or `Local`",
        ),
        (
            with("  messagingMatchCriteria:\n  - ", "cloudEventType: 'a('\n    "),
            "spec.messagingMatchCriteria[0].cloudEventType",
            Fault::Invalid,
            "is no regular expression",
        ),
        (
            with("spec:\n", "  aggregatedSelection: x\n"),
            "spec.aggregatedSelection",
            Fault::NotSupported,
            "no Lua",
        ),
        (
            trigger.replace("instantiate: ok", "lua: ok"),
            "metadata.annotations[\"projectsveltos.io/lua\"]",
            Fault::NotSupported,
            "no Lua",
        ),
    ] {
        let definitions = read(&text);
        let found: Vec<_> =
            definitions.problems.iter().filter(|it| it.field.as_deref() == Some(field)).collect();
        let [problem] = found[..] else { panic!("{field}: {:?}", problems(&definitions)) };
        assert_eq!(problem.fault, fault, "{problem}");
        assert!(problem.reason.contains(says), "{problem}");
        let line = text.lines().nth(problem.line.unwrap() as usize - 1).unwrap();
        let named = field.rsplit('.').find(|part| !part.contains(['/', '"'])).unwrap();
        assert!(line.contains(named.trim_end_matches("[0]")) || field.contains("lua"), "{problem}: {line}");
    }
}

#[test]
fn what_charts_refer_to_is_named() {
    let chart = |of: &str| {
        read(&format!(
            "apiVersion: config.projectsveltos.io/v1beta1\nkind: ClusterProfile\nmetadata: {{name: p}}\nspec:\n  \
             clusterRefs: [{{namespace: a, name: b}}]\n  helmCharts:\n  - {{repositoryURL: 'http://a', chartName: a, \
             releaseName: a, releaseNamespace: a, {of}}}\n"
        ))
    };
    for (of, field, says) in [
        (
            "valuesFrom: [{kind: Secret, namespace: '', name: a}]",
            "valuesFrom[0].namespace",
            "each cluster's own",
        ),
        (
            "valuesFrom: [{kind: Secret, namespace: a, name: '{{ .a }}'}]",
            "valuesFrom[0].name",
            "is a template",
        ),
        (
            "registryCredentialsConfig: {ca: {namespace: a, name: '{{ .a }}'}}",
            "registryCredentialsConfig.ca.name",
            "is a template",
        ),
    ] {
        let told = problems(&chart(of));
        let expected = format!("spec.helmCharts[0].{field}: ");
        assert!(told.len() == 1 && told[0].contains(&expected) && told[0].contains(says), "{told:?}");
    }
}

/// Told by the name that the field has there.
#[test]
fn an_agent_needs_a_management_cluster() {
    let cluster = "apiVersion: lib.projectsveltos.io/v1beta1\nkind: SveltosCluster\nmetadata: {name: c, namespace: \
                   civo}\nspec:\n  pullMode: true\n";
    let told = problems(&read(cluster));
    assert!(
        told.len() == 1
            && told[0]
                .starts_with("f.yaml:5: Cluster civo/c: spec.pullMode: works only with a management cluster"),
        "{told:?}"
    );
    let value = serde_saphyr::from_str(cluster).unwrap();
    let definitions = Definitions::read([RawObject::in_api(value)], Vec::new(), None);
    assert_eq!(problems(&definitions), [""; 0]);
    assert!(matches!(definitions.clusters[0].connection, Connection::Agent));
}

/// A SveltosCluster has no field that maps the names which only it knows.
#[test]
fn names_are_mapped_by_an_annotation() {
    let read_with = |mapped: &str| {
        read(&format!(
            "apiVersion: lib.projectsveltos.io/v1beta1\nkind: SveltosCluster\nmetadata:\n  name: c\n  namespace: civo\n  \
             annotations:\n    fleet-events.dev/resolve: {mapped:?}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: \
             c-sveltos-kubeconfig, namespace: civo}}\nstringData: {{kubeconfig: a}}\n"
        ))
    };
    let definitions = read_with("nats.nats.svc:4222=10.0.0.1, other:1=[::1]:2");
    let mapped: Vec<_> = definitions.clusters[0].resolve.iter().map(ToString::to_string).collect();
    assert_eq!(mapped, ["nats.nats.svc:4222=10.0.0.1:4222", "other:1=[::1]:2"]);
    let found = problems(&read_with("nats.nats.svc"));
    assert!(
        found.len() == 1
            && found[0]
                .contains("metadata.annotations[\"fleet-events.dev/resolve\"]: \"nats.nats.svc\" has no ="),
        "{found:?}"
    );
}

#[test]
fn what_is_local_goes_into_the_management_cluster() {
    let trigger = article("user-operation.yaml");
    let read_with = |kind: &str| {
        let text = format!("    deploymentType: {kind}\n");
        read(&trigger.replacen("  - name: namespace\n", &format!("  - name: namespace\n{text}"), 1))
    };
    for (kind, parts) in [("Remote", (1, 0)), ("Local", (0, 1))] {
        let definitions = read_with(kind);
        assert_eq!(problems(&definitions), Vec::<String>::new(), "{kind}");
        let trigger = definitions.catalog.triggers.values().next().unwrap();
        assert_eq!((trigger.payload.len(), trigger.local.len()), parts, "{kind}");
    }
}

fn source(spec: &str) -> String {
    format!(
        "apiVersion: lib.projectsveltos.io/v1beta1\nkind: EventSource\nmetadata: {{name: s}}\nspec: {spec}\n---\n"
    )
}

/// Theirs means what ours means.
#[test]
fn selectors_of_resources_are_read_as_they_are() {
    let theirs = "{collectResources: true, resourceSelectors: [{group: apps, version: v1, kind: Deployment, namespace: x, \
                  name: '', labelFilters: [{key: a, operation: Equal, value: b}, {key: c, operation: Different, value: d}, \
                  {key: e, operation: Has}, {key: f, operation: DoesNotHave}], selector: {matchLabels: {g: h}}, \
                  evaluateCEL: [{name: r, rule: resource.spec.replicas > 1}]}, {group: '', version: v1, kind: Service}]}";
    let ours = "apiVersion: fleet-events.dev/v1alpha1\nkind: EventSource\nmetadata: {name: s}\nspec: {kubernetes: \
                {collectResources: true, resourceSelectors: [{group: apps, version: v1, kind: Deployment, namespace: x, \
                selector: {matchLabels: {g: h}, matchExpressions: [{key: a, operator: In, values: [b]}, {key: c, operator: \
                NotIn, values: [d]}, {key: e, operator: Exists}, {key: f, operator: DoesNotExist}]}, evaluateCEL: [{name: r, \
                rule: resource.spec.replicas > 1}]}, {version: v1, kind: Service}]}}\n---\n";
    let (theirs, ours) = (read(&source(theirs)), read(ours));
    assert_eq!((problems(&theirs), problems(&ours)), (Vec::new(), Vec::new()));
    assert_eq!(theirs.transports, ours.transports);
    assert_eq!(theirs.catalog.sources, ours.catalog.sources);
    assert!(matches!(&ours.transports["s"], Transport::Objects(selection) if selection.content));
    assert_eq!(ours.catalog.sources["s"].tells, Tells::States);
}

#[test]
fn what_selects_resources_otherwise_is_refused_by_name() {
    for (spec, says) in [
        (
            "{resourceSelectors: [{group: '', version: v1, kind: Service, evaluate: 'function evaluate() end'}]}",
            "say it in CEL, in evaluateCEL",
        ),
        (
            "{resourceSelectors: [{group: '', version: v1, kind: Service}], messagingMatchCriteria: [{subject: a}]}",
            "make two",
        ),
        ("{resourceSelectors: [{group: '', version: v1, kind: Service}], aggregatedSelection: x}", "no Lua"),
        (
            "{resourceSelectors: [{group: '', version: v1, kind: Service, evaluateCEL: [{name: a, rule: x ==}]}]}",
            "spec.resourceSelectors[0].evaluateCEL[0].rule",
        ),
        (
            "{resourceSelectors: [{group: '', version: v1, kind: Service, namespace: 'a b'}]}",
            "spec.resourceSelectors[0].namespace",
        ),
        ("{resourceSelectors: [{group: '', version: v1, kind: Service, labelFilter: []}]}", "labelFilter"),
    ] {
        let told = problems(&read(&source(spec)));
        assert!(told.len() == 1 && told[0].contains(says), "{spec}: {told:?}");
    }
}
