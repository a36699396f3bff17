use super::*;
use serde_json::json;

fn one(text: &str) -> Value {
    let mut documents = documents(text);
    assert_eq!(documents.len(), 1, "{text}");
    documents.pop().unwrap().unwrap_or_else(|error| panic!("{text}: {error}")).value
}

fn fault(text: &str) -> YamlError {
    documents(text).into_iter().find_map(Result::err).unwrap_or_else(|| panic!("{text:?} has no fault"))
}

/// What kubectl's decoder gave, one by one.
#[test]
fn documents_are_what_kubectl_sees() {
    for (text, expected) in [
        ("1: a\ntrue: a\nno: b", json!({"1": "a", "true": "a", "false": "b"})),
        ("1.5: a\n1e3: a\n0x10: a\n!!str 5: a", json!({"1.5": "a", "1000": "a", "16": "a", "5": "a"})),
        ("? a\n: b", json!({"a": "b"})),
        ("a: &x {k: 1, z: 2}\nb: {<<: *x, k: 3}", json!({"a": {"k": 1, "z": 2}, "b": {"k": 3, "z": 2}})),
        ("a: &x {k: 1}\nb: {k: 3, <<: *x}", json!({"a": {"k": 1}, "b": {"k": 1}})),
        (
            "a: &x {k: 1}\nc: &y {k: 2, m: 3}\nb: {<<: [*x, *y]}",
            json!({"a": {"k": 1}, "c": {"k": 2, "m": 3}, "b": {"k": 1, "m": 3}}),
        ),
        ("b: {<<: {k: 1}, j: 2}", json!({"b": {"k": 1, "j": 2}})),
        ("b: {\"<<\": {k: 1}}", json!({"b": {"<<": {"k": 1}}})),
        ("a: &x {k: 1}\nb: {<<: *x, <<: {m: 1}}", json!({"a": {"k": 1}, "b": {"k": 1, "m": 1}})),
        ("a: &x {<<: {k: 1}, l: 2}\nb: {<<: *x}", json!({"a": {"k": 1, "l": 2}, "b": {"k": 1, "l": 2}})),
        ("b: {<<: []}", json!({"b": {}})),
        ("a: &x v\nb: *x", json!({"a": "v", "b": "v"})),
        ("a: &x 5\n*x : b", json!({"a": 5, "5": "b"})),
        ("a: |", json!({"a": ""})),
        ("a: |\n  x", json!({"a": "x"})),
        ("a: |\n  x\n", json!({"a": "x\n"})),
        ("a: >\n  x\n  y\n\n  z\n", json!({"a": "x y\nz\n"})),
        ("a: 'x\n  y'", json!({"a": "x y"})),
        ("a: [1,]\nb: {c}\nd:", json!({"a": [1], "b": {"c": null}, "d": null})),
        ("- a\n-", json!(["a", null])),
        ("\u{feff}a: b", json!({"a": "b"})),
        ("{\"a\":1,\"b\":[true,null]}", json!({"a": 1, "b": [true, null]})),
        ("{a:1}", json!({"a:1": null})),
        (
            "a: !!str [1]\nb: !!seq {a: 1}\nc: ! 5\nd: !own 5",
            json!({"a": [1], "b": {"a": 1}, "c": "5", "d": "5"}),
        ),
    ] {
        assert_eq!(one(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, line, expected) in [
        ("a: 1\nb: {c: 1, c: 2}", 2, "the key \"c\" comes twice"),
        ("a: 1\n1: x\n\"1\": y", 3, "the key \"1\" comes twice"),
        ("a: 1\n~: x", 2, "null cannot be a key"),
        ("[a]: b", 1, "a list or mapping cannot be a key"),
        ("a: .inf", 1, ".inf is a number that JSON does not have"),
        ("a:\n  b: !!int x", 2, "the value cannot be read as !!int"),
        ("a: &x [*x]", 1, "the alias stands inside"),
        ("a: *nope", 1, "not YAML: "),
        ("b: {<<: 5}", 1, "a merge key (<<) needs"),
        ("b: {<<: [{k: 1}, 5]}", 1, "a merge key (<<) needs"),
        ("%YAML 1.1\n---\na: b", 1, "not YAML: "),
        ("a: 1\nb: c: d", 2, "not YAML: "),
        ("a: [", 1, "not YAML: "),
        ("a: b\nc: @d", 2, "not YAML: "),
    ] {
        let error = fault(text);
        assert!(error.reason.starts_with(expected), "{text:?}: {error}");
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
}

#[test]
fn a_fault_does_not_hide_the_other_documents() {
    let texts = "a: 1\n---\nb: [1, 2\n---\nc: {d: 1, d: 2}\n---\n# nothing\n---\ne: 5\n";
    let documents = documents(texts);
    let found: Vec<_> =
        documents.iter().map(|result| result.as_ref().map(|document| &document.value)).collect();
    assert!(
        matches!(found[..], [Ok(first), Err(unclosed), Err(twice), Ok(last)]
            if *first == json!({"a": 1}) && (3..=4).contains(&unclosed.line) && twice.line == 5 && *last == json!({"e": 5})),
        "{found:?}"
    );
    assert_eq!(documents[3].as_ref().unwrap().line, 9);
}

#[test]
fn aliases_do_not_explode() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let alias = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", ")));
    }
    assert!(fault(&laughs).reason.contains("too large"));

    let long = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), ["*a"; 20].join(", "));
    assert!(fault(&long).reason.contains("too large"));

    let mut deep = "a0: &a0 []\n".to_owned();
    for level in 1..200 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(fault(&deep).reason.contains("nests deeper"));
    assert!(fault(&format!("{}{}", "[".repeat(120), "]".repeat(120))).reason.contains("nests deeper"));
}

#[test]
fn positions_are_those_of_the_keys() {
    let text = "# comment\nkind: A\nspec:\n  list:\n    - name: x\n    -\n      name: y\n  a/b: 1\n";
    let document = documents(text).pop().unwrap().unwrap();
    for (pointer, line) in [
        ("", 2),
        ("/kind", 2),
        ("/spec", 3),
        ("/spec/list/0", 5),
        ("/spec/list/1/name", 7),
        ("/spec/a~1b", 8),
        ("/spec/list/7/gone", 4),
    ] {
        assert_eq!(document.line_of(pointer), line, "{pointer}");
    }
}

#[test]
fn a_document_that_does_not_fit_a_type_says_where() {
    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[allow(dead_code)]
    struct Outer {
        kind: String,
        inner: Vec<Inner>,
    }
    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        size: u8,
    }
    let decode = |text: &str| documents(text).pop().unwrap().unwrap().decode::<Outer>();
    assert!(decode("kind: a\ninner:\n- size: 1\n").is_ok());
    for (text, line, expected) in [
        (
            "kind: a\ninner:\n- size: 1\n- size: big\n",
            4,
            "inner[1].size: invalid type: a string, expected u8",
        ),
        ("kind: a\ninner:\n- size: 1\n  foo: 2\n", 4, "inner[0].foo: unknown field `foo`"),
        ("inner: []\nfoo: 1\nkind: a\n", 2, "foo: unknown field `foo`"),
        ("inner: []\n", 1, "missing field `kind`"),
    ] {
        let error = decode(text).unwrap_err();
        assert_eq!(error.line, line, "{error}");
        assert!(error.reason.starts_with(expected), "{error}");
    }
}

#[cfg(feature = "directory")]
#[test]
fn what_is_written_is_read_back() {
    let nasty = [
        "",
        " ",
        "no",
        "yes",
        "y",
        "null",
        "~",
        "1e3",
        "0755",
        "0o7",
        "1_000",
        "08",
        "5.",
        ".5",
        "0x1F",
        "0b1",
        "+5",
        ".inf",
        "2001-01-01",
        "12:30:45",
        "=",
        "<<",
        "a: b",
        "a #b",
        "#a",
        "- a",
        "-",
        "---",
        "...",
        "? a",
        "&a",
        "*a",
        "!a",
        "!!int 5",
        "%a",
        "@a",
        "`a`",
        "'",
        "\"",
        "'a'",
        "\"a\"",
        "{a",
        "[a",
        "]",
        "}",
        ",",
        "|",
        ">",
        "a\nb",
        "a\n",
        "\n",
        "\na",
        " a",
        "a ",
        "\ta",
        "a\tb",
        "a\r\nb",
        "\u{0}",
        "\u{1}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{f0000}",
        "\u{100000}",
        "😀",
        "é",
        "\\",
        "\\n",
        "{{ x }}",
        "-1",
        "true",
        "True",
        "on",
        "a: |",
        "1__0",
    ];
    let mut values: Vec<Value> = nasty.iter().map(|text| json!(text)).collect();
    values.push(json!("x".repeat(500)));
    values.push(json!(format!("{} {}", "word ".repeat(60), "\n\n  indented\n")));
    values.push(json!({"map": {}, "list": [], "null": null, "int": 5, "big": u64::MAX, "float": 1.5, "flag": true, "nested": [[1, {"a": [{}]}]]}));
    values.push(Value::Object(nasty.iter().map(|text| ((*text).to_owned(), json!(1))).collect()));
    for value in values {
        for value in [value.clone(), json!({"k": value}), json!([value])] {
            let text = to_string(&value).unwrap();
            let back = documents(&text);
            if value.is_null() {
                continue;
            }
            assert!(
                matches!(&back[..], [Ok(document)] if document.value == value),
                "{value} was written as {text:?} and read back as {back:?}"
            );
        }
    }
}
