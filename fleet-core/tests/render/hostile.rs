//! Invariant 6: data never becomes structure. Hostile values go through every position of a template; the result has
//! the same shape as with a harmless value, and the value arrives byte for byte.

use std::sync::{Arc, LazyLock};

use fleet_core::render::{Template, TemplateKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::setting::{Setting, compile};

/// A value that could not be mistaken for anything else. The corpus looks for it, to know where values belong.
const HARMLESS: &str = "harmless";

const HOSTILE: &[&str] = &[
    "",
    " ",
    "a b",
    "  leading",
    "trailing  ",
    "\n",
    "a\nb",
    "\na",
    "a\n",
    "a\n\nb\n\n",
    "a\r\nb",
    "\r",
    "\t",
    "\ta: b",
    // What YAML reads into plain scalars.
    "null",
    "~",
    "true",
    "no",
    "off",
    "y",
    "5",
    "0755",
    "0o7",
    "1e3",
    "1_000",
    "0x1F",
    ".inf",
    "-.5",
    "12:30:45",
    "2001-01-01",
    "=",
    "<<",
    // Indicators.
    "a: b",
    "a:",
    ": a",
    "a #b",
    "#a",
    "- a",
    "-",
    "---",
    "--- a",
    "...",
    "? a",
    "&a",
    "*a",
    "!a",
    "!!int 5",
    "!!binary aGk=",
    "%YAML 1.1",
    "@a",
    "`a`",
    "'",
    "''",
    "\"",
    "\"\"",
    "'a'",
    "\"a\"",
    "\\",
    "\\n",
    "\\\"",
    "{",
    "}",
    "{}",
    "[",
    "]",
    "[a, b]",
    "{a: b}",
    ",",
    "a, b",
    "|",
    ">",
    "|\n  a",
    ">-\n  a",
    // Whole documents.
    "x\nkind: Secret",
    "x\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: evil}\n",
    "x\"\nkind: Secret\ny: \"",
    "x'\nkind: Secret\ny: '",
    "x\n  labels: {evil: yes}\n",
    "\n    kind: Secret",
    "x}, kind: Secret, y: {",
    "x], kind: [",
    // Templates.
    "{{ event }}",
    "{% raw %}",
    "{# x #}",
    "{{ debug() }}",
    "}}",
    "{{{{",
    "%}",
    // Characters.
    "\u{0}",
    "a\u{0}b",
    "\u{1}\u{8}\u{b}\u{c}\u{1f}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}\u{2029}",
    "\u{feff}",
    "\u{fffe}",
    "\u{ffff}",
    "é",
    "日本語",
    "😀",
    "👩‍👩‍👧",
    "🏴\u{e0067}\u{e0062}\u{e007f}",
    "\u{202e}abc",
    "\u{e000}",
    "\u{f8ff}",
    "\u{f0000}",
    "\u{f0000}\u{f0001}\u{f0002}",
    "\u{ffffd}",
    "\u{100000}",
    "\u{10fffd}",
    // Names and paths.
    "../../x",
    "https://x/y?z=1#f",
    "a/b",
    "<script>",
    "$(id)",
    "`id`",
    "%00",
    "%0A",
];

/// Positions: what stands before the object, the object's fields, whether the position keeps types.
const POSITIONS: &[(&str, &str)] = &[
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
const SOURCES: &[&str] = &[
    "event.data.v",
    "event.subject",
    "event.ext",
    "message.headers.h",
    "cluster.labels.l",
    "cluster.annotations.l",
    "origin.labels.l",
];

fn setting(value: &str) -> Setting {
    let mut setting = Setting::with(json!({ "v": value }));
    let mut event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "ext": value, "data": {"v": value}});
    if !value.is_empty() {
        event["subject"] = value.into();
    }
    setting.event = fleet_core::event::Event::from_json(event.to_string().as_bytes()).unwrap();
    setting.message.headers = vec![("h".into(), value.into())];
    for cluster in [Some(&mut setting.cluster), setting.origin.as_mut()].into_iter().flatten() {
        cluster.labels = [("l".to_owned(), value.to_owned())].into();
        cluster.annotations = cluster.labels.clone();
    }
    setting
}

/// One position, with values of one source.
struct Position {
    text: String,
    template: Arc<dyn Template>,
    harmless: Vec<Value>,
}

impl Position {
    fn new((definitions, fields): (&str, &str), source: &str) -> Self {
        let text = format!("{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}")
            .replace("VALUE", source);
        let template = compile(TemplateKind::Manifests, &text).unwrap();
        let harmless =
            setting(HARMLESS).render_compiled(&*template).unwrap_or_else(|error| panic!("{text}: {error}"));
        Self { text, template, harmless }
    }

    fn check(&self, value: &str) -> Result<(), String> {
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

/// What the result with a harmless value becomes with another one: the same, with the value in its places.
fn expected(harmless: &Value, value: &str) -> Value {
    match harmless {
        Value::String(text) => Value::String(instead(text, value)),
        Value::Array(items) => items.iter().map(|item| expected(item, value)).collect(),
        Value::Object(entries) => {
            let entry = |(key, item): (&String, &Value)| (instead(key, value), expected(item, value));
            Value::Object(entries.iter().map(entry).collect())
        }
        other => other.clone(),
    }
}

fn instead(text: &str, value: &str) -> String {
    // JSON within the text holds the value as JSON.
    let as_json = |text: &str| json!(text).to_string();
    text.replace(&as_json(HARMLESS), &as_json(value)).replace(HARMLESS, value)
}

#[test]
fn hostile_values_stay_values_in_every_position() {
    let long = ["x".repeat(20_000), "a: b\n".repeat(5_000), "👩‍👩‍👧\u{f0000}".repeat(2_000)];
    let values: Vec<&str> = HOSTILE.iter().copied().chain(long.iter().map(String::as_str)).collect();
    let mut faults = Vec::new();
    for position in POSITIONS {
        let position = Position::new(*position, SOURCES[0]);
        faults.extend(values.iter().filter_map(|value| position.check(value).err()));
    }
    assert!(faults.is_empty(), "{} faults, the first: {}", faults.len(), faults[0]);
}

#[test]
fn wherever_they_come_from() {
    for source in SOURCES {
        for position in
            [POSITIONS[0], ("", "labels: {'k-{{ VALUE }}': '{{ VALUE }}'}\nx: |\n  {{ VALUE }}\n")]
        {
            let position = Position::new(position, source);
            for value in HOSTILE.iter().filter(|value| !value.is_empty() || *source != "event.subject") {
                position.check(value).unwrap();
            }
        }
    }
}

/// Where a trigger renders all its keys together, in a loop over their events.
#[test]
fn in_a_loop_over_events_too() {
    let sources = ["it.event.data.v", "it.event.subject", "it.message.headers.h", "it.origin.labels.l"];
    for (index, (definitions, fields)) in POSITIONS.iter().enumerate() {
        for source in sources.iter().take(if index < 2 { sources.len() } else { 1 }) {
            let text = format!(
                "{{% for it in events %}}\n---\n{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}\n{{% endfor %}}"
            )
            .replace("VALUE", source);
            let template = compile(TemplateKind::Manifests, &text).unwrap();
            let render = |value: &str| {
                let settings = [setting(value), setting(HARMLESS), setting(value)];
                Setting::render_together(&settings, &*template)
            };
            let harmless = render(HARMLESS).unwrap_or_else(|error| panic!("{text}: {error}"));
            let in_each = harmless.len() / 3;
            for value in HOSTILE.iter().filter(|value| !value.is_empty() || !source.ends_with("subject")) {
                let of =
                    |place: usize| if (in_each..2 * in_each).contains(&place) { HARMLESS } else { value };
                let wanted: Vec<_> =
                    harmless.iter().enumerate().map(|(place, it)| expected(it, of(place))).collect();
                assert_eq!(render(value).as_ref(), Ok(&wanted), "{value:?} in {text}");
            }
        }
    }
}

#[test]
fn they_stay_text_in_keys_and_actions() {
    for value in HOSTILE {
        let setting = setting(value);
        assert_eq!(setting.text("a/{{ event.data.v }}/b").unwrap(), format!("a/{value}/b"));
    }
}

/// The corpus is worth what it finds: printed the usual way, most of it changes shape.
#[test]
fn printed_raw_the_corpus_finds_faults() {
    let harmed = |(definitions, fields): (&str, &str), value: &str| {
        let text = format!("{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}")
            .replace("VALUE", "v");
        let mut environment = minijinja::Environment::new();
        environment.add_filter("toyaml", |value: minijinja::Value| value.to_string());
        let raw = |value: &str| {
            let text = environment.render_str(&text, minijinja::context! { v => value }).ok()?;
            let documents = fleet_core::yaml::documents(&text);
            documents
                .into_iter()
                .map(|document| document.ok().map(|document| document.value))
                .collect::<Option<Vec<_>>>()
        };
        let harmless = raw(HARMLESS)?;
        Some(raw(value) != Some(harmless.iter().map(|harmless| expected(harmless, value)).collect()))
    };
    let (mut harmful_values, mut weak_positions) = (0, 0);
    for value in HOSTILE {
        harmful_values +=
            usize::from(POSITIONS.iter().any(|position| harmed(*position, value) == Some(true)));
    }
    for position in POSITIONS {
        weak_positions += usize::from(HOSTILE.iter().any(|value| harmed(*position, value) == Some(true)));
    }
    assert!(harmful_values > HOSTILE.len() * 2 / 3, "{harmful_values} of {} values do harm", HOSTILE.len());
    assert!(
        weak_positions > POSITIONS.len() * 2 / 3,
        "{weak_positions} of {} positions are weak",
        POSITIONS.len()
    );
}

/// Text made of pieces that mean something to YAML, JSON or Jinja, and of anything.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(HOSTILE).prop_map(str::to_owned),
        2 => "[\\x00-\\x7f]{0,4}",
        1 => ".{0,4}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()).prop_filter(
        "one plane is needed",
        |text| {
            let has = |first: char, last: char| text.chars().any(|char| (first..=last).contains(&char));
            !has('\u{f0000}', '\u{fffff}') || !has('\u{100000}', '\u{10ffff}')
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_stays_a_value(value in hostile_text(), position in 0..POSITIONS.len()) {
        static COMPILED: LazyLock<Vec<Position>> =
            LazyLock::new(|| POSITIONS.iter().map(|position| Position::new(*position, SOURCES[0])).collect());
        prop_assert_eq!(COMPILED[position].check(&value), Ok(()));
    }
}
