//! What the payload of a trigger reads of clusters, so that a change of a cluster re-renders what shows it and nothing
//! else.

use std::collections::BTreeSet;

use crate::cluster::Cluster;

/// The paths that the templates of a payload read: `cluster.labels.env`, `origin`.
#[derive(Debug, Default)]
pub(super) struct PayloadReads(BTreeSet<String>);

impl PayloadReads {
    pub(super) fn new<'a>(templates: impl IntoIterator<Item = &'a BTreeSet<String>>) -> Self {
        Self(templates.into_iter().flatten().cloned().collect())
    }

    /// Whether any of it is another now, where a cluster stands under this name.
    pub(super) fn see_change(&self, name: &str, old: &Cluster, new: &Cluster) -> bool {
        let parts =
            [("labels", &old.labels, &new.labels), ("annotations", &old.annotations, &new.annotations)];
        self.0.iter().any(|path| {
            let mut path = path.split('.');
            if path.next() != Some(name) {
                return false;
            }
            let (part, key) = (path.next(), path.next());
            parts.iter().any(|(it, old, new)| match (part, key) {
                (None, _) => old != new,
                (Some(part), None) => part == *it && old != new,
                (Some(part), Some(key)) => part == *it && old.get(key) != new.get(key),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterId;

    fn cluster(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::new(ClusterId::new("fleet", "c").unwrap(), labels.iter().copied());
        cluster.annotations =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        cluster
    }

    #[test]
    fn only_what_is_read_counts() {
        let old = cluster(&[("env", "a"), ("tier", "x")], &[("owner", "o")]);
        let env = cluster(&[("env", "b"), ("tier", "x")], &[("owner", "o")]);
        let gone = cluster(&[("tier", "x")], &[("owner", "o")]);
        let owner = cluster(&[("env", "a"), ("tier", "x")], &[("owner", "p")]);
        for (path, by_env, by_owner) in [
            ("cluster.labels.env", true, false),
            ("cluster.labels.tier", false, false),
            ("cluster.labels", true, false),
            ("cluster.annotations.owner", false, true),
            ("cluster.annotations", false, true),
            ("cluster", true, true),
            ("cluster.name", false, false),
            ("origin.labels.env", false, false),
            ("event.cluster.labels", false, false),
        ] {
            let reads = PayloadReads::new([&BTreeSet::from([path.to_owned()])]);
            assert_eq!(reads.see_change("cluster", &old, &env), by_env, "{path}");
            assert_eq!(reads.see_change("cluster", &old, &gone), by_env, "{path}");
            assert_eq!(reads.see_change("cluster", &old, &owner), by_owner, "{path}");
        }
    }
}
