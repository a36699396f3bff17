//! What a template reads of its context.
//!
//! Whoever leaves out what is not read must be right, so this never says less than what is read; it may say more.
//! It looks at the words in the template's tags: minijinja's own analysis overlooks what is sliced, the arguments of
//! filter blocks, and `{% set cluster = cluster.labels %}`.

use std::collections::BTreeSet;

/// The names that the context may have.
const ROOTS: [&str; 8] =
    ["event", "events", "message", "resource", "cluster", "origin", "resources", "trigger"];

/// What a template reads.
#[derive(Debug)]
pub(super) struct Reads {
    paths: BTreeSet<String>,
    parts: Vec<(&'static str, Parts)>,
}

/// Which parts of one root are read.
#[derive(Debug, PartialEq)]
pub(super) enum Parts {
    /// The root as such: all of it.
    All,
    /// These attributes.
    Some(BTreeSet<String>),
}

impl Parts {
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.contains(name),
        }
    }
}

impl Reads {
    pub(super) fn of(template: &str) -> Self {
        let paths: BTreeSet<String> = tags(template).flat_map(paths).map(str::to_owned).collect();
        let mut parts = Vec::new();
        for root in ROOTS {
            let read = || paths.iter().filter(|path| path.split('.').next() == Some(root));
            if read().any(|path| path == root) {
                parts.push((root, Parts::All));
            } else if read().next().is_some() {
                let names = read().filter_map(|path| path.split('.').nth(1)).map(str::to_owned);
                parts.push((root, Parts::Some(names.collect())));
            }
        }
        Self { paths, parts }
    }

    pub(super) fn paths(&self) -> &BTreeSet<String> {
        &self.paths
    }

    /// What is read of a root, if anything.
    pub(super) fn parts(&self, root: &str) -> Option<&Parts> {
        self.parts.iter().find_map(|(name, parts)| (*name == root).then_some(parts))
    }
}

/// What stands between `{{` and `}}`, `{%` and `%}`, strings and braces respected. What looks like a tag in a comment,
/// a string or a raw block counts too.
fn tags(template: &str) -> impl Iterator<Item = &str> {
    template.match_indices('{').filter_map(|(start, _)| {
        let tag = template.get(start + 1..)?;
        let close = match tag.bytes().next()? {
            b'{' => b'}',
            b'%' => b'%',
            _ => return None,
        };
        let tag = tag.get(1..)?;
        let (mut quote, mut escaped, mut braces) = (None, false, 0_usize);
        for (index, byte) in tag.bytes().enumerate() {
            match (quote, byte) {
                _ if escaped => escaped = false,
                (Some(_), b'\\') => escaped = true,
                (Some(open), _) if open == byte => quote = None,
                (Some(_), _) => {}
                (None, b'\'' | b'"') => quote = Some(byte),
                (None, b'{') => braces += 1,
                (None, b'}') if braces > 0 => braces -= 1,
                (None, _) if byte == close && tag.as_bytes().get(index + 1) == Some(&b'}') => {
                    return tag.get(..index);
                }
                _ => {}
            }
        }
        Some(tag)
    })
}

/// The names of the context in a tag, with the attributes that follow.
fn paths(tag: &str) -> impl Iterator<Item = &str> {
    let in_path = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.');
    tag.split(move |char| !in_path(char)).filter_map(|path| {
        let path = path.trim_end_matches('.');
        ROOTS.contains(&path.split('.').next()?).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(text: &str) -> Vec<String> {
        Reads::of(text).paths().iter().cloned().collect()
    }

    #[test]
    fn nothing_that_is_read_is_overlooked() {
        for (text, expected) in [
            ("event", &[][..]),
            ("{{ event.subject }} {{ cluster.labels['a'] }}", &["cluster.labels", "event.subject"]),
            (
                "{{ range(3) }}{% for x in event.data.list %}{{ x.event }}{{ loop.index }}{% endfor %}",
                &["event.data.list"],
            ),
            ("{% set e = event %}{{ e.subject }}", &["event"]),
            ("{% for it in events %}{{ it.event.subject }}{% endfor %}", &["events"]),
            ("{{ events[0].event.subject }}", &["events"]),
            ("{{ resources.a.data.k }}{{ resources['b'] }}", &["resources", "resources.a.data.k"]),
            ("{{ event.resources }}", &["event.resources"]),
            ("{{ events.0.event.subject }}", &["events.0.event.subject"]),
            ("{{ event.data.text[1:3] }}", &["event.data.text"]),
            ("{{ event['data'] ~ event . subject }}", &["event"]),
            (
                "{% set cluster = cluster.labels %}{{ cluster.a }}",
                &["cluster", "cluster.a", "cluster.labels"],
            ),
            ("{% filter indent(cluster.labels.w | int) %}a{% endfilter %}", &["cluster.labels.w"]),
            ("{% set x | indent(cluster.labels.w | int) %}a{% endset %}", &["cluster.labels.w"]),
            (
                "{% macro m(a=event.subject) %}{{ a }}{{ trigger.name }}{% endmacro %}",
                &["event.subject", "trigger.name"],
            ),
            ("{% set x = '%}' %}{%- set y = cluster.name -%}", &["cluster.name"]),
            ("{% set x = '%}' ~ cluster.name %}", &["cluster.name"]),
            ("{{ {'a': {'b': 1}} | f(origin.name) }}", &["origin.name"]),
            ("{{ \"it's\" ~ '}}' ~ message.subject }}", &["message.subject"]),
            ("{# {{ ' #}{{ event.id }}", &["event.id"]),
            ("{a: {{ event.id }}, b: {{{ event.time }}: 1}}", &["event.id", "event.time"]),
        ] {
            assert_eq!(reads(text), expected, "{text}");
        }
    }
}
