//! What Go templates may do.

use fleet_core::gotemplate::GoRenderer;
use fleet_core::languages::Languages;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::{GoPasses, Language, Renderer, TemplateFault, TemplateKind, TemplateSource};
use serde_json::json;

use super::{compile, gives, render_in};
use crate::setting::Setting;

#[test]
fn a_template_is_rendered_in_the_language_that_it_names() {
    let setting = Setting::default();
    let source = |text: &str| TemplateSource::new("t", text, TemplateKind::Text);
    let go = source("{{ .CloudEvent.subject }}").in_language(Language::Go(GoPasses::Event));
    let jinja = source("{{ event.subject }}");
    for source in [&go, &jinja] {
        let template = Languages.compile(source).unwrap();
        assert_eq!(template.text(&setting.context()).unwrap(), "mgianluc");
    }
    let error = GoRenderer.compile(&jinja).map(|_| ()).unwrap_err();
    assert!(error.reason.contains("not written in Go's"), "{error}");
    let error = MinijinjaRenderer.compile(&go).map(|_| ()).unwrap_err();
    assert!(error.reason.contains("not written in minijinja"), "{error}");
}

#[test]
fn the_context_has_the_names_of_sveltos() {
    for (x, expected) in [
        ("{{ .CloudEvent.subject }}", json!("mgianluc")),
        ("{{ .CloudEvent.id }}", json!("10001")),
        ("{{ .CloudEvent.rank }}", json!(3)),
        ("{{ (index .CloudEvent.data \"text\") }}", json!("hello")),
        ("{{ .CloudEvent.data.map.n }}", json!(1)),
        ("{{ .Cluster.metadata.name }}", json!("origin1")),
        ("{{ .Cluster.metadata.namespace }}/{{ .Cluster.kind }}", json!("civo/SveltosCluster")),
        ("{{ .Cluster.metadata.labels.env }}", json!("staging")),
        ("{{ .Cluster.kind }}", json!("SveltosCluster")),
        ("{{ index .Cluster.metadata.annotations \"a\" | default \"none\" }}", json!("none")),
        ("{{ .Message.subject }} {{ index .Message.tokens 1 }}", json!("user.operation operation")),
        ("{{ index .Message.headers \"X-A\" }}", json!("1, 3")),
        ("{{ .Trigger.name }}", json!("manage-namespace")),
    ] {
        gives(x, expected);
    }
    let setting = Setting::default();
    let in_target = |x| render_in(&setting, GoPasses::Cluster, "", x);
    assert_eq!(in_target("{{ .Cluster.metadata.name }}"), Ok(json!("cluster1")));
    // Where no origin is known, the event's pass sees the target.
    let without = Setting { origin: None, ..Setting::default() };
    assert_eq!(
        render_in(&without, GoPasses::Event, "", "{{ .Cluster.metadata.name }}"),
        Ok(json!("cluster1"))
    );
}

#[test]
fn objects_of_the_management_cluster_are_looked_up_by_their_identifiers() {
    let mut setting = Setting::default();
    let tenants =
        json!({"kind": "ConfigMap", "metadata": {"name": "tenants"}, "data": {"plan": "gold", "a.b": "c"}});
    setting.refer("tenants", Some(tenants));
    setting.refer("none", None);
    for passes in [GoPasses::Event, GoPasses::Cluster, GoPasses::Both] {
        for (x, expected) in [
            ("{{ (getResource \"tenants\").data.plan }}", json!("gold")),
            ("{{ getField \"tenants\" \"data.plan\" }}", json!("gold")),
            ("{{ getField \"tenants\" \"data.none\" }}-", json!("-")),
            ("{{ getField \"tenants\" \"data.plan.none\" }}-", json!("-")),
            ("{{ getField \"none\" \"data.plan\" }}-", json!("-")),
            ("{{ .MgmtResources.tenants.metadata.name }}", json!("tenants")),
            ("{{ index (getResource \"tenants\").data \"a.b\" }}", json!("c")),
            ("{{ with getResource \"none\" }}{{ .data.plan }}{{ else }}nothing{{ end }}", json!("nothing")),
            (
                "\n{{ (getResource \"tenants\").data | toYaml | indent 2 }}",
                json!({"plan": "gold", "a.b": "c"}),
            ),
            ("{{ $r := getResource \"tenants\" }}{{ getField $r \"data.plan\" }}", json!("gold")),
        ] {
            assert_eq!(render_in(&setting, passes, "", x), Ok(expected), "{x} in {passes:?}");
        }
    }
    let error = render_in(&setting, GoPasses::Event, "", "{{ getResource \"tenant\" }}").unwrap_err();
    assert!(error.reason.contains("no such identifier in templateResourceRefs"), "{error}");
    let within = compile(TemplateKind::Text, GoPasses::Event, "{{ getField \"tenants\" \"data.plan\" }}");
    assert_eq!(within.unwrap().text(&setting.context()).unwrap(), "gold");
}

#[test]
fn the_two_passes_see_different_clusters() {
    let setting = Setting::default();
    for (x, expected) in [
        ("{{ .Cluster.metadata.name }}-{{ `{{ .Cluster.metadata.name }}` }}", json!("origin1-cluster1")),
        (
            "{{ \"{{\" }} index .Cluster.metadata.labels \"{{ .CloudEvent.data.key }}\" {{ \"}}\" }}",
            json!("production"),
        ),
        (
            "{{ `{{ if eq .Cluster.metadata.labels.env \"production\" }}` }}{{ .CloudEvent.subject }}{{ `{{ end }}` }}",
            json!("mgianluc"),
        ),
        ("{{ toYaml .CloudEvent.data | nindent 2 }}", json!({"key": "env"})),
    ] {
        let setting = Setting { event: Setting::with(json!({"key": "env"})).event, ..Setting::default() };
        assert_eq!(render_in(&setting, GoPasses::Both, "", x), Ok(expected), "{x}");
    }
    let template = compile(
        TemplateKind::Text,
        GoPasses::Both,
        "{{ .CloudEvent.subject }}@{{ `{{ .Cluster.metadata.name | upper }}` }}",
    );
    assert_eq!(template.unwrap().text(&setting.context()).unwrap(), "mgianluc@CLUSTER1");
}

#[test]
fn values_keep_their_types() {
    for (x, expected) in [
        ("{{ .CloudEvent.data.int }}", json!(5)),
        ("{{ .CloudEvent.data.float }}", json!(1.5)),
        ("{{ .CloudEvent.data.one }}", json!(1)),
        ("{{ .CloudEvent.data.big }}", json!(u64::MAX)),
        ("{{ .CloudEvent.data.yes }}", json!(true)),
        ("{{ .CloudEvent.data.octal }}", json!("0755")),
        ("{{ .CloudEvent.data.octal | int }}", json!(493)),
        ("{{ .CloudEvent.data.no }}", json!("no")),
        ("a{{ .CloudEvent.data.int }}", json!("a5")),
        ("\"{{ .CloudEvent.data.int }}\"", json!("5")),
        ("{{ .CloudEvent.data.int | quote }}", json!("5")),
        ("a {{ .CloudEvent.data.int | quote }}", json!("a \"5\"")),
        ("{{ mul .CloudEvent.data.int 2000000 }}", json!(10_000_000)),
        ("n{{ mul .CloudEvent.data.int 2000000 }}", json!("n10000000")),
        ("{{ .CloudEvent.data.icon }}", json!("\u{f0001}")),
        ("{{ \"\\U000F0000\" }}{{ .CloudEvent.data.text }}", json!("\u{f0000}hello")),
        ("{{ toJson .CloudEvent.data.nothing }}", json!(null)),
        ("{{ quote .CloudEvent.data.nothing }}", json!(null)),
    ] {
        gives(x, expected);
    }
}

#[test]
fn printed_text_can_be_printed_indented_and_made_a_value() {
    for (x, expected) in [
        ("{{ toYaml .CloudEvent.data.map | nindent 2 }}", json!({"k": "v", "n": 1})),
        ("{{ $y := toYaml .CloudEvent.data.map }}{{ $y | indent 0 | nindent 4 }}", json!({"k": "v", "n": 1})),
        ("{{ toJson .CloudEvent.data.map | trim | default \"none\" }}", json!({"k": "v", "n": 1})),
        ("{{ if toJson .CloudEvent.data.list }}some{{ end }}", json!("some")),
        ("{{ toJson .CloudEvent.data.map | quote }}", json!("{\"k\":\"v\",\"n\":1}")),
        ("{{ toJson .CloudEvent.data.list | b64enc }}", json!("WyJhIiwiYiJd")),
        ("{{ (fromJson (toJson .CloudEvent.data.map)).k }}", json!("v")),
        ("{{ len (toJson .CloudEvent.data.list) }}", json!(9)),
        ("{{ eq (toJson .CloudEvent.data.list) \"[\\\"a\\\",\\\"b\\\"]\" }}", json!(true)),
    ] {
        gives(x, expected);
    }
}

/// What a template changes is its own, and gone with the rendering.
#[test]
fn set_changes_nothing_outside_of_a_rendering() {
    let setting = Setting::default();
    let text = "{{ $_ := set .CloudEvent.data \"text\" (print .CloudEvent.data.text \"!\") }}{{ .CloudEvent.data.text }}";
    let template = compile(TemplateKind::Text, GoPasses::Event, text).unwrap();
    for _ in 0..2 {
        assert_eq!(template.text(&setting.context()).unwrap(), "hello!");
    }
}

#[test]
fn all_kinds_of_templates_are_known() {
    let setting = Setting::default();
    let context = setting.context();
    let literal = compile(
        TemplateKind::Literal,
        GoPasses::Event,
        "apiVersion: v1\nkind: A\nmetadata: {name: \"{{ x }}\"}\n",
    );
    assert!(literal.is_err_and(|error| error.fault == TemplateFault::Output));
    let literal = compile(
        TemplateKind::Literal,
        GoPasses::Event,
        "apiVersion: v1\nkind: A\nmetadata: {name: a}\nx: '{{ x }}'\n",
    );
    assert_eq!(literal.unwrap().manifests(&context).unwrap()[0].object()["x"], json!("{{ x }}"));
    let values = "replicas: {{ .CloudEvent.data.int }}\nmap: {{ toYaml .CloudEvent.data.map | nindent 2 }}\n";
    let values = compile(TemplateKind::Values, GoPasses::Event, values).unwrap();
    let found = values.values(&context).unwrap();
    assert_eq!(json!(found), json!({"replicas": 5, "map": {"k": "v", "n": 1}}));
    assert!(values.text(&context).unwrap_err().reason.contains("not of Text"));
    let text = compile(
        TemplateKind::Text,
        GoPasses::Event,
        "{{ if eq .CloudEvent.type \"auth.example.com.login\" }}Create{{ else }}Delete{{ end }}",
    );
    assert_eq!(text.as_ref().unwrap().text(&context).unwrap(), "Create");
    assert!(text.unwrap().manifests(&context).unwrap_err().reason.contains("not of Manifests"));
}

#[test]
fn what_is_read_is_told_in_the_words_of_the_engine() {
    let reads = |passes, text| -> Vec<String> {
        compile(TemplateKind::Text, passes, text).unwrap().reads().iter().cloned().collect()
    };
    let label = "{{ .Cluster.metadata.labels.env }}{{ .CloudEvent.subject }}";
    assert_eq!(reads(GoPasses::Event, label), ["cluster.labels.env", "event.subject", "origin.labels.env"]);
    assert_eq!(reads(GoPasses::Cluster, "{{ .Cluster.metadata.labels.env }}"), ["cluster.labels.env"]);
    assert_eq!(
        reads(GoPasses::Both, "{{ .CloudEvent.id }}{{ `{{ .Cluster.metadata.labels.env }}` }}"),
        ["cluster", "event.id", "resources", "trigger"]
    );
}

#[test]
fn the_tree_is_there_to_be_walked() {
    use fleet_core::gotemplate::ast::{Node, Operand};
    let tree =
        fleet_core::gotemplate::parse("a{{/* c */}}{{ if .x }}{{ $y.z | upper }}{{ end }}").map(|_| ());
    assert!(tree.unwrap_err().reason.contains("$y is not declared"));
    let tree = fleet_core::gotemplate::parse("a{{/* c */}}{{ .x.y | printf \"%s\" }}").unwrap();
    let [Node::Text { text, line: 1 }, Node::Comment { .. }, Node::Action(pipeline)] = tree.body.as_slice()
    else {
        panic!("{tree:?}");
    };
    assert_eq!((text.as_str(), pipeline.commands.len()), ("a", 2));
    assert_eq!(pipeline.commands[0].operands, [Operand::Field(vec!["x".into(), "y".into()])]);
}
