//! What Go finds is found, what Go refuses is refused, and the reason says where.

use serde::Deserialize;

use super::compile;

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    patterns: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    pattern: String,
    error: Option<String>,
    #[serde(default)]
    found: Vec<Vec<[usize; 2]>>,
}

/// Those that are refused though Go takes them.
const REFUSED: [&str; 3] = ["(?P<a>a)(?P<a>b)", r"\x{D800}", "a(?i)*"];

#[test]
fn patterns_are_found_where_go_finds_them() {
    let golden: Golden = serde_json::from_str(include_str!("../../tests/re2/golden.json")).unwrap();
    let mut wrong = Vec::new();
    for Case { pattern, error, found } in &golden.patterns {
        let compiled = compile(pattern, 1 << 20);
        match (&compiled, error) {
            (Err(_), Some(_)) => {}
            (Err(_), None) if REFUSED.contains(&pattern.as_str()) => {}
            (Err(why), None) => wrong.push(format!("{pattern:?} {why}")),
            (Ok(_), Some(error)) => wrong.push(format!("{pattern:?} is taken; to Go: {error}")),
            (Ok(compiled), None) => {
                for (text, expected) in golden.texts.iter().zip(found) {
                    let found: Vec<_> = compiled.find_iter(text).map(|it| [it.start(), it.end()]).collect();
                    if found != *expected {
                        wrong.push(format!("{pattern:?} in {text:?}: {found:?}, by Go {expected:?}"));
                    }
                }
            }
        }
    }
    assert!(golden.patterns.len() > 300 && wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The place is that in what was written, however it was rewritten before.
#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (pattern, at, why) in [
        ("a(b", 2, "unclosed group"),
        ("日本)", 3, "unopened group"),
        (r"\d\w\s(", 7, "unclosed group"),
        (r"\Qé(\E(", 7, "unclosed group"),
        (r"[\d\-z]+[", 9, "unclosed character class"),
        ("a|*", 3, "repetition operator missing expression"),
        ("a++", 3, "no possessive ones"),
        ("a{2}{3}", 5, "repeats a repetition"),
        ("ba{1001}", 3, "more than 1000 times"),
        ("ba{3,1}", 3, "the start must be <= the end"),
        (r"a\C", 2, r"a single byte (\C)"),
        (r"(a)\1", 4, "backreferences"),
        (r"é\h", 2, "unrecognized escape sequence"),
        ("a\\", 2, "the pattern ends"),
        (r"\x{D800}", 1, "no character has this number"),
        ("a(?=b)", 2, "look-around"),
        ("a(?x)b", 4, "unknown flag; there are i, m, s and U"),
        ("(?", 3, "it ends"),
        ("a(?P<b-c>d)", 2, "names of groups"),
        ("(?P<a>b)(?P<a>c)", 9, "duplicate capture group name"),
        (r"a\p{Nobody}", 2, "Unicode property not found"),
        (r"\p{sc=Greek}", 1, "no name of a class"),
        ("[a[:nobody:]]", 3, "no name of a class"),
        ("[xc-a]", 3, "the start must be <= the end"),
        (r"[a-\d]", 4, "unrecognized escape sequence"),
    ] {
        let error = compile(pattern, 1 << 20).unwrap_err().to_string();
        let place = format!(", at character {at}");
        assert!(
            error.starts_with("is no regular expression (RE2): ")
                && error.contains(why)
                && error.ends_with(&place),
            "{pattern}: {error}"
        );
    }
    let too_large = compile("(a{999}){999}", 1 << 20).unwrap_err().to_string();
    assert!(too_large.contains("size limit of 1048576 bytes"), "{too_large}");
}
