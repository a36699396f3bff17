//! NATS subjects and names, checked before a server sees them.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::connection::{ConfigError, wrong};

/// Subjects to read: tokens between dots, `*` for one, `>` for all that follow; none twice.
pub(crate) fn check_filters(subjects: &[String]) -> Result<(), ConfigError> {
    for (at, subject) in subjects.iter().enumerate() {
        if !is_filter(subject) {
            return wrong(format!(
                "subject {subject:?} cannot be read: expected words between dots, `*` for one word, `>` only at the end, no spaces"
            ));
        }
        if subjects.iter().skip(at + 1).any(|other| other == subject) {
            return wrong(format!("subject {subject:?} is given twice"));
        }
    }
    Ok(())
}

/// A subject that can be published to: no wildcards.
pub(crate) fn is_publishable(subject: &str) -> bool {
    is_filter(subject) && subject.split('.').all(|token| token != "*" && token != ">")
}

/// Whether some subject matches both of two filters.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        match (ones.next(), others.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(one), Some(other)) if one == other || one == "*" || other == "*" => {}
            _ => return false,
        }
    }
}

/// Whether all subjects that match `narrow` match `wide` too.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wides, mut narrows) = (wide.split('.'), narrow.split('.'));
    loop {
        match (wides.next(), narrows.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wide), Some(narrow)) if wide == narrow || (wide == "*" && narrow != ">") => {}
            _ => return false,
        }
    }
}

/// Any text as one token of a subject.
pub(crate) fn token(text: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
    if text.is_empty() { "%".to_owned() } else { utf8_percent_encode(text, KEPT).to_string() }
}

/// The text that a token was made of.
pub(crate) fn text_of(token: &str) -> Option<String> {
    let token = if token == "%" { "" } else { token };
    percent_decode_str(token).decode_utf8().ok().map(Cow::into_owned)
}

/// A name as streams and consumers have it: no dots, wildcards, slashes or spaces.
pub(crate) fn is_name(name: &str) -> bool {
    is_plain(name) && !name.contains(['.', '/', '\\'])
}

/// Not empty, without spaces, control characters and wildcards.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.chars().any(|char| char.is_whitespace() || char.is_control() || "*>".contains(char))
}

fn is_filter(subject: &str) -> bool {
    let spaces = subject.chars().any(|char| char.is_whitespace() || char.is_control());
    let mut tokens = subject.split('.').rev();
    let last = tokens.next().is_some_and(|token| !token.is_empty());
    !spaces && last && tokens.all(|token| !token.is_empty() && token != ">")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects() {
        for good in ["a", "a.b", "a.*.c", "a.>", ">", "user-operation", "ü.x"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a.>.b", "a\n"] {
            assert!(!is_filter(bad), "{bad:?}");
        }
        assert!(is_publishable("a.b") && !is_publishable("a.*") && !is_publishable("a.>"));
        assert!(is_name("EVENTS_1") && !is_name("a.b") && !is_name("a b") && !is_name("") && !is_name("a/b"));
        for (one, other) in [("a.>", "a.b"), ("a.*", "*.b"), (">", "a"), ("a.*.c", "a.>"), ("a.b", "a.b")] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [("a.>", "a"), ("a.*", "a.b.c"), ("a", "b"), ("a.*.c", "a.b.d")] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
        assert!(covers("a.>", "a.*.*") && covers("a.*.*", "a.*.*") && covers(">", "a.>"));
        assert!(!covers("a.*.b", "a.*.*") && !covers("a.*", "a.>") && !covers("a.*.*", "a.*"));
        for text in ["", "a.b", "*", ">", "user-operation", "%", "ü ~", "a\nb"] {
            assert!(is_publishable(&token(text)) && !token(text).contains(['.', '~']), "{text:?}");
            assert_eq!(text_of(&token(text)).as_deref(), Some(text));
        }
        let twice = check_filters(&["a".to_owned(), "a".to_owned()]).unwrap_err();
        assert!(twice.reason.contains("twice"));
    }
}
