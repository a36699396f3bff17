//! How what a trigger or profile renders is kept: when it is applied again, what happens where others have a say, what
//! counts as healthy, how a change spreads over clusters.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::manifest::ObjectRef;

/// How the payload of a trigger or profile is kept in clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// When it is applied again.
    pub sync: SyncMode,
    /// Fields that others may change without its being drift.
    pub drift_exclusions: Vec<DriftExclusion>,
    /// Whether the rest of the set goes ahead where one object is in conflict.
    pub continue_on_conflict: bool,
    /// Whether an object that exists and is nobody's Work is taken over, instead of being a conflict.
    pub adopt: bool,
    /// Which of two Works that want one object gets it: the lower one; of equals the one that has it.
    pub tier: u32,
    /// Whether a missing namespace of a namespaced object is waited for, instead of being created.
    pub skip_namespace_creation: bool,
    /// In how many clusters at a time a change of the payload is brought; in all if none.
    pub max_update: Option<MaxUpdate>,
    /// What becomes of what was applied in a cluster that stops to match.
    pub stop_matching: StopMatching,
    /// What else counts as healthy, beside the rules of [`health`](crate::health).
    pub health_checks: Vec<HealthCheck>,
    /// Triggers or profiles, by name, that have to be healthy in a cluster before this is applied there.
    pub depends_on: Vec<Arc<str>>,
}

/// The tier of a [`Policy`] that says nothing of it.
pub const DEFAULT_TIER: u32 = 100;

impl Default for Policy {
    fn default() -> Self {
        Self {
            sync: SyncMode::default(),
            drift_exclusions: Vec::new(),
            continue_on_conflict: false,
            adopt: false,
            tier: DEFAULT_TIER,
            skip_namespace_creation: false,
            max_update: None,
            stop_matching: StopMatching::default(),
            health_checks: Vec::new(),
            depends_on: Vec::new(),
        }
    }
}

impl Policy {
    /// The fields of an object that others may change.
    pub fn excluded<'a>(&'a self, object: &'a ObjectRef) -> impl Iterator<Item = &'a JsonPointer> {
        self.drift_exclusions
            .iter()
            .filter(|exclusion| exclusion.target.as_ref().is_none_or(|target| target.covers(object)))
            .flat_map(|exclusion| &exclusion.paths)
    }
}

/// When a payload is applied again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncMode {
    /// Once for each event and cluster.
    OneTime,
    /// Whenever what should be there changes.
    #[default]
    Continuous,
    /// Also when somebody changes it in the cluster.
    ContinuousWithDriftDetection,
    /// Never: it is only told what would happen.
    DryRun,
}

/// Fields that others may change without its being drift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftExclusion {
    /// Which fields.
    pub paths: Vec<JsonPointer>,
    /// Of which objects; of all if none.
    pub target: Option<Target>,
}

/// Which objects something is about: those that have everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The API group; empty for the core group.
    pub group: Option<Arc<str>>,
    /// The version in the group.
    pub version: Option<Arc<str>>,
    /// The kind.
    pub kind: Option<Arc<str>>,
    /// The namespace.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Option<Arc<str>>,
}

impl Target {
    /// Whether an object is among them.
    pub fn covers(&self, object: &ObjectRef) -> bool {
        let is = |wanted: &Option<Arc<str>>, there: Option<&Arc<str>>| {
            wanted.as_ref().is_none_or(|wanted| there == Some(wanted))
        };
        is(&self.group, Some(&object.gvk.group))
            && is(&self.version, Some(&object.gvk.version))
            && is(&self.kind, Some(&object.gvk.kind))
            && is(&self.namespace, object.namespace.as_ref())
            && is(&self.name, Some(&object.name))
    }
}

/// A JSON pointer (RFC 6901) to a field of an object, such as `/spec/replicas` or `/metadata/annotations/a~1b`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPointer(Arc<[Arc<str>]>);

impl JsonPointer {
    /// Reads a pointer. The words say what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix('/').ok_or("must begin with /, as in /spec/replicas")?;
        let mut parts: Vec<Arc<str>> = Vec::new();
        for part in rest.split('/') {
            let escaped = part.split('~').skip(1);
            if !escaped.into_iter().all(|after| after.starts_with(['0', '1'])) {
                return Err("has a ~ that is followed by neither 0 nor 1");
            }
            parts.push(part.replace("~1", "/").replace("~0", "~").into());
        }
        Ok(Self(parts.into()))
    }

    /// Its parts, unescaped, outermost first; at least one.
    pub fn parts(&self) -> &[Arc<str>] {
        &self.0
    }

    /// What it points to.
    pub fn find<'a>(&self, object: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(object.get(&**first)?, |value, part| match value {
            Value::Object(fields) => fields.get(&**part),
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Puts a value where it points to, in mappings that are made where they are missing. Whether there was room: what
    /// stands on the way must be mappings.
    pub fn put(&self, object: &mut Map<String, Value>, value: Value) -> bool {
        let Some((last, way)) = self.0.split_last() else { return false };
        let mut at = object;
        for part in way {
            let next = at.entry(&**part).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(fields) = next else { return false };
            at = fields;
        }
        at.insert(last.to_string(), value);
        true
    }
}

/// In how many clusters at a time a change is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaxUpdate {
    /// So many, at least one.
    Clusters(u32),
    /// So many of a hundred that are concerned, at least one cluster.
    Percent(u8),
}

impl MaxUpdate {
    /// How many of so many clusters.
    pub fn of(self, clusters: usize) -> usize {
        match self {
            Self::Clusters(number) => usize::try_from(number).unwrap_or(usize::MAX),
            Self::Percent(percent) => clusters.saturating_mul(usize::from(percent)) / 100,
        }
        .max(1)
    }
}

/// What becomes of what was applied in a cluster that stops to match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopMatching {
    /// It is taken away.
    #[default]
    WithdrawPolicies,
    /// It stays as it is. A Delete event, or the cluster's matching again, still finds it.
    LeavePolicies,
}

/// What else counts as healthy, for some objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What it is called in messages.
    pub name: Arc<str>,
    /// Of which objects.
    pub target: Target,
    /// A CEL expression over `object` that gives true once it is healthy.
    pub expression: Arc<str>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pointers_follow_rfc_6901() {
        let object = json!({"a/b": {"c~d": [1, {"": 2}]}});
        let object = object.as_object().unwrap();
        let find = |text: &str| JsonPointer::parse(text).unwrap().find(object).cloned();
        assert_eq!(find("/a~1b/c~0d/0"), Some(json!(1)));
        assert_eq!(find("/a~1b/c~0d/1/"), Some(json!(2)));
        assert_eq!(find("/a~1b/x"), None);
        for bad in ["", "a", "/a~2", "/~"] {
            assert!(JsonPointer::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_few_clusters_at_least_one_is_updated() {
        assert_eq!(MaxUpdate::Percent(30).of(10), 3);
        assert_eq!(MaxUpdate::Percent(30).of(2), 1);
        assert_eq!(MaxUpdate::Clusters(0).of(5), 1);
    }
}
