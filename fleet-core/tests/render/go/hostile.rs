//! Invariant 6 for Go templates: the same corpus, in every position of a Go template, in one pass and in two.

use fleet_core::render::{GoPasses, TemplateKind};
use serde_json::json;

use super::compile;
use crate::corpus::HOSTILE;
use crate::positions::{HARMLESS, Position, expected, setting};
use crate::setting::Setting;

/// What stands before the object, and the object's fields.
const POSITIONS: &[(&str, &str)] = &[
    ("", "x: {{ VALUE }}\n"),
    ("", "x: {{ VALUE }}   # comment {{ VALUE }}\n"),
    ("", "# {{ VALUE }}\nx: a\n"),
    ("", "x: a-{{ VALUE }}-b\n"),
    ("", "x: a {{ VALUE }} b {{ VALUE }}\n"),
    ("", "x: a\n  {{ VALUE }}\n  b\n"),
    ("", "x: \"{{ VALUE }}\"\n"),
    ("", "x: \"a\\t{{ VALUE }}\\u0041 b\"\n"),
    ("", "x: 'it''s {{ VALUE }}'\n"),
    ("", "x: |\n  {{ VALUE }}\n  after\n"),
    ("", "x: |-\n  {{ VALUE }}\n"),
    ("", "x: >-\n  before\n  {{ VALUE }}\n"),
    ("", "x: [{{ VALUE }}, a, {{ VALUE }}]\n"),
    ("", "x: {a: {{ VALUE }}, b: 'c{{ VALUE }}'}\n"),
    ("", "x:\n- {{ VALUE }}\n- - {{ VALUE }}\n- a: {{ VALUE }}\n"),
    ("", "labels: {'k-{{ VALUE }}': a}\n"),
    ("", "annotations:\n  {{ VALUE }}: b\n"),
    ("", "data:\n  \"{{ VALUE }}.txt\": |\n    {{ VALUE }}\n"),
    ("", "labels:\n{{- range $i, $e := list VALUE \"b\" VALUE }}\n  k{{ $i }}: {{ $e }}\n{{- end }}\n"),
    ("", "x:\n{{- range (list VALUE \"b\" VALUE) }}\n- {{ . }}\n- name: {{ . }}-x\n{{- end }}\n"),
    ("", "annotations:\n{{- range $k, $v := dict VALUE VALUE }}\n  {{ $k }}: {{ $v }}\n{{- end }}\n"),
    ("", "{{ if eq VALUE VALUE }}x: {{ VALUE }}{{ end }}\n"),
    ("", "{{ with dict \"a\" VALUE }}x: {{ .a }}{{ end }}\n"),
    ("", "{{- $v := VALUE }}\nx: {{ $v }}\n{{- $v = print \"a\" $v }}\ny: {{ $v }}\n"),
    ("", "x: {{ VALUE | default VALUE }}y\n"),
    ("", "x: {{ ternary VALUE \"b\" true }}\n"),
    ("", "x: {{ print \"a: \" VALUE \"\\n\" }}\n"),
    ("", "x: {{ printf \"%s: %s\" VALUE VALUE }}\n"),
    ("", "x: {{ list VALUE VALUE | join \": \" }}\n"),
    ("", "x: {{ VALUE | replace \"zz\" \"\" }}\n"),
    ("", "x: {{ VALUE | toString | b64enc | b64dec }}y\n"),
    ("", "x: {{ VALUE | quote }}\n"),
    ("", "x: {{ VALUE | squote }}\n"),
    ("", "x: 'in {{ VALUE | quote }}'\n"),
    ("", "x: {{ quote VALUE VALUE }}\n"),
    ("", "x: {{ VALUE | toJson }}\n"),
    ("", "x: {{ VALUE | toYaml }}\n"),
    ("", "x: {{ list VALUE (dict \"a\" VALUE \"b\" (list VALUE)) | toJson }}\n"),
    ("", "x: {{ dict VALUE (dict VALUE VALUE) | toYaml | nindent 2 }}\n"),
    ("", "x:\n{{ list VALUE (list VALUE) (dict \"a\" VALUE) list | toYaml | indent 2 }}\n"),
    ("", "x: {{ dict VALUE (list VALUE) | toPrettyJson | trim }}\n"),
    (
        "",
        "annotations:\n  json: '{\"a\": {{ VALUE | toJson }}, \"b\": {{ dict VALUE (list VALUE) | toJson }}}'\n",
    ),
    ("", "annotations:\n  json: |\n    {{ dict VALUE (list VALUE) | toJson }}\n"),
    ("", "data:\n  text: |\n{{ VALUE | indent 4 }}\n    after\n"),
    ("", "data:\n  text: |-\n    {{- VALUE | nindent 4 }}\n"),
    ("", "x: {{ (fromJson (toJson (dict \"a\" VALUE))).a }}\n"),
    ("", "x: {{ get (set (dict \"b\" 1) \"a\" VALUE) \"a\" }}\n"),
    ("", "x: {{ index (merge (dict) (dict \"a\" (dict VALUE VALUE))) \"a\" VALUE }}\n"),
    ("{{ define \"m\" }}a: {{ . }}{{ end }}", "x:\n  {{ template \"m\" VALUE }}\n"),
    ("{{ define \"m\" }}{{ $ }}-{{ . }}{{ end }}", "x: {{ template \"m\" VALUE }}\n"),
    ("", "x: {{ block \"b\" VALUE }}'{{ . }}'{{ end }}\n"),
    ("", "x: &anchor {{ VALUE }}\ny: *anchor\nz: {<<: {a: {{ VALUE }}}}\n"),
    ("", "x: !!str {{ VALUE }}\n"),
    ("", "roleRef: {kind: {{ VALUE }}, name: {{ VALUE }}}\n"),
    ("", "x: a\n---\n---\napiVersion: v1\nkind: A\nmetadata: {name: b}\nx: {{ VALUE }}\n"),
];

/// Positions in the template that the first pass writes for the second.
const IN_THE_SECOND_PASS: &[(&str, &str)] = &[
    ("", "x: {{ \"{{\" }} \"{{ VALUE }}\" {{ \"}}\" }}\n"),
    ("", "x: {{ \"{{ `\" }}{{ VALUE }}{{ \"` }}\" }}\n"),
    ("", "x: a-{{ `{{ print \"b` }}{{ VALUE }}{{ `c\" }}` }}\n"),
    ("", "x: {{ `{{ \"` }}{{ VALUE }}{{ `\" | quote }}` }}\n"),
    ("", "x: {{ `{{ dict \"` }}{{ VALUE }}{{ `\" \"` }}{{ VALUE }}{{ `\" | toYaml | nindent 2 }}` }}\n"),
    ("", "annotations:\n  a: '{{ `{{ toJson \"` }}{{ VALUE }}{{ `\" }}` }}'\n"),
    (
        "",
        "{{ `{{ if eq \"` }}{{ VALUE }}{{ `\" \"b\" }}` }}x: c{{ `{{ else }}` }}x: {{ VALUE }}{{ `{{ end }}` }}\n",
    ),
    ("", "{{ `{{/* ` }}{{ VALUE }}{{ ` */}}` }}\nx: {{ VALUE }}\n"),
    ("", "x: {{ `{{ .Cluster.metadata.labels.l }}` }}-{{ VALUE }}\n"),
    ("", "x:\n{{ `{{ range (list 1 2) }}` }}\n- {{ VALUE }}\n{{ `{{ end }}` }}\n"),
    (
        "",
        "x: {{ `{{ index (dict \"` }}{{ VALUE }}{{ `\" \"v\") \"` }}{{ VALUE }}{{ `\" }}` }}\ny: {{ VALUE }}\n",
    ),
    ("", "annotations:\n  {{ VALUE | quote }}: {{ dict VALUE `}}` | toRawJson | quote }}\n"),
];

/// Where the value comes from.
const SOURCES: &[&str] = &[
    "$.CloudEvent.data.v",
    "$.CloudEvent.subject",
    "$.CloudEvent.ext",
    "$.Message.headers.h",
    "$.Cluster.metadata.labels.l",
    "$.Cluster.metadata.annotations.l",
];

fn text((definitions, fields): (&str, &str), source: &str) -> String {
    // Within a definition, `$` is what it is rendered with; there no position has the source.
    format!("{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}").replace("VALUE", source)
}

fn position(position: (&str, &str), source: &str, passes: GoPasses) -> Position {
    let text = text(position, source);
    let template =
        compile(TemplateKind::Manifests, passes, &text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Position::of(text, template)
}

fn faults(position: &Position, values: &[&str]) -> Vec<String> {
    values.iter().filter_map(|value| position.check(value).err()).collect()
}

#[test]
fn hostile_values_stay_values_in_every_position() {
    let long = ["x".repeat(20_000), "a: b\n".repeat(5_000), "👩‍👩‍👧\u{f0000}".repeat(2_000)];
    let values: Vec<&str> = HOSTILE.iter().copied().chain(long.iter().map(String::as_str)).collect();
    let mut all = Vec::new();
    for it in POSITIONS {
        all.extend(faults(&position(*it, SOURCES[0], GoPasses::Event), &values));
    }
    assert!(all.is_empty(), "{} faults, the first: {}", all.len(), all[0]);
}

#[test]
fn in_two_passes_too() {
    let mut all = Vec::new();
    for it in POSITIONS.iter().chain(IN_THE_SECOND_PASS) {
        all.extend(faults(&position(*it, SOURCES[0], GoPasses::Both), HOSTILE));
    }
    assert!(all.is_empty(), "{} faults, the first: {}", all.len(), all[0]);
}

#[test]
fn wherever_they_come_from() {
    let everywhere = ("", "labels: {'k-{{ VALUE }}': '{{ VALUE }}'}\nx: |\n  {{ VALUE }}\ny: {{ VALUE }}\n");
    for source in SOURCES {
        let position = position(everywhere, source, GoPasses::Event);
        for value in HOSTILE.iter().filter(|value| !value.is_empty() || !source.ends_with("subject")) {
            position.check(value).unwrap();
        }
    }
    let target = position(everywhere, "$.Cluster.metadata.labels.l", GoPasses::Cluster);
    assert_eq!(faults(&target, HOSTILE), Vec::<String>::new());
}

#[test]
fn in_a_loop_over_events_too() {
    let text = "{{ range .CloudEvents }}\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\nx: {{ .data.v }}\ny: |\n  \
                {{ .ext }}\n{{ end }}";
    let template = compile(TemplateKind::Manifests, GoPasses::Event, text).unwrap();
    let render =
        |value: &str| Setting::render_together(&[setting(value), setting(HARMLESS)], &*template).unwrap();
    let harmless = render(HARMLESS);
    for value in HOSTILE {
        assert_eq!(render(value), [expected(&harmless[0], value), harmless[1].clone()], "{value:?}");
    }
}

/// Names of fields are data too: none of them reaches anything but its own value.
#[test]
fn keys_of_data_are_data() {
    let text = "apiVersion: v1\nkind: A\nmetadata: {name: a}\nall: {{ .CloudEvent.data | toJson }}\none: {{ index .CloudEvent.data \
                .Message.headers.h }}\neach:\n{{ range $k, $v := .CloudEvent.data }}\n- {{ $k }}\n- {{ $v }}\n{{ end }}\n";
    for passes in [GoPasses::Event, GoPasses::Both] {
        let template = compile(TemplateKind::Manifests, passes, text).unwrap();
        for key in HOSTILE {
            let data = json!({ *key: "kind: Secret" });
            let mut setting = Setting::with(data.clone());
            setting.message.headers = vec![("h".into(), (*key).into())];
            let found =
                setting.render_compiled(&*template).unwrap_or_else(|error| panic!("{key:?}: {error}"));
            assert_eq!((&found[0]["all"], &found[0]["one"]), (&data, &data[*key]), "{key:?}");
            assert_eq!(found[0]["each"], json!([key, data[*key]]), "{key:?}");
        }
    }
}

#[test]
fn they_stay_text_in_keys_and_actions() {
    for passes in [GoPasses::Event, GoPasses::Both] {
        let template = compile(TemplateKind::Text, passes, "a/{{ .CloudEvent.data.v }}/b").unwrap();
        for value in HOSTILE {
            let setting = setting(value);
            assert_eq!(template.text(&setting.context()).unwrap(), format!("a/{value}/b"));
        }
    }
}

/// The corpus is worth what it finds: printed as Go prints, most of it changes shape.
#[test]
fn printed_raw_the_corpus_finds_faults() {
    let harmed = |template: &dyn fleet_core::render::Template, value: &str| {
        let raw = |value: &str| {
            let text = template.text(&setting(value).context()).ok()?;
            let documents = fleet_core::yaml::documents(&text).into_iter();
            documents.map(|document| document.ok().map(|document| document.value)).collect::<Option<Vec<_>>>()
        };
        let harmless = raw(HARMLESS)?;
        Some(raw(value) != Some(harmless.iter().map(|harmless| expected(harmless, value)).collect()))
    };
    let templates: Vec<_> = POSITIONS
        .iter()
        .map(|position| compile(TemplateKind::Text, GoPasses::Event, &text(*position, SOURCES[0])).unwrap())
        .collect();
    let does_harm = |value: &&&str| templates.iter().any(|template| harmed(&**template, value) == Some(true));
    let harmful = HOSTILE.iter().filter(does_harm).count();
    assert!(harmful > HOSTILE.len() * 2 / 3, "{harmful} of {} values do harm", HOSTILE.len());
    let is_weak = |template: &&std::sync::Arc<dyn fleet_core::render::Template>| {
        HOSTILE.iter().any(|value| harmed(&***template, value) == Some(true))
    };
    let weak = templates.iter().filter(is_weak).count();
    assert!(weak > POSITIONS.len() * 2 / 3, "{weak} of {} positions are weak", POSITIONS.len());
}
