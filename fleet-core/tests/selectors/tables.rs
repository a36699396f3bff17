//! Kubernetes' own tests of selectors and labels, as tables: k8s.io/apimachinery v0.36.3 (Copyright The Kubernetes Authors,
//! Apache License 2.0), `pkg/labels/selector_test.go`, `pkg/apis/meta/v1/helpers_test.go`,
//! `pkg/api/validate/content/kube_test.go` and `dns_test.go`. Left out is what a `LabelSelector` cannot say: `Gt`, `Lt`, and
//! selectors written as text. The transcription has to pass them as well.

use fleet_core::selector::LabelSelector;
use serde_json::{Value, json};

use crate::kubernetes::{self, Set};

/// A requirement in a table: key, operator, values. `=` stands for an entry of `matchLabels`.
type Row<'a> = (&'a str, &'a str, &'a [&'a str]);
/// Labels in a table.
type Labels<'a> = &'a [(&'a str, &'a str)];

fn selector(rows: &[Row<'_>]) -> (Value, kubernetes::LabelSelector) {
    let mut selector = kubernetes::LabelSelector::default();
    for (key, operator, values) in rows {
        if *operator == "=" {
            selector.match_labels.insert((*key).to_owned(), values[0].to_owned());
        } else {
            selector.match_expressions.push(kubernetes::LabelSelectorRequirement {
                key: (*key).to_owned(),
                operator: (*operator).to_owned(),
                values: values.iter().map(|it| (*it).to_owned()).collect(),
            });
        }
    }
    (serde_json::to_value(&selector).unwrap(), selector)
}

fn set(labels: Labels<'_>) -> Set {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// `TestSelectorMatches`, `TestSetMatches`, `TestRequirementSelectorMatching`, `TestEverything`.
#[test]
fn matching() {
    let both: &[_] = &[("foo", "bar"), ("baz", "blah")];
    let rows: &[(&[Row<'_>], Labels<'_>, bool)] = &[
        (&[], &[("x", "y")], true),
        (&[("x", "=", &["y"])], &[("x", "y")], true),
        (&[("x", "=", &["y"]), ("z", "=", &["w"])], &[("x", "y"), ("z", "w")], true),
        (&[("x", "NotIn", &["y"]), ("z", "NotIn", &["w"])], &[("x", "z"), ("z", "a")], true),
        (&[("notin", "=", &["in"])], &[("notin", "in")], true),
        (&[("x", "Exists", &[])], &[("x", "z")], true),
        (&[("x", "DoesNotExist", &[])], &[("y", "z")], true),
        (&[("x", "=", &["z"])], &[], false),
        (&[("x", "=", &["y"])], &[("x", "z")], false),
        (&[("x", "=", &["y"]), ("z", "=", &["w"])], &[("x", "w"), ("z", "w")], false),
        (&[("x", "NotIn", &["y"]), ("z", "NotIn", &["w"])], &[("x", "z"), ("z", "w")], false),
        (&[("x", "Exists", &[])], &[("y", "z")], false),
        (&[("x", "DoesNotExist", &[])], &[("x", "z")], false),
        (&[("foo", "=", &["bar"])], both, true),
        (&[("baz", "=", &["blah"])], both, true),
        (&[("foo", "=", &["bar"]), ("baz", "=", &["blah"])], both, true),
        (&[("foo", "=", &["blah"])], both, false),
        (&[("baz", "=", &["bar"])], both, false),
        (&[("foo", "=", &["bar"]), ("foobar", "=", &["bar"]), ("baz", "=", &["blah"])], both, false),
        (&[("x", "In", &["foo"]), ("y", "NotIn", &["alpha"])], &[("x", "foo"), ("y", "baz")], true),
        (&[("x", "In", &["foo"]), ("y", "In", &["alpha"])], &[("x", "foo"), ("y", "baz")], false),
        (&[("x", "NotIn", &[""]), ("y", "Exists", &[])], &[("y", "")], true),
        (&[("x", "DoesNotExist", &[]), ("y", "Exists", &[])], &[("y", "")], true),
        (&[("x", "NotIn", &[""]), ("y", "DoesNotExist", &[])], &[("y", "")], false),
        (&[("x", "In", &[""])], &[("y", "baz")], false),
    ];
    for (rows, labels, expected) in rows {
        let (json, theirs) = selector(rows);
        let labels = set(labels);
        let theirs = kubernetes::label_selector_as_selector(&theirs).unwrap();
        assert_eq!(theirs.matches(&labels), *expected, "the transcription: {json} on {labels:?}");
        let ours: LabelSelector = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(ours.matches(&labels), *expected, "{json} on {labels:?}");
    }
}

/// `TestRequirementConstructor`, `TestLabelSelectorAsSelector`.
#[test]
fn refusing() {
    let (long, name) = ("a".repeat(254), "a".repeat(63));
    let rows: &[(Row<'_>, bool)] = &[
        (("x1", "In", &[]), false),
        (("x2", "NotIn", &[]), false),
        (("x3", "In", &["foo"]), true),
        (("x4", "NotIn", &["foo"]), true),
        (("x6", "Exists", &[]), true),
        (("x7", "DoesNotExist", &[]), true),
        (("x8", "Exists", &["foo"]), false),
        (("x9", "In", &["bar"]), true),
        ((&long, "Exists", &[]), false),
        ((&name, "Exists", &[]), true),
        (("x16", "=", &[&long]), false),
        (("x17", "=", &["a b"]), false),
        (("x18", "unsupportedOp", &[]), false),
        (("baz", "Exists", &["qux", "norf"]), false),
        // Operators that selectors written as text have, and a LabelSelector has not.
        (("x", "Gt", &["1"]), false),
        (("x", "Equals", &["a"]), false),
        (("x", "=", &["a"]), true),
        (("x", "in", &["a"]), false),
        (("x", "", &["a"]), false),
    ];
    for (row, expected) in rows {
        let (json, theirs) = selector(&[*row]);
        let theirs = kubernetes::label_selector_as_selector(&theirs);
        assert_eq!(theirs.is_ok(), *expected, "the transcription: {json}");
        assert_eq!(serde_json::from_value::<LabelSelector>(json.clone()).is_ok(), *expected, "{json}");
    }
}

/// What Go reads as an empty list or map.
#[test]
fn nothing_said_is_nothing_asked() {
    let labels = set(&[("a", "b")]);
    for json in [
        json!({}),
        json!({"matchLabels": null, "matchExpressions": null}),
        json!({"matchLabels": {}, "matchExpressions": []}),
        json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": null}]}),
        json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": []}]}),
    ] {
        let read: LabelSelector = serde_json::from_value(json.clone()).unwrap();
        assert!(read.matches(&labels), "{json}");
    }
    assert!(LabelSelector::everything().is_everything() && LabelSelector::everything().matches(&labels));
    assert!(!LabelSelector::nothing().matches(&labels) && !LabelSelector::nothing().matches(&Set::new()));
}

/// `TestToString`, `TestLabelSelectorAsSelector`.
#[test]
fn writing() {
    let rows: &[(&[Row<'_>], &str)] = &[
        (&[], ""),
        (
            &[("x", "In", &["abc", "def"]), ("y", "NotIn", &["jkl"]), ("z", "Exists", &[])],
            "x in (abc,def),y notin (jkl),z",
        ),
        (&[("x", "NotIn", &["abc", "def"]), ("z", "DoesNotExist", &[])], "x notin (abc,def),!z"),
        (
            &[("x", "NotIn", &["abc"]), ("y", "In", &["jkl", "mno"]), ("z", "NotIn", &[""])],
            "x notin (abc),y in (jkl,mno),z notin ()",
        ),
        (&[("foo", "=", &["bar"])], "foo=bar"),
        (&[("baz", "In", &["qux", "norf"])], "baz in (norf,qux)"),
        (&[("foo", "=", &["bar"]), ("baz", "In", &["qux", "norf"])], "baz in (norf,qux),foo=bar"),
    ];
    for (rows, expected) in rows {
        let (json, theirs) = selector(rows);
        let theirs = kubernetes::label_selector_as_selector(&theirs).unwrap();
        assert_eq!(theirs.string(), *expected, "the transcription: {json}");
        let ours: LabelSelector = serde_json::from_value(json).unwrap();
        assert_eq!(ours.to_string(), *expected);
    }
}

/// `TestIsLabelKey`, and as prefixes `TestIsDNS1123Subdomain`.
#[test]
fn keys() {
    let (n63, n64, n253, n254) = ("a".repeat(63), "a".repeat(64), "a".repeat(253), "a".repeat(254));
    let longest = format!("{n253}/{n63}");
    let good = [
        "simple",
        "now-with-dashes",
        "1-starts-with-num",
        "1234",
        "simple/simple",
        "now-with-dashes/simple",
        "now-with-dashes/now-with-dashes",
        "now.with.dots/simple",
        "now-with.dashes-and.dots/simple",
        "1-num.2-num/3-num",
        "1234/5678",
        "1.2.3.4/5678",
        "Uppercase_Is_OK_123",
        "example.com/Uppercase_Is_OK_123",
        "requests.storage-foo",
        &n63,
        &longest,
    ];
    let too_long = format!("{n254}/abc");
    let bad = [
        "nospecialchars%^=@",
        "cantendwithadash-",
        "-cantstartwithadash-",
        "only/one/slash",
        "Example.com/abc",
        "example_com/abc",
        "example.com/",
        "/simple",
        &n64,
        &too_long,
    ];
    let good_prefixes = [
        "a",
        "ab",
        "abc",
        "a1",
        "a-1",
        "a--1--2--b",
        "0",
        "01",
        "012",
        "1a",
        "1-a",
        "1--a--b--2",
        "a.a",
        "ab.a",
        "abc.a",
        "a1.a",
        "a-1.a",
        "a--1--2--b.a",
        "a.1",
        "ab.1",
        "abc.1",
        "a1.1",
        "a-1.1",
        "a--1--2--b.1",
        "0.a",
        "01.a",
        "012.a",
        "1a.a",
        "1-a.a",
        "0.1",
        "01.1",
        "012.1",
        "1a.1",
        "1-a.1",
        "1--a--b--2.1",
        "a.b.c.d.e",
        "aa.bb.cc.dd.ee",
        "1.2.3.4.5",
        "11.22.33.44.55",
        &n253,
    ];
    let bad_prefixes = [
        "",
        "A",
        "ABC",
        "aBc",
        "A1",
        "A-1",
        "1-A",
        "-",
        "a-",
        "-a",
        "1-",
        "-1",
        "_",
        "a_",
        "_a",
        "a_b",
        "1_",
        "_1",
        "1_2",
        ".",
        "a.",
        ".a",
        "a..b",
        "1.",
        ".1",
        "1..2",
        " ",
        "a ",
        " a",
        "a b",
        "1 ",
        " 1",
        "1 2",
        "A.a",
        "aB.a",
        "ab.A",
        "A1.a",
        "a1.A",
        "A.1",
        "aB.1",
        "A1.1",
        "1A.1",
        "0.A",
        "01.A",
        "012.A",
        "1A.a",
        "1a.A",
        "A.B.C.D.E",
        "AA.BB.CC.DD.EE",
        "a.B.c.d.e",
        "aa.bB.cc.dd.ee",
        "a@b",
        "a,b",
        "a_b",
        "a;b",
        "a:b",
        "a%b",
        "a?b",
        "a$b",
        &n254,
    ];
    let prefixed = |prefix: &&str| format!("{prefix}/a");
    let good = good.iter().map(|it| (*it).to_owned()).chain(good_prefixes.iter().map(prefixed));
    let bad = bad.iter().map(|it| (*it).to_owned()).chain(bad_prefixes.iter().map(prefixed));
    for (key, expected) in good.map(|it| (it, true)).chain(bad.map(|it| (it, false))) {
        assert_eq!(kubernetes::is_label_key(&key).is_empty(), expected, "the transcription: {key}");
        assert_eq!(LabelSelector::labels([(&*key, "a")]).is_ok(), expected, "{key}");
        let json = json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
        assert_eq!(serde_json::from_value::<LabelSelector>(json).is_ok(), expected, "{key}");
    }
}

/// `TestIsLabelValue`.
#[test]
fn values() {
    let (n63, n64) = ("a".repeat(63), "a".repeat(64));
    let good = ["simple", "now-with-dashes", "1-starts-with-num", "end-with-num-1", "1234", &n63, ""];
    let bad = [
        "nospecialchars%^=@",
        "Tama-nui-te-rā.is.Māori.sun",
        "\\backslashes\\are\\bad",
        "-starts-with-dash",
        "ends-with-dash-",
        ".starts.with.dot",
        "ends.with.dot.",
        &n64,
    ];
    for (value, expected) in good.iter().map(|it| (*it, true)).chain(bad.iter().map(|it| (*it, false))) {
        assert_eq!(kubernetes::is_label_value(value).is_empty(), expected, "the transcription: {value}");
        assert_eq!(LabelSelector::labels([("a", value)]).is_ok(), expected, "{value}");
        let json = json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x", value]}]});
        assert_eq!(serde_json::from_value::<LabelSelector>(json).is_ok(), expected, "{value}");
    }
}
