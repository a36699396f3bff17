//! Kubernetes' rules for names: [object names], and RFC 1123 where they refer to it.
//!
//! [object names]: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/

/// A DNS label: at most 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
pub fn dns_label(text: &str) -> Result<(), &'static str> {
    check_dns(text, 63, false)
}

/// A DNS subdomain: at most 253 characters, labels joined by dots.
pub fn dns_subdomain(text: &str) -> Result<(), &'static str> {
    check_dns(text, 253, true)?;
    if text.split('.').all(|label| check_dns(label, 253, false).is_ok()) {
        Ok(())
    } else {
        Err("each part between dots must begin and end with a letter or digit")
    }
}

/// A name that only has to be one segment of a path, as RBAC's: not `.` or `..`, and without `/` and `%`.
pub fn path_segment(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        "." | ".." => Err("must not be . or .."),
        _ if text.len() > 253 => Err("is longer than 253 characters"),
        _ if text.contains(['/', '%']) => Err("must contain neither / nor %"),
        _ if text.chars().any(char::is_control) => Err("must not contain control characters"),
        _ => Ok(()),
    }
}

/// A kind: a letter, then letters and digits.
pub fn kind(text: &str) -> Result<(), &'static str> {
    let mut bytes = text.bytes();
    if !bytes.next().is_some_and(|first| first.is_ascii_alphabetic()) {
        return Err("must begin with a letter");
    }
    if text.len() > 63 || !bytes.all(|byte| byte.is_ascii_alphanumeric()) {
        return Err("must be at most 63 letters and digits");
    }
    Ok(())
}

/// A version of an API group, such as `v1` or `v1alpha1`: a DNS label that begins with a letter.
pub fn version(text: &str) -> Result<(), &'static str> {
    dns_label(text)?;
    if text.starts_with(|first: char| first.is_ascii_lowercase()) {
        Ok(())
    } else {
        Err("must begin with a letter")
    }
}

fn check_dns(text: &str, longest: usize, dots: bool) -> Result<(), &'static str> {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > longest {
        return Err(if dots { "is longer than 253 characters" } else { "is longer than 63 characters" });
    }
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || (dots && byte == b'.')
    };
    if !text.bytes().all(allowed) {
        return Err(if dots {
            "must consist of lower case letters, digits, '-' and '.'"
        } else {
            "must consist of lower case letters, digits and '-'"
        });
    }
    if !edge(text.bytes().next()) || !edge(text.bytes().next_back()) {
        return Err("must begin and end with a letter or digit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes() {
        for good in ["a", "0", "a-b", "mgianluc", &"x".repeat(63)] {
            assert!(dns_label(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "../../x", "https://x/y", "ü", "😀", &"x".repeat(64)]
        {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
        assert!(dns_subdomain("a.b-c.d").is_ok());
        for bad in ["a..b", ".a", "a.", "a.-b", &"x".repeat(254)] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
        assert!(path_segment("system:node-Admin").is_ok());
        for bad in ["", ".", "..", "a/b", "a%2f", "a\nb"] {
            assert!(path_segment(bad).is_err(), "{bad}");
        }
        assert!(kind("ConfigMap").is_ok() && kind("../x").is_err() && kind("").is_err());
        assert!(version("v1alpha1").is_ok() && version("1").is_err());
    }
}
