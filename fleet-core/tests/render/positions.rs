//! Positions that a value can take in a template, and what the result has to be. Also for the fuzz target `values`.

use std::sync::Arc;

use fleet_core::render::{Template, TemplateKind};
pub(crate) use fleet_core::testing::conformance::renderer::{HARMLESS, expected};
use serde_json::{Value, json};

use crate::setting::{Setting, compile};

/// Positions: what stands before the object, the object's fields, whether the position keeps types.
pub(crate) const POSITIONS: &[(&str, &str)] = &[
    ("", "x: {{ VALUE }}\n"),
    ("", "x: {{ VALUE }}   # comment {{ VALUE }}\n"),
    ("", "# {{ VALUE }}\nx: a\n"),
    ("", "x: a-{{ VALUE }}\n"),
    ("", "x: {{ VALUE }}-b\n"),
    ("", "x: a {{ VALUE }} b {{ VALUE }}\n"),
    ("", "x: a\n  {{ VALUE }}\n  b\n"),
    ("", "x: \"{{ VALUE }}\"\n"),
    ("", "x: \"a\\t{{ VALUE }}\\u0041 b\"\n"),
    ("", "x: \"a\n  {{ VALUE }}\n  b\"\n"),
    ("", "x: '{{ VALUE }}'\n"),
    ("", "x: 'it''s {{ VALUE }}'\n"),
    ("", "x: |\n  {{ VALUE }}\n  after\n"),
    ("", "x: |-\n  {{ VALUE }}\n"),
    ("", "x: |+\n  {{ VALUE }}\n\n"),
    ("", "x: |\n  a: {{ VALUE }}\n    b: [{{ VALUE }}]\n"),
    ("", "x: >\n  before\n  {{ VALUE }}\n  after\n"),
    ("", "x: >-\n  {{ VALUE }}\n"),
    ("", "x: [{{ VALUE }}, a, {{ VALUE }}]\n"),
    ("", "x: [{{ VALUE }}]\n"),
    ("", "x: {a: {{ VALUE }}, b: 'c{{ VALUE }}'}\n"),
    ("", "x:\n- {{ VALUE }}\n- - {{ VALUE }}\n- a: {{ VALUE }}\n"),
    ("", "labels: {'k-{{ VALUE }}': a}\n"),
    ("", "annotations:\n  {{ VALUE }}: b\n"),
    ("", "annotations: { {{ VALUE }}: '{{ VALUE }}'}\n"),
    ("", "data:\n  \"{{ VALUE }}.txt\": |\n    {{ VALUE }}\n"),
    ("", "stringData: { ? {{ VALUE }} : a}\n"),
    ("", "labels:\n{% for x in [VALUE, 'b', VALUE] %}\n  k{{ loop.index }}: {{ x }}\n{% endfor %}\n"),
    ("", "x:\n{% for x in [VALUE, 'b', VALUE] %}\n- {{ x }}\n- name: {{ x }}{{ loop.index }}\n{% endfor %}"),
    ("", "{% if VALUE == VALUE %}x: {{ VALUE }}{% endif %}\n"),
    ("", "x: {{ VALUE if true else 'b' }}\n"),
    ("", "x: {{ VALUE | default('b') }}\n"),
    ("", "x: {{ VALUE | string }}\n"),
    ("", "x: {{ [VALUE, VALUE] | join(': ') }}\n"),
    ("", "x: {{ 'a: ' ~ VALUE ~ '\n' }}\n"),
    ("", "x: {{ VALUE | replace('zz', '') | replace('zz', VALUE) }}\n"),
    ("", "x: {{ VALUE | quote }}\n"),
    ("", "x: {{ VALUE | squote }}\n"),
    ("", "x: {{ VALUE | tojson }}\n"),
    ("", "x: {{ VALUE | toyaml }}\n"),
    ("", "x: {{ [VALUE, {'a': VALUE, 'b': [VALUE]}] | tojson }}\n"),
    ("", "x: {{ {VALUE: 1} | tojson }}\n"),
    ("", "x: {{ {VALUE: {VALUE: VALUE}} | toyaml | nindent(2) }}\n"),
    ("", "x:\n  {{ [VALUE, [VALUE], {'a': VALUE}, []] | toyaml | indent(2) }}\n"),
    ("", "annotations:\n  json: '{\"a\": {{ VALUE | tojson }}, \"b\": {{ {VALUE: [VALUE]} | tojson }}}'\n"),
    ("", "annotations:\n  json: |\n    {{ {VALUE: [VALUE]} | tojson }}\n"),
    ("", "annotations:\n  json: \"{{ [VALUE] | tojson }}\"\n"),
    ("{% macro m(x) %}{{ x }}{% endmacro %}\n", "x: {{ m(VALUE) }}\n"),
    ("{% macro m(x) %}a: {{ x }}{% endmacro %}\n", "x:\n  {{ m(VALUE) }}\n"),
    ("{% macro m(x) %}{{ x }}{% endmacro %}\n", "x: 'a{{ m(VALUE) ~ VALUE ~ m(VALUE) }}b'\n"),
    ("{% macro m() %}- {{ caller() }}{% endmacro %}\n", "x:\n{% call m() %}{{ VALUE }}{% endcall %}\n"),
    ("{% set s %}{{ VALUE }}{% endset %}\n", "x: {{ s }}\ny: |\n  {{ s }}\n"),
    ("{% set s %}{{ VALUE }}\n- {{ VALUE }}{% endset %}\n", "x:\n  - {{ s | indent(2) }}\n"),
    ("{% set s = VALUE %}\n", "x: {{ s }}\n"),
    ("", "x: {% filter trim %}  {{ VALUE }} {% endfilter %}\n"),
    ("", "x:{% filter indent(3, true) %}\n{{ VALUE }}\n{% endfilter %}\n"),
    ("", "x: &anchor {{ VALUE }}\ny: *anchor\nz: {<<: {a: {{ VALUE }}}}\n"),
    ("", "x: !!str {{ VALUE }}\n"),
    ("", "x: !own {{ VALUE }}\n"),
    ("", "roleRef: {kind: {{ VALUE }}, name: {{ VALUE }}}\n"),
    ("", "x: a\n---\n---\napiVersion: v1\nkind: A\nmetadata: {name: b}\nx: {{ VALUE }}\n"),
];

/// Where the value comes from.
pub(crate) const SOURCES: &[&str] = &[
    "event.data.v",
    "event.subject",
    "event.ext",
    "message.headers.h",
    "cluster.labels.l",
    "cluster.annotations.l",
    "origin.labels.l",
    "resources.r.data.v",
    "resources['r']['data']['v']",
    "(resources.r.data | items | first | last)",
];

pub(crate) fn setting(value: &str) -> Setting {
    let mut setting = Setting::with(json!({ "v": value }));
    let mut event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "ext": value, "data": {"v": value}});
    if !value.is_empty() {
        event["subject"] = value.into();
    }
    setting.event = fleet_core::event::Event::from_json(event.to_string().as_bytes()).unwrap();
    setting.message.headers = vec![("h".into(), value.into())];
    setting.refer("r", Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"v": value}})));
    for cluster in [Some(&mut setting.cluster), setting.origin.as_mut()].into_iter().flatten() {
        cluster.labels = [("l".to_owned(), value.to_owned())].into();
        cluster.annotations = cluster.labels.clone();
    }
    setting
}

/// One position, with values of one source.
pub(crate) struct Position {
    text: String,
    template: Arc<dyn Template>,
    harmless: Vec<Value>,
}

impl Position {
    pub(crate) fn new((definitions, fields): (&str, &str), source: &str) -> Self {
        let text = format!("{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}")
            .replace("VALUE", source);
        let template = compile(TemplateKind::Manifests, &text).unwrap();
        Self::of(text, template)
    }

    /// The position in a template that is compiled from this text.
    pub(crate) fn of(text: String, template: Arc<dyn Template>) -> Self {
        let harmless =
            setting(HARMLESS).render_compiled(&*template).unwrap_or_else(|error| panic!("{text}: {error}"));
        Self { text, template, harmless }
    }

    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        let found = setting(value).render_compiled(&*self.template);
        let found = found.map_err(|error| format!("{value:?} in {}: {error}", self.text))?;
        let expected: Vec<_> = self.harmless.iter().map(|harmless| expected(harmless, value)).collect();
        if found == expected {
            Ok(())
        } else {
            Err(format!("{value:?} in {} gave {found:?}, not {expected:?}", self.text))
        }
    }
}

/// Whether a text leaves one private-use plane to the renderer, which refuses one that does not; and to the positions the
/// words that one of them replaces, and one compares with.
pub(crate) fn leaves_room(text: &str) -> bool {
    let has = |first: char, last: char| text.chars().any(|char| (first..=last).contains(&char));
    text != "b"
        && !text.contains("zz")
        && (!has('\u{f0000}', '\u{fffff}') || !has('\u{100000}', '\u{10ffff}'))
}
