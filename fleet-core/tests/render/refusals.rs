//! What templates may not do, and how that is told.

use fleet_core::render::{TemplateFault, TemplateKind};
use serde_json::json;

use crate::rules::{gives, refuses};
use crate::setting::{Setting, compile};

/// Which names there are depends on whether the trigger renders each key on its own.
#[test]
fn what_is_there_for_one_kind_of_trigger_only_is_explained() {
    let object = |x: &str| format!("apiVersion: v1\nkind: A\nmetadata: {{name: a}}\nx: {x}\n");
    let alone = Setting::default();
    let together = [Setting::default(), Setting::default()];
    for name in ["{{ event.subject }}", "{{ message.subject }}", "{{ event['id'] }}", "{{ origin.name }}"] {
        let template = compile(TemplateKind::Manifests, &object(name)).unwrap();
        let error = Setting::render_together(&together, &*template).unwrap_err();
        assert_eq!((error.fault, error.line), (TemplateFault::Undefined, Some(4)), "{name}");
        assert!(error.reason.contains("{% for it in events %}"), "{name}: {}", error.reason);
    }
    let list =
        "[{% for it in events %}{{ it.event.subject }}{{ it.origin.name }}{{ cluster.name }}, {% endfor %}]";
    let template = compile(TemplateKind::Manifests, &object(list)).unwrap();
    let rendered = Setting::render_together(&together, &*template).unwrap();
    assert_eq!(rendered[0]["x"], json!(["mgianlucorigin1cluster1", "mgianlucorigin1cluster1"]));
    assert_eq!(
        Setting::render_together(&[Setting { origin: None, ..Setting::default() }], &*template)
            .unwrap_err()
            .fault,
        TemplateFault::Undefined
    );
    let error = alone.render(&object(list)).unwrap_err();
    assert_eq!(error.fault, TemplateFault::Undefined);
    assert!(error.reason.contains("oneForEvent: false"), "{}", error.reason);
    let other = alone.render(&object("{{ event.nothing }}")).unwrap_err();
    assert!(!other.reason.contains("oneForEvent"), "{}", other.reason);
}

#[test]
fn undefined_is_an_error_that_names_the_variable_and_the_line() {
    for (variable, x) in [
        ("event.nope", "{{ event.nope }}"),
        ("event.data.nope", "{{ event.data.nope.deeper }}"),
        ("nope", "{{ nope }}"),
        ("nope", "a-{{ nope ~ 'b' }}"),
        ("event.nope", "{{ event.nope | upper }}"),
        ("event.nope", "{{ event.nope | length }}"),
        ("event.nope", "{{ event.nope | quote }}"),
        ("event.nope", "{{ event.nope | tojson }}"),
        ("event.nope", "{{ [event.nope] | tojson }}"),
        ("event.nope", "{% if event.nope %}a{% endif %}"),
        ("event.nope", "{% for a in event.nope %}a{% endfor %}"),
        ("1 if false", "{{ 1 if false }}"),
        ("loop", "{{ loop.index }}"),
    ] {
        let error = refuses(x, TemplateFault::Undefined, variable);
        assert_eq!(error.line, Some(4), "{x}: {error}");
        assert!(error.to_string().starts_with("ConfigMap default/t, key a.yaml, line 4: `"), "{error}");
    }
    gives("{{ event.nope | default('none') }}", json!("none"));
    gives("{% if event.nope is defined %}a{% else %}b{% endif %}", json!("b"));
    let setting = Setting { origin: None, ..Setting::default() };
    assert_eq!(setting.render_in("", "{{ origin.name }}").unwrap_err().fault, TemplateFault::Undefined);
    assert_eq!(setting.render_in("", "{{ origin is defined }}").unwrap(), json!(false));
}

#[test]
fn what_would_print_raw_is_not_available() {
    for (x, reason) in [
        ("{{ event.subject | safe }}", "filter safe is unknown"),
        ("{{ event.subject | escape }}", "filter escape is unknown"),
        ("{{ event.subject | e }}", "filter e is unknown"),
        ("{{ event | pprint }}", "filter pprint is unknown"),
        ("{{ debug() }}", "debug is unknown"),
        ("{% include 'other' %}", "other templates cannot be loaded"),
        ("{% import 'other' as o %}", "other templates cannot be loaded"),
        ("{% extends 'other' %}", "other templates cannot be loaded"),
    ] {
        refuses(x, TemplateFault::Evaluation, reason);
    }
    for mode in ["false", "true", "'html'", "'none'", "'json'"] {
        // `true` is how it is anyway.
        let result = Setting::default().render_in(
            "",
            &format!("{{% autoescape {mode} %}}{{{{ event.data.lines }}}}{{% endautoescape %}}"),
        );
        match result {
            Ok(found) => assert_eq!((mode, found), ("true", json!("one\ntwo\n"))),
            Err(error) => assert!(error.reason.contains("autoescape is not available"), "{error}"),
        }
    }
}

#[test]
fn characters_of_the_planes_cannot_be_forged() {
    let setting = Setting::with(json!({"text": "hello"}));
    for (x, expected) in [
        ("\u{f0000}{{ event.data.text }}", "\u{f0000}hello"),
        ("{{ '\u{f0000}' }}{{ event.data.text }}", "\u{f0000}hello"),
        ("\"\\U000F0000\"", "\u{f0000}"),
        ("\"\\U000F0000{{ event.data.text }}\"", "an escape stands for"),
        ("[\"\\U000F0000\", {{ event.data.text }}]", "an escape stands for"),
        ("{{ '\\U000F0000' }}{{ event.data.text }}", "\\U000F0000hello"),
        ("{{ '\\uDB80\\uDC00' }}{{ event.data.text }}", "taken apart"),
    ] {
        match setting.render_in("", x) {
            Ok(found) => assert_eq!(found, json!(expected), "{x}"),
            Err(error) => assert!(error.reason.contains(expected), "{x}: {error}"),
        }
    }
    let both = Setting::with(json!({"a": "\u{f0000}", "b": "\u{100000}"}));
    assert_eq!(both.render_in("", "{{ event.data.a }}").unwrap_err().fault, TemplateFault::Limit);
    assert_eq!(both.render_in("", "{{ event.subject }}").unwrap(), json!("mgianluc"));
    for plane in ["\u{f0000}", "\u{100000}", "\u{10fffd}", "\u{e000}", "🏴\u{e0067}\u{e007f}"] {
        let setting = Setting::with(json!({"a": plane}));
        assert_eq!(
            setting.render_in("", "[{{ event.data.a }}, '{{ event.data.a }}!']").unwrap(),
            json!([plane, format!("{plane}!")])
        );
    }
}

#[test]
fn errors_name_the_line_of_the_template() {
    let setting = Setting::default();
    for (text, line) in [
        ("apiVersion: v1\nkind: A\nmetadata:\n  name: a\n  b: {{ nope }}\n", 5),
        ("{% for a in [1, 2, 3] %}{{ a }}\n\n{% endfor %}{{ nope }}", 3),
        // A macro's own error is where it is written.
        ("{% macro m() %}\n{{ nope }}{% endmacro %}\n{{ m() }}", 2),
        // Not YAML, after a loop that writes many lines.
        ("{% for a in range(10) %}\n# x\n# y\n{% endfor %}\nkind: [\n", 5),
        ("a: 1\n{% for a in range(10) %}\n# x\n{% endfor %}\nb: c: d\n", 5),
        // The same, in the middle of the loop.
        ("{% for a in range(10) %}\na{{ a }}:\n  - x: 1\n    x: 2\n{% endfor %}", 2),
        ("x:\n{% for a in range(10) %}\n  a: 1\n{% endfor %}", 3),
        // Printed by a macro: the line of the call.
        ("{% macro m() %}a: 1\na: 2{% endmacro %}\n\n{{ m() }}", 4),
        // Not an object: the line of the field, or of the document.
        (
            "# c\n{% if true %}\n{% endif %}\napiVersion: v1\nkind: A\nmetadata:\n  labels: {}\n  name: ../x\n",
            8,
        ),
        ("# c\n\nkind: A\n", 3),
        ("a\n---\n\nb\n", 1),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a}\n{{ '' }}---\n\n- {{ 1 }}\n", 4),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n\n- {{ 1 }}\n", 6),
        ("{% set x = 1 %}\napiVersion: v1\nkind: A\nmetadata:\n  name: a\n  labels:\n    a: {{ 1 }}\n", 6),
    ] {
        let error = setting.render(text).unwrap_err();
        assert_eq!(error.line, Some(line), "{text:?}: {error}");
    }
}

#[test]
fn errors_show_no_values() {
    let secret = "s3cr3t";
    let setting = Setting::with(json!({"s": secret, "list": [secret], "map": {secret: secret}, "n": 31337}));
    for x in [
        "{{ event.data.s + 1 }}",
        "{{ event.data.n / 0 }}",
        "{{ event.data.s / 2 }}",
        "{{ event.data.n + event.data.s }}",
        "{{ -event.data.s }}",
        "{{ event.data.s | int }}",
        "{{ event.data.s | float }}",
        "{{ event.data.list }}",
        "{{ event.data.map }}",
        "{{ event.data.map[event.data.s].x }}",
        "{{ event.data[event.data.s] }}",
        "{{ event.data.s() }}",
        "{{ event.data.s.x() }}",
        "{{ [1] | map(event.data.s) | list }}",
        "{{ event.data.s | round }}",
        "{{ '%d' | format(event.data.s) }}",
        "{% include event.data.s %}",
        "!!int {{ event.data.s }}",
        "!!binary \"{{ event.data.s }}\"",
        "{ {{ event.data.s }}: 1}",
        "{labels: { {{ event.data.s }}: 1, {{ event.data.s }}: 1}}",
        "&{{ event.data.s }} 1",
        "[*{{ event.data.s }}]",
        "{{ dict(event.data.s) }}",
        "{{ range(event.data.s) }}",
        "{% for a, b in event.data.list %}{% endfor %}",
    ] {
        match setting.render_in("", x) {
            Ok(found) => panic!("{x} gave {found}"),
            Err(error) => {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains(secret) && !shown.contains("31337"), "{x}: {shown}");
            }
        }
    }
}

#[test]
fn syntax_errors_are_found_when_compiling() {
    for (text, line) in
        [("a\n{{ x", 2), ("a\n\n{% if x %}", 3), ("{{ .CloudEvent.subject }}", 1), ("{% endfor %}", 1)]
    {
        let error = Setting::default().render(text).unwrap_err();
        assert_eq!((error.fault, error.line), (TemplateFault::Syntax, Some(line)), "{error}");
    }
}

#[test]
fn work_and_size_are_limited() {
    for x in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 900000000 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set s %}a{% endset %}{{ s | indent(900000000) }}",
        "{{ range(100000) | list | tojson }}",
        "[{% for a in range(70000) %}{{ a }},{% endfor %}]",
    ] {
        let error = Setting::default().render_in("", x).unwrap_err();
        assert!(matches!(error.fault, TemplateFault::Limit), "{x}: {error} {error:?}");
    }
    let long = Setting::with(json!({"s": "x".repeat(200_000)}));
    for x in [
        "'{% for a in range(1000) %}{{ event.data.s }}{% endfor %}'",
        "[{% for a in range(1000) %}{{ event.data.s }},{% endfor %}]",
    ] {
        assert_eq!(long.render_in("", x).unwrap_err().fault, TemplateFault::Limit, "{x}");
    }
}
