//! Compared with Go, and what no text may do to the parser. `tests/gotemplate/README.md` says where the table comes from.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value as Json;

use super::run::{Output, run};
use super::value::Heap;
use super::{lex::AsWritten, parse::parse_with};
use crate::printed::{Lines, Planes, Rendered, Sink};
use crate::yaml;

#[derive(Deserialize)]
struct Golden {
    data: Json,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    /// What Go prints; without, it refuses.
    text: Option<String>,
    #[serde(rename = "as", default)]
    compared: Vec<String>,
    differs: Option<Differs>,
}

#[derive(Deserialize)]
struct Differs {
    reason: String,
    ours: Option<String>,
    error: Option<String>,
    value: Option<Json>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/gotemplate/golden.json")).unwrap()
}

/// What ours prints with the output step off.
fn text(template: &str, data: &Json) -> Result<String, String> {
    let tree = parse_with(template, &AsWritten).map_err(|error| error.to_string())?;
    let mut heap = Heap::default();
    let root = heap.take_in(data.clone(), &mut Planes::default());
    let output = Output { sink: None, constants_are_text: false };
    run(&tree, &mut heap, root, output).map(|written| written.text).map_err(|fault| fault.refusal.reason)
}

/// What ours gives with the output step on, all documents.
fn value(template: &str, data: &Json) -> Result<Vec<Json>, String> {
    let tree = parse_with(template, &AsWritten).map_err(|error| error.to_string())?;
    let (mut heap, mut planes) = (Heap::default(), Planes::default());
    let root = heap.take_in(data.clone(), &mut planes);
    let sink = Sink::new(planes.unused().unwrap());
    let output = Output { sink: Some(&sink), constants_are_text: false };
    let written = run(&tree, &mut heap, root, output).map_err(|fault| fault.refusal.reason)?;
    let rendered = Rendered { text: written.text, lines: Lines::new(written.spans), printed: sink.take() };
    let mut reader = yaml::Reader::new(&rendered.text, &rendered.printed);
    std::iter::from_fn(|| reader.next_document())
        .map(|document| document.map(|document| document.value).map_err(|fault| fault.reason))
        .collect()
}

fn documents(text: &str) -> Vec<Json> {
    yaml::documents(text).into_iter().map(|document| document.unwrap().value).collect()
}

#[test]
fn templates_give_what_go_gives() {
    let Golden { data, cases } = golden();
    let mut faults = Vec::new();
    let (mut as_text, mut as_yaml) = (0, 0);
    for Case { template, text: expected, compared, .. } in cases.iter().filter(|case| case.differs.is_none())
    {
        if compared.iter().any(|it| it == "text") {
            as_text += 1;
            let found = text(template, &data);
            if found.as_ref().ok() != expected.as_ref() {
                faults.push(format!("{template}\n  Go:   {expected:?}\n  ours: {found:?}"));
            }
        }
        if compared.iter().any(|it| it == "yaml") {
            as_yaml += 1;
            let (found, expected) = (value(template, &data), documents(expected.as_ref().unwrap()));
            if found.as_ref() != Ok(&expected) {
                faults.push(format!("{template}\n  Go as YAML: {expected:?}\n  ours:       {found:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(as_text >= 150 && as_yaml >= 25, "{as_text} as text, {as_yaml} as YAML");
}

#[test]
fn where_ours_is_another_it_is_on_purpose() {
    let Golden { data, cases } = golden();
    let differing: Vec<_> = cases.iter().filter_map(|case| Some((case, case.differs.as_ref()?))).collect();
    assert!(differing.len() >= 20, "{}", differing.len());
    for (Case { template, text: go, .. }, Differs { reason, ours, error, value: wanted }) in differing {
        assert!(!reason.is_empty(), "{template}");
        match (ours, error, wanted) {
            (Some(ours), None, None) => {
                let found = text(template, &data);
                assert_eq!(found.as_ref(), Ok(ours), "{template}");
                // Go's order of keys may happen to be ours.
                assert!(template.contains("keys") || go.as_ref() != Some(ours), "{template}: the same as Go");
            }
            (None, Some(error), None) => {
                let found = value(template, &data);
                assert!(found.as_ref().is_err_and(|found| found.contains(error)), "{template}: {found:?}");
            }
            (None, None, Some(wanted)) => {
                let found = value(template, &data);
                assert_eq!(found.as_deref(), Ok(std::slice::from_ref(wanted)), "{template}");
                let same = go.as_ref().is_some_and(|go| {
                    yaml::documents(go)
                        .first()
                        .is_some_and(|it| it.as_ref().is_ok_and(|it| it.value == *wanted))
                });
                assert!(!same, "{template}: the same as Go");
            }
            _ => panic!("{template}: one of ours, error and value"),
        }
    }
}

/// Pieces of templates, and anything.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "{{", "}}", "{{-", "-}}", "{{- ", " -}}", "/*", "*/", "(", ")", "|", ":=", "=", ",", ".", "..", "$", "$x", ".a", " ",
            "\n", "\"", "`", "'", "\\", "'a'", "\"a\"", "1", "-", "0x", "1e", "if", "else", "end", "range", "with", "define",
            "block", "template", "break", "continue", "nil", "true", "printf", "index", "and", "\u{f0000}",
        ]).prop_map(str::to_owned),
        1 => "[\\x00-\\x7f]{0,4}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the text, there is a template or a reason, and what is a template ends.
    #[test]
    fn no_text_makes_the_parser_or_a_rendering_panic(text in texts()) {
        for text in [text.clone(), format!("{{{{ {text} }}}}"), format!("{{{{ range .list }}}}{text}{{{{ end }}}}")] {
            let _ = self::text(&text, &serde_json::json!({"a": {"a": 1}, "list": ["x", 2]}));
            let _ = value(&text, &serde_json::json!({"a": "x", "list": [1, {"a": []}]}));
        }
    }

    /// Nor does a call with arguments of any kind.
    #[test]
    fn no_arguments_make_a_function_panic(
        name in prop::sample::select(super::functions::names()),
        args in prop::collection::vec(prop::sample::select(vec![
            "nil", "true", "0", "-1", "3", "9223372036854775807", "-9223372036854775808", "1.5", "1e300", "\"\"", "\"a\"", "\"日本é\"", "\"[\"",
            "\"1.2.3\"", ".list", ".map", ".empty", "(list)", "(toJson .map)", "(quote \"x\")", "(index .map \"no\")", "\"$1$2\"", "\"(a*)\"",
        ]), 0..5),
    ) {
        let text = format!("{{{{ $x := {name} {} }}}}", args.join(" "));
        let data = serde_json::json!({"list": ["b", 1, null, {"a": [1]}], "map": {"a": {"b": 1}, "c": "日"}, "empty": {}});
        let _ = self::text(&text, &data);
        let _ = value(&text, &data);
    }
}

#[test]
fn what_a_tree_shows_of_itself_holds_no_text_of_the_template() {
    let text = "hunter2 {{/* hunter2 */}}{{ if eq .a \"hunter2\" }}{{ $x := \"hunter2\" }}{{ else }}hunter2{{ end }}\
                {{ (printf \"hunter2\").b }}{{ template \"hunter2\" . }}";
    let shown = format!("{:?}", super::parse::parse(text).unwrap());
    assert!(shown.contains("If(") && shown.contains("Field([\"a\"])"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
