//! NATS subjects and names, checked before a server sees them.

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
        let twice = check_filters(&["a".to_owned(), "a".to_owned()]).unwrap_err();
        assert!(twice.reason.contains("twice"));
    }
}
