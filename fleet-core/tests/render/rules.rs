//! What templates may do and what they may not, rule by rule.

use fleet_core::render::{TemplateError, TemplateFault, TemplateKind};
use serde_json::{Value, json};

use crate::setting::Setting;

#[track_caller]
pub(crate) fn gives(x: &str, expected: Value) {
    defines("", x, expected);
}

#[track_caller]
pub(crate) fn defines(definitions: &str, x: &str, expected: Value) {
    let found = Setting::default()
        .render_in(definitions, x)
        .unwrap_or_else(|error| panic!("{definitions}{x}: {error}"));
    assert_eq!(found, expected, "{definitions}{x}");
}

#[track_caller]
pub(crate) fn refuses(x: &str, fault: TemplateFault, reason: &str) -> TemplateError {
    refuses_after("", x, fault, reason)
}

#[track_caller]
pub(crate) fn refuses_after(definitions: &str, x: &str, fault: TemplateFault, reason: &str) -> TemplateError {
    match Setting::default().render_in(definitions, x) {
        Ok(found) => panic!("{definitions}{x} gave {found}"),
        Err(error) => {
            assert_eq!(error.fault, fault, "{definitions}{x}: {error}");
            assert!(error.reason.contains(reason), "{definitions}{x}: {error}");
            error
        }
    }
}

#[test]
fn resources_are_objects_of_the_management_cluster() {
    let mut setting = Setting::default();
    let secret = json!({"metadata": {"uid": "1", "name": "login"}, "data": {"user": "bWdpYW5sdWM=", "bad": "?", "b": "/w=="}});
    setting.refer("login", Some(secret));
    setting.refer("no-login", None);
    for (x, expected) in [
        ("{{ resources.login.metadata.name }}", json!("login")),
        ("{{ resources['login'].data.user | b64decode }}", json!("mgianluc")),
        ("{{ resources.login.data.user | b64decode | b64encode }}", json!("bWdpYW5sdWM=")),
        ("{{ 'yes' if resources.login is defined else 'no' }}", json!("yes")),
        ("{{ 'yes' if resources['no-login'] is defined else 'no' }}", json!("no")),
        ("{{ resources.login.metadata.uid is defined }}", json!(false)),
        ("\n  {{ resources.login.metadata | toyaml | indent(2) }}", json!({"name": "login"})),
    ] {
        assert_eq!(setting.render_in("", x), Ok(expected), "{x}");
    }
    for (x, fault, reason) in [
        ("{{ resources.nobody.data.a }}", TemplateFault::Undefined, "`resources.nobody"),
        ("{{ resources['no-login'].data }}", TemplateFault::Undefined, "is undefined"),
        ("{{ resources.login.data.bad | b64decode }}", TemplateFault::Evaluation, "is not base64"),
        ("{{ resources.login.data.b | b64decode }}", TemplateFault::Evaluation, "is not UTF-8"),
        ("{{ resources.login.data }}", TemplateFault::Structure, ""),
    ] {
        let error = setting.render_in("", x).unwrap_err();
        assert!(error.fault == fault && error.reason.contains(reason), "{x}: {error:?}");
        assert!(!error.to_string().contains("mgianluc"), "{error}");
    }
}

#[test]
fn a_whole_plain_scalar_keeps_its_type() {
    for (name, expected) in [
        ("int", json!(5)),
        ("float", json!(1.5)),
        ("one", json!(1.0)),
        ("big", json!(u64::MAX)),
        ("yes", json!(true)),
        ("no", json!("no")),
        ("octal", json!("0755")),
        ("lines", json!("one\ntwo\n")),
        ("icon", json!("\u{f0001}")),
    ] {
        gives(&format!("{{{{ event.data.{name} }}}}"), expected.clone());
        gives(&format!("[{{{{ event.data.{name} }}}}]"), json!([expected]));
        gives(&format!("{{{{ event.data.{name} }}}} # {{{{ event.data.lines }}}}"), expected);
    }
    gives("{{ event.rank }}", json!(3));
    gives("{{ 'no' }}", json!("no"));
    gives("{{ '' }}", json!(""));
    gives("{{ 1 + 1 }}", json!(2));
}

#[test]
fn anything_else_is_a_string() {
    gives("\"{{ event.data.int }}\"", json!("5"));
    gives("'{{ event.data.yes }}'", json!("true"));
    gives("v{{ event.data.int }}", json!("v5"));
    gives("{{ event.data.int }}{{ event.data.float }}", json!("51.5"));
    gives("{{ event.data.int }}/{{ event.data.one }}", json!("5/1.0"));
    gives("|\n  a {{ event.data.lines }} b\n  {{ event.data.int }}\n", json!("a one\ntwo\n b\n5\n"));
    gives(">\n  a {{ event.data.lines }}\n  b\n", json!("a one\ntwo\n b\n"));
    gives("!!str {{ event.data.int }}", json!("5"));
    gives("!!int \"{{ event.data.int }}\"", json!(5));
    gives("!!binary {{ 'aGk=' }}", json!("hi"));
    gives("!own {{ event.data.int }}", json!("5"));
    refuses("!!int {{ event.data.text }}", TemplateFault::Structure, "cannot be read as !!int");
}

#[test]
fn the_context_is_there() {
    for (x, expected) in [
        (
            "{{ event.id }} {{ event.source }} {{ event.type }} {{ event.subject }}",
            "10001 auth.example.com auth.example.com.login mgianluc",
        ),
        ("{{ event.specversion }}", "1.0"),
        (
            "{{ message.subject }} {{ message.tokens[1] }} {{ message.headers['X-B'] }} {{ message.headers['X-A'] }}",
            "user.operation operation 2 1, 3",
        ),
        ("{{ cluster.namespace }}/{{ cluster.name }} {{ cluster.labels.env }}", "civo/cluster1 production"),
        ("{{ cluster.annotations['example.com/note'] }}", "a: b"),
        ("{{ origin.namespace }}/{{ origin.name }} {{ origin.labels.env }}", "civo/origin1 staging"),
        ("{{ trigger.name }}", "manage-namespace"),
        ("{% set e = event %}{{ e.subject }}{{ e.data.text }}", "mgianluchello"),
        ("{% for key in event %}{{ key }},{% endfor %}", "specversion,id,source,type,subject,rank,data,"),
    ] {
        gives(x, json!(expected));
    }
}

#[test]
fn binary_data_is_base64() {
    let mut setting = Setting::default();
    let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "AP8="});
    setting.event = fleet_core::event::Event::from_json(event.to_string().as_bytes()).unwrap();
    assert_eq!(setting.render_in("", "{{ event.data }}").unwrap(), json!("AP8="));
}

#[test]
fn null_lists_and_mappings_have_no_text() {
    for (name, what) in [("nothing", "null"), ("list", "a list"), ("map", "a mapping")] {
        for x in ["{{ V }}", "a{{ V }}", "'{{ V }}'", "|\n  {{ V }}", "{{ V | quote }}"] {
            let error =
                refuses(&x.replace('V', &format!("event.data.{name}")), TemplateFault::Structure, what);
            assert!(error.line >= Some(4), "{error}");
        }
    }
    gives("{{ event.data.nothing | tojson }}", Value::Null);
    gives("{{ event.data.nothing | default('x', true) }}", json!("x"));
    refuses("{{ range }}", TemplateFault::Structure, "not a value");
}

#[test]
fn keys_are_printed_only_where_data_is() {
    for parent in [
        "labels",
        "annotations",
        "matchLabels",
        "nodeSelector",
        "selector",
        "data",
        "stringData",
        "binaryData",
    ] {
        gives(
            &format!(
                "{{{parent}: {{ {{{{ event.data.text }}}}: 1, \"k-{{{{ event.data.int }}}}\": 2, {{{{ event.data.int }}}}: 3}}}}"
            ),
            json!({parent: {"hello": 1, "k-5": 2, "5": 3}}),
        );
    }
    for x in [
        "{ {{ event.data.text }}: 1}",
        "{a{{ event.data.text }}: 1}",
        "{labels: [{ {{ event.data.text }}: 1}]}",
    ] {
        refuses(x, TemplateFault::Structure, "a key is printed here");
    }
    refuses("{labels: {hello: 1, {{ event.data.text }}: 2}}", TemplateFault::Structure, "comes twice");
    refuses(
        "{labels: { {{ event.data.text }}: 1, {{ event.data.text }}: 2}}",
        TemplateFault::Structure,
        "comes twice",
    );
    refuses("{labels: { {{ event.data.nothing | tojson }}: 1}}", TemplateFault::Structure, "null");
}

#[test]
fn identity_anchors_and_tags_are_written() {
    let setting = Setting::default();
    for text in [
        "apiVersion: v1\nkind: {{ 'A' }}\nmetadata: {name: a}",
        "apiVersion: {{ 'v1' }}\nkind: A\nmetadata: {name: a}",
        "apiVersion: v1\nkind: \"{{ 'A' }}\"\nmetadata: {name: a}",
        "apiVersion: v1\nkind: A{{ '' }}\nmetadata: {name: a}",
        "apiVersion: v1\nmetadata: {name: a}\nx: &x {{ 'A' }}\nkind: *x",
        "apiVersion: v1\nmetadata: {name: a}\nx: &x {kind: {{ 'A' }}}\n<<: *x",
        "apiVersion: v1\nmetadata: {name: a}\nx: &x {kind: {{ 'A' }}}\n<<: [*x]",
        "{{ {'apiVersion': 'v1', 'kind': 'A', 'metadata': {'name': 'a'}} | tojson }}",
        "{{ {'apiVersion': 'v1', 'kind': 'A', 'metadata': {'name': 'a'}} | toyaml }}",
    ] {
        let error = setting.render(text).unwrap_err();
        assert_eq!(error.fault, TemplateFault::Structure, "{text}: {error}");
    }
    gives(
        "{roleRef: {kind: {{ 'A' }}, apiVersion: {{ 'v1' }}}}",
        json!({"roleRef": {"kind": "A", "apiVersion": "v1"}}),
    );
    refuses("&{{ 'x' }} 1", TemplateFault::Structure, "anchor must not be printed");
    assert!(setting.render_in("", "!{{ 'x' }} 1").is_err());
    assert!(setting.render_in("", "!<{{ 'x' }}> 1").is_err());
    assert!(setting.render_in("", "[&a 1, *{{ 'a' }}]").is_err());
    let if_else =
        "apiVersion: v1\n{% if event.data.yes %}kind: A{% else %}kind: B{% endif %}\nmetadata: {name: a}\n";
    assert_eq!(setting.render(if_else).unwrap()[0]["kind"], json!("A"));
}

#[test]
fn printed_keys_stay_where_they_were_printed() {
    let reason = "printed keys must not be merged";
    for x in [
        "{labels: &l { {{ event.data.text }}: 1}, spec: {a: 1, <<: *l}}",
        "{labels: &l { {{ 'a' }}: 1}, b: {<<: [*l]}}",
    ] {
        refuses(x, TemplateFault::Structure, "printed keys");
    }
    for x in ["{a: 1, <<: {{ event.data.map | tojson }}}", "{a: 1, <<: {{ [event.data.map] | tojson }}}"] {
        refuses(x, TemplateFault::Structure, reason);
    }
    refuses(
        "{labels: { {{ 'labels' }}: { {{ event.data.text }}: 1}}}",
        TemplateFault::Structure,
        "a key is printed here",
    );
    refuses("{labels: &l { {{ event.data.text }}: 1}, spec: *l}", TemplateFault::Structure, "printed keys");
    gives(
        "{labels: &l { {{ 'a' }}: b}, matchLabels: *l}",
        json!({"labels": {"a": "b"}, "matchLabels": {"a": "b"}}),
    );
    gives("{base: &b {a: {{ event.data.int }}}, <<: *b}", json!({"base": {"a": 5}, "a": 5}));
    // The characters of a printed key are not a merge key.
    gives("{labels: { {{ '<<' }}: {a: 1}}}", json!({"labels": {"<<": {"a": 1}}}));
    gives("{{ {'<<': {'a': 1}} | tojson }}", json!({"<<": {"a": 1}}));
}

#[test]
fn tojson_and_toyaml_print_structure() {
    let deep = json!({"list": [{"a": 1, "b": []}, [true, null]], "empty": {}});
    for x in [
        "{{ event.data.deep | tojson }}",
        "{{ event.data.deep | toyaml | nindent(2) }}",
        "\n  {{ event.data.deep | toyaml | indent(2) }}",
        "\n{{ event.data.deep | toyaml | indent(3, true) }}",
        "\n  {{ event.data.deep | toyaml | indent(width=2) }}",
    ] {
        gives(x, deep.clone());
    }
    gives("\n- {{ event.data.map | toyaml | indent(2) }}\n- c", json!([{"k": "v", "n": 1}, "c"]));
    gives("{{ event.data.list | toyaml | nindent }}", json!(["a", "b"]));
    gives("{{ [] | toyaml }}", json!([]));
    gives("{{ event.data.no | toyaml }}", json!("no"));
    gives("{{ {5: 'a', true: 'b'} | tojson }}", json!({"5": "a", "true": "b"}));
    // JSON text within a larger text, in each kind of quotes.
    for x in ["|\n  {{ V }}", "'{{ V }}'", "\"{{ V }}\""] {
        let found = Setting::default().render_in("", &x.replace('V', "event.data.deep | tojson")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(found.as_str().unwrap()).unwrap(), deep, "{found}");
    }
    gives("'{\"user\": {{ event.data.lines | tojson }}}'", json!("{\"user\": \"one\\ntwo\\n\"}"));
    let yaml = Setting::default().render_in("", "|\n  {{ event.data.deep | toyaml | indent(2) }}\n").unwrap();
    let read_back = fleet_core::yaml::documents(yaml.as_str().unwrap()).pop().unwrap().unwrap();
    assert_eq!(read_back.value, deep);
}

#[test]
fn quotes_make_text() {
    gives("{{ event.data.int | quote }}", json!("5"));
    gives("{{ event.data.octal | squote }}", json!("0755"));
    gives("say {{ event.data.text | quote }}", json!("say \"hello\""));
    gives(
        "|\n  a = {{ event.data.lines | quote }}\n  b = {{ \"it's\" | squote }}\n",
        json!("a = \"one\\ntwo\\n\"\nb = 'it''s'\n"),
    );
    gives("\"in {{ event.data.text | quote }}\"", json!("in \"hello\""));
}

#[test]
fn printed_text_may_be_printed_joined_and_indented() {
    let value = "event.data.lines";
    for (definitions, text) in [
        ("{% macro m() %}a{{ event.data.lines }}{% endmacro %}", "m()"),
        ("{% set s %}a{{ event.data.lines }}{% endset %}", "s"),
        (
            "{% macro w() %}a{{ caller() }}{% endmacro %}{% set s %}{% call w() %}{{ event.data.lines }}{% endcall %}{% endset %}",
            "s",
        ),
        ("{% set s %}{% filter trim %} a{{ event.data.lines }} {% endfilter %}{% endset %}", "s"),
    ] {
        let definitions = format!("{definitions}\n");
        for (x, expected) in [
            ("{{ T }}", "aone\ntwo\n"),
            ("'{{ T }}'", "aone\ntwo\n"),
            ("{{ T ~ 'b: c' }}", "aone\ntwo\nb: c"),
            ("{{ 'b: c' ~ T }}", "b: caone\ntwo\n"),
            ("{{ T | trim }}", "aone\ntwo\n"),
            ("{{ T | indent(2) }}", "aone\ntwo\n"),
            ("{{ T * 2 }}", "aone\ntwo\naone\ntwo\n"),
            ("{{ [T, 'b: c'] | join(', ') }}", "aone\ntwo\n, b: c"),
        ] {
            defines(&definitions, &x.replace('T', text), json!(expected));
        }
        for filter in [
            "upper",
            "lower",
            "replace('a', 'b')",
            "length",
            "split('a')",
            "list",
            "string",
            "first",
            "default('x')",
            "tojson",
            "toyaml",
            "quote",
            "title",
            "int",
            "reverse",
            "join(',')",
            "format(1)",
        ] {
            refuses_after(
                &definitions,
                &format!("{{{{ {text} | {filter} }}}}"),
                TemplateFault::Structure,
                "printed before",
            );
        }
        refuses_after(
            &definitions,
            &format!("{{{{ 'a' | replace('a', {text}) }}}}"),
            TemplateFault::Structure,
            "printed before",
        );
        refuses_after(
            &definitions,
            &format!("{{{{ ['a', {text}] | map('upper') | list | tojson }}}}"),
            TemplateFault::Structure,
            "printed before",
        );
        for taken_apart in
            ["T[1:]", "[T] | string", "'x' ~ [T]", "{T: 1} | tojson", "[T] | tojson", "'%s' % T"]
        {
            let x = format!("{{{{ {} }}}}", taken_apart.replace('T', text));
            assert!(Setting::default().render_in(&definitions, &x).is_err(), "{x}");
        }
    }
    refuses(&format!("{{{{ {value} | indent(2) }}}}"), TemplateFault::Structure, "a value needs none");
    refuses(
        "{% filter upper %}a{{ event.data.text }}{% endfilter %}",
        TemplateFault::Structure,
        "printed before",
    );
}

#[test]
fn filters_and_logic_see_values() {
    gives("{{ event.data.text | upper }}", json!("HELLO"));
    gives("{{ event.data.list | join('-') }}", json!("a-b"));
    gives("{{ event.data.list | map('upper') | join }}", json!("AB"));
    gives("{{ event.data.lines | replace('\n', ': ') }}", json!("one: two: "));
    gives("{% if event.data.int > 3 and event.data.text == 'hello' %}a{% endif %}", json!("a"));
    gives(
        "[{% for key, value in event.data.map | items %}{{ key }}={{ value }}, {% endfor %}]",
        json!(["k=v", "n=1"]),
    );
    gives("{{ event.data.text[1:3] }}", json!("el"));
    gives("{{ '%s-%d' | format(event.data.text, event.data.int) }}", json!("hello-5"));
}

#[test]
fn literals_are_applied_as_they_stand() {
    let setting = Setting::default();
    let text = "# {{ no template }}\napiVersion: v1\nkind: A\nmetadata: {name: a}\nx: '{{ event.subject }}'\nw: {% raw %}\n---\n---\n# empty\n---\napiVersion: v1\nkind: B\nmetadata: {name: b}\nz: \"\\U000F0000\"\n";
    // `{%` begins a flow mapping, in which `%` cannot stand.
    let error = setting.render_as(TemplateKind::Literal, text).unwrap_err();
    assert_eq!((error.fault, error.line), (TemplateFault::Output, Some(6)), "{error}");
    let found = setting.render_as(TemplateKind::Literal, &text.replace("{% raw %}", "0755")).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (&found[0]["x"], &found[0]["w"], &found[1]["z"]),
        (&json!("{{ event.subject }}"), &json!(493), &json!("\u{f0000}"))
    );
}

#[test]
fn text_templates_give_text() {
    let setting = Setting::default();
    for (template, expected) in [
        ("{{ event.source }}/{{ event.subject }}", "auth.example.com/mgianluc"),
        ("{% if event.type == 'auth.example.com.logout' %}Delete{% else %}Create{% endif %}\n", "Create\n"),
        ("{{ event.data.int }} {{ event.data.yes }} {{ event.data.lines }}", "5 true one\ntwo\n"),
        ("{{ event.data.map | tojson }}", "{\"k\": \"v\", \"n\": 1}"),
        ("a: b # {{ event.subject }}", "a: b # mgianluc"),
        ("plain", "plain"),
        ("", ""),
    ] {
        assert_eq!(setting.text(template).unwrap(), expected, "{template}");
    }
    for (template, fault) in [
        ("{{ event.nope }}", TemplateFault::Undefined),
        ("{{ event.data.nothing }}", TemplateFault::Structure),
        ("{{ event.data.list }}", TemplateFault::Structure),
        ("{{ event.data.map }}", TemplateFault::Structure),
        ("{{ ", TemplateFault::Syntax),
    ] {
        let error = setting.text(template).unwrap_err();
        assert_eq!(
            (error.fault, error.line, error.template.as_str()),
            (fault, Some(1), "key"),
            "{template}: {error}"
        );
    }
}
