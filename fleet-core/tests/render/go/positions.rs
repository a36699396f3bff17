//! Positions that a value can take in a Go template. Also for the fuzz target `values`.

use std::sync::Arc;

use fleet_core::languages::Languages;
use fleet_core::render::{
    GoPasses, Language, Renderer, Template, TemplateError, TemplateKind, TemplateSource,
};

use crate::positions::Position;

/// What stands before the object, and the object's fields.
pub(crate) const POSITIONS: &[(&str, &str)] = &[
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
pub(crate) const IN_THE_SECOND_PASS: &[(&str, &str)] = &[
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
pub(crate) const SOURCES: &[&str] = &[
    "$.CloudEvent.data.v",
    "$.CloudEvent.subject",
    "$.CloudEvent.ext",
    "$.Message.headers.h",
    "$.Cluster.metadata.labels.l",
    "$.Cluster.metadata.annotations.l",
    "(getResource \"r\").data.v",
    "(getField \"r\" \"data.v\")",
    "$.MgmtResources.r.data.v",
];

pub(crate) fn text((definitions, fields): (&str, &str), source: &str) -> String {
    // Within a definition, `$` is what it is rendered with; there no position has the source.
    format!("{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}").replace("VALUE", source)
}

#[allow(dead_code, reason = "for the fuzz targets")]
pub(crate) fn position(position: (&str, &str), source: &str, passes: GoPasses) -> Position {
    let text = text(position, source);
    let template =
        compile(TemplateKind::Manifests, passes, &text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Position::of(text, template)
}

pub(crate) fn compile(
    kind: TemplateKind,
    passes: GoPasses,
    text: &str,
) -> Result<Arc<dyn Template>, TemplateError> {
    let source = TemplateSource::new("ConfigMap default/t, key a.yaml", text, kind);
    Languages.compile(&source.in_language(Language::Go(passes)))
}
