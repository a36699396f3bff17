//! What is written anew means the same.

mod everything;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::event::Event;
use fleet_core::languages::Languages;
use fleet_core::render::{Arrival, Context, GoPasses, Language, Renderer, TemplateKind, TemplateSource};
use fleet_core::resource::{Referred, Resource};
use fleet_core::source::Message;
use serde_json::{Value, json};

use super::{sveltos, template};

const EVENT: &str = r#"{"specversion": "1.0", "id": "1", "source": "auth.example.com", "type": "auth.example.com.login",
    "subject": "mgianluc", "data": {"organization": "acme", "count": 3, "admin": true, "empty": "", "none": [],
    "tags": ["b", "a"], "limits": {"cpu": "2", "memory": "1Gi"}, "nested": {"list": [{"name": "x"}, {"name": "y"}]},
    "text": "a: b # c\nd"}}"#;

/// A template's manifests as JSON, or its error.
fn render(text: &str, language: Language, together: bool) -> Result<Vec<Value>, String> {
    let event = Event::from_json(EVENT.as_bytes()).unwrap();
    let message = Message { subject: "user.operation".to_owned(), headers: Vec::new() };
    let cluster =
        |name: &str| Cluster::new(ClusterId::new("civo", name).unwrap(), [("env", name), ("a.b/c", "d")]);
    let (origin, target) = (cluster("one"), cluster("two"));
    let arrivals = [Arrival { event: &event, message: &message, origin: Some(&origin) }];
    let context = Context {
        event: (!together).then_some(&event),
        message: (!together).then_some(&message),
        events: together.then_some(&arrivals),
        cluster: Some(&target),
        origin: (!together).then_some(&origin),
        resources: Some(&resources()),
        trigger: "t",
    };
    let source = TemplateSource::new("t", text, TemplateKind::Manifests).in_language(language);
    let manifests = Languages.compile(&source).and_then(|template| template.manifests(&context));
    let manifests = manifests.map_err(|error| error.to_string())?;
    Ok(manifests.iter().map(|manifest| Value::Object(manifest.object().clone())).collect())
}

/// What templates see of the management cluster.
fn resources() -> Referred {
    let tenant = Resource::new(json!({"kind": "Secret", "metadata": {"name": "tenant"},
        "data": {"plan": "Z29sZA==", "a.b": "eA==", "none": ""}, "spec": {"list": [1, 2]}}));
    [("tenant".into(), Some(Arc::new(tenant))), ("no-tenant".into(), None)].into()
}

fn config_map(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n{data}")
}

#[test]
fn what_is_translated_renders_the_same() {
    for go in [
        "  a: {{ .CloudEvent.subject }}\n",
        "  a: '{{ .CloudEvent.data.text }}'\n",
        "  a: {{ .CloudEvent.data.text | quote }}\n",
        "  a: '{{ .Cluster.metadata.name }}/{{ .Cluster.metadata.namespace }}'\n",
        "  a: {{ index .Cluster.metadata.labels \"a.b/c\" }}\n",
        "  a: {{ (index .CloudEvent.data \"organization\") | upper }}\n",
        "  a: {{ printf \"%s-%d!\" .CloudEvent.subject .CloudEvent.data.count }}\n",
        "  a: x{{ if eq .CloudEvent.type \"auth.example.com.logout\" }}1{{ else if .CloudEvent.data.admin }}2{{ else }}3{{ end }}\n",
        "  a: x{{ if and .CloudEvent.data.admin (gt .CloudEvent.data.count 2) }}1{{ end }}\n",
        "  a: x{{ if or .CloudEvent.data.empty .CloudEvent.data.none }}1{{ else }}2{{ end }}\n",
        "  a: x{{ if not .CloudEvent.data.empty }}1{{ end }}\n",
        "  a: {{ default \"d\" .CloudEvent.data.empty }}\n",
        "  a: {{ .CloudEvent.data.organization | default \"d\" | title }}\n",
        "  a: {{ ternary \"y\" \"n\" .CloudEvent.data.admin }}\n",
        "  a: {{ trimPrefix \"mgi\" .CloudEvent.subject }}{{ trimSuffix \"x\" .CloudEvent.subject }}\n",
        "  a: {{ trunc 3 .CloudEvent.subject }}-{{ replace \"g\" \"k\" .CloudEvent.subject }}\n",
        "  a: x{{ if hasPrefix \"mg\" .CloudEvent.subject }}1{{ end }}{{ if contains \"x\" .CloudEvent.subject }}2{{ end }}\n",
        "  a: x{{ if hasKey .CloudEvent.data \"tags\" }}1{{ end }}{{ if has \"a\" .CloudEvent.data.tags }}2{{ end }}\n",
        "  a: '{{ join \",\" .CloudEvent.data.tags }}'\n",
        "{{ range .CloudEvent.data.tags }}  t-{{ . }}: x\n{{ end }}",
        "{{ range $i, $tag := .CloudEvent.data.tags }}  t-{{ $tag }}: 'n{{ $i }}'\n{{ end }}",
        "{{ range $key, $value := .CloudEvent.data.limits }}  {{ $key }}: '{{ $value }}'\n{{ end }}",
        "{{ range .CloudEvent.data.limits }}  v-{{ . }}: x\n{{ end }}",
        "{{ range .CloudEvent.data.none }}  a: b\n{{ else }}  a: none\n{{ end }}",
        "{{ range .CloudEvent.data.nested.list }}  n-{{ .name }}: '{{ $.CloudEvent.subject }}'\n{{ end }}",
        "{{ range .CloudEvent.data.tags }}{{ if eq . \"a\" }}{{ break }}{{ end }}  t-{{ . }}: x\n{{ end }}",
        "{{ with .CloudEvent.data.nested }}  a: {{ (index .list 1).name }}\n{{ else }}  a: no\n{{ end }}",
        "{{ with .CloudEvent.data.empty }}  a: b\n{{ else }}  a: {{ .CloudEvent.subject }}\n{{ end }}",
        "{{ $org := .CloudEvent.data.organization }}{{ $event := 5 }}  a: '{{ $org }}-{{ $event }}'\n",
        "{{ $x := \"a\" }}{{ if .CloudEvent.data.admin }}{{ $x = \"b\" }}{{ end }}  a: {{ $x }}\n",
        "  a: |\n{{ .CloudEvent.data.limits | toYaml | indent 4 }}\n",
        "  a: '{{ .CloudEvent.data.tags | toJson }}'\n",
        "{{- /* a comment */ -}}\n  a: b\n",
        "  a: '{% raw {{ .CloudEvent.subject }} {# x'\n",
        "  a: {{ add 1 .CloudEvent.data.count }}x{{ mul 2 (sub 5 1) }}\n",
        "  a: 'n{{ len .CloudEvent.data.tags }}'\n",
        "  a: '{{ (list \"b\" \"a\" \"b\") | uniq | sortAlpha | join \"+\" }}'\n",
        "  a: '{{ coalesce .CloudEvent.data.empty \"second\" }}{{ lower \"ABC\" }}'\n",
        "  a: '{{ .Message.subject }} {{ .Trigger.name }}'\n",
        "  a: {{ (getResource \"tenant\").data.plan | b64dec }}{{ \"x\" | b64enc }}\n",
        "  a: {{ getField \"tenant\" \"data.plan\" }}{{ getField \"tenant\" \"data.nothing.more\" }}\n",
        "  a: x{{ getField \"no-tenant\" \"data.plan\" }}{{ getField \"tenant\" \"metadata.name.first\" }}\n",
        "  a: {{ .MgmtResources.tenant.metadata.name }}{{ (index .MgmtResources \"tenant\").kind }}\n",
        "  a: {{ index (getResource \"tenant\").data \"a.b\" }}\n",
        "  a: x{{ with getResource \"no-tenant\" }}{{ .data.plan }}{{ else }}1{{ end }}\n",
        "  a: x{{ with getResource \"tenant\" }}{{ .data.plan }}{{ else }}1{{ end }}\n",
        "  a: x{{ if getResource \"no-tenant\" }}1{{ else if getResource \"tenant\" }}2{{ end }}\n",
        "{{ $r := getResource \"tenant\" }}  a: '{{ $r.metadata.name }}'\n",
        "{{ range $k, $v := (getResource \"tenant\").data }}  {{ $k }}: {{ $v }}\n{{ end }}",
        "  a: |\n{{ (getResource \"tenant\").spec | toYaml | indent 4 }}\n",
    ] {
        let go = config_map(go);
        let ours =
            template::translate(&go, GoPasses::Event).unwrap_or_else(|faults| panic!("{go}\n{faults:?}"));
        let expected =
            render(&go, Language::Go(GoPasses::Event), false).unwrap_or_else(|error| panic!("{go}\n{error}"));
        let found =
            render(&ours, Language::Minijinja, false).unwrap_or_else(|error| panic!("{go}\n{ours}\n{error}"));
        assert_eq!(found, expected, "{go}\n{ours}");
    }
    let together = config_map(
        "{{ range $i, $e := .CloudEvents }}  {{ $e.subject }}: '{{ $i }}{{ len $.CloudEvents }}'\n{{ end }}",
    );
    let together = together + "{{ range .CloudEvents }}  u-{{ .subject }}: x\n{{ end }}";
    let ours = template::translate(&together, GoPasses::Event).unwrap();
    let expected = render(&together, Language::Go(GoPasses::Event), true).unwrap();
    assert_eq!(render(&ours, Language::Minijinja, true).unwrap(), expected, "{ours}");
    let deployed = config_map("  a: {{ .Cluster.metadata.name }}\n");
    let ours = template::translate(&deployed, GoPasses::Cluster).unwrap();
    let found = render(&ours, Language::Minijinja, false).unwrap();
    assert_eq!(found, render(&deployed, Language::Go(GoPasses::Cluster), false).unwrap());
}

#[test]
fn what_has_no_translation_is_told_with_its_line() {
    for (go, line, says) in [
        ("a\n{{ .CloudEvent.subject | sha256sum }}\n", 2, "the function sha256sum"),
        ("{{ toJson .CloudEvent.data | b64enc }}", 1, "the function b64enc"),
        ("{{ getResource .CloudEvent.subject }}", 1, "by something else than a constant"),
        ("{{ getField .CloudEvent.subject \"a\" }}", 1, "by something else than constants"),
        ("{{ define \"x\" }}{{ end }}", 1, "defines x"),
        ("\n\n{{ template \"x\" . }}", 3, "calls the template \"x\""),
        ("{{ .Cluster.spec.x }}", 1, "more of .Cluster"),
        ("{{ .Resource2.x }}", 1, ".Resource2 is not there"),
        ("{{ printf \"%5d\" 1 }}", 1, "printf otherwise"),
        ("{{ $x := 1 }}\n{{ range .CloudEvent.data.a }}{{ $x = 2 }}{{ end }}", 2, "assigns to $x"),
        ("{{ if", 1, "is no Go template"),
    ] {
        let faults = template::translate(go, GoPasses::Event).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.line == line && fault.reason.contains(says)),
            "{go}: {faults:?}"
        );
    }
}

#[test]
fn the_manifests_of_the_article_become_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sveltos");
    let converted = sveltos(&[folder.join("user-operation.yaml")]);
    assert_eq!(converted.untranslated, []);
    for expected in [
        "kind: EventSource",
        "clusterSecretRef: {}",
        "messageSubject: user-operation",
        "source: auth.example.com",
        "{% if event.type == \\\"auth.example.com.logout\\\" %}Delete{% else %}Create{% endif %}",
        "fleet-events.dev/template: \"true\"",
        "name: {{ event.subject }}",
    ] {
        assert!(converted.yaml.contains(expected), "{expected}\n{}", converted.yaml);
    }
    assert!(!converted.yaml.contains("projectsveltos.io"), "{}", converted.yaml);
}

#[test]
fn references_become_ours() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    let text = "apiVersion: config.projectsveltos.io/v1beta1\nkind: ClusterProfile\nmetadata: {name: p}\nspec:\n  \
                clusterSelector: {matchLabels: {env: production}}\n  policyRefs: [{kind: ConfigMap, namespace: default, name: c}]\n  \
                templateResourceRefs:\n  - identifier: tenant\n    ignoreStatusChanges: true\n    resource: {kind: Secret, name: \
                '{{ .Cluster.metadata.name }}-tenant', namespace: ''}\n  - identifier: plan\n    optional: true\n    resource: \
                {apiVersion: example.com/v1, kind: Plan, name: gold, namespace: plans}\n";
    fs::write(&file, text).unwrap();
    let converted = sveltos(std::slice::from_ref(&file));
    assert_eq!(converted.untranslated, []);
    let documents = fleet_core::yaml::documents(&converted.yaml);
    let refs = documents[0].as_ref().unwrap().value["spec"]["templateResourceRefs"].clone();
    assert_eq!(
        refs,
        json!([
            {"identifier": "tenant", "resource": {"apiVersion": "v1", "kind": "Secret", "name": "{{ cluster.name }}-tenant"}},
            {"identifier": "plan", "optional": true,
                "resource": {"apiVersion": "example.com/v1", "kind": "Plan", "namespace": "plans", "name": "gold"}},
        ])
    );
}

#[test]
fn objects_that_are_events_become_ours() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    let text = "apiVersion: lib.projectsveltos.io/v1beta1\nkind: EventSource\nmetadata: {name: s}\nspec:\n  \
                collectResources: true\n  resourceSelectors:\n  - {group: '', version: v1, kind: Service, namespace: '', \
                labelFilters: [{key: a, operation: Different, value: b}], evaluateCEL: [{name: lb, rule: \
                'resource.spec.type == \"LoadBalancer\"'}]}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  \
                annotations: {projectsveltos.io/instantiate: ok}\ndata:\n  a.yaml: |\n    kind: A\n    name: {{ \
                .MatchingResource.name }}-{{ .Resource.spec.type }}\n";
    fs::write(&file, text).unwrap();
    let converted = sveltos(std::slice::from_ref(&file));
    assert_eq!(converted.untranslated, []);
    for expected in [
        "kubernetes:",
        "collectResources: true",
        "operator: NotIn",
        "kind: Service",
        "name: {{ resource.metadata.name }}-{{ resource.spec.type }}",
    ] {
        assert!(converted.yaml.contains(expected), "{expected}\n{}", converted.yaml);
    }
    assert!(!converted.yaml.contains("labelFilters"), "{}", converted.yaml);
}

#[test]
fn what_has_no_translation_is_told_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    let text = "apiVersion: lib.projectsveltos.io/v1beta1\nkind: EventTrigger\nmetadata: {name: t}\nspec:\n  \
                sourceClusterSelector: {}\n  eventSourceName: s\n  oneForEvent: true\n  patches: [{patch: x}]\n  \
                policyRefs: []\n  cloudEventAction: '{{ .Nothing }}'\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\n  annotations: \
                {projectsveltos.io/instantiate: ok}\ndata:\n  a.yaml: |\n    kind: A\n    name: {{ .CloudEvent.id | \
                sha256sum }}\n  b: '{{ .Other }}'\n";
    fs::write(&file, text).unwrap();
    let converted = sveltos(std::slice::from_ref(&file));
    let told: Vec<String> = converted.untranslated.iter().map(ToString::to_string).collect();
    let at = |line: u32| format!("{}:{line}: ", file.display());
    let expected = [
        (8, "spec.patches"),
        (10, "spec.cloudEventAction: .Nothing is not there"),
        (20, "ConfigMap c: data.a.yaml: the function sha256sum"),
        (21, ".Other is not there"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (told, (line, says)) in told.iter().zip(expected) {
        assert!(told.starts_with(&at(line)) && told.contains(says), "{told}");
    }
    assert!(converted.yaml.contains("patches"), "it stands there as it was: {}", converted.yaml);
}

#[test]
fn what_is_local_stays_local() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    let profile = |more: &str| {
        let text = format!(
            "apiVersion: config.projectsveltos.io/v1beta1\nkind: ClusterProfile\nmetadata: {{name: p}}\nspec:\n  \
             clusterSelector: {{matchLabels: {{env: x}}}}\n  policyRefs:\n  - {{kind: ConfigMap, namespace: default, name: \
             c{more}}}\n"
        );
        fs::write(&file, text).unwrap();
        let converted = sveltos(std::slice::from_ref(&file));
        assert_eq!(converted.untranslated, []);
        converted.yaml
    };
    assert!(profile(", deploymentType: Local").contains("deploymentType: Local"));
    assert!(!profile(", deploymentType: Remote").contains("deploymentType"));
    assert!(!profile("").contains("deploymentType"));
}
