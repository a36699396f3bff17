//! What an upgrade would change: what the chart would render, against what helm has written down.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::apply::{Change, Outcome};
use fleet_core::diff;
use fleet_core::manifest::ObjectRef;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::live::{self, Content};
use super::spec::Release;
use super::{Ask, Standing, at_work};
use crate::client::Failure;

#[derive(Deserialize)]
struct Rehearsed {
    #[serde(default)]
    manifest: String,
}

impl Ask<'_> {
    /// Nothing is written; helm is asked what it would do, so that the chart and its values have their say.
    pub(super) async fn preview(&self, id: &ObjectRef, release: &Release) -> Result<Outcome, Failure> {
        let place = self.place(id);
        let revisions = self.revisions(&place).await?;
        let latest = match self.standing(id, &revisions) {
            Standing::Theirs(owner) => return Ok(Outcome::Conflict { owner }),
            Standing::Absent => None,
            Standing::Ours { latest, .. } if latest.is_pending() => return Ok(at_work()),
            Standing::Ours { latest, .. } if latest.is_of(&release.inputs) => {
                return Ok(Outcome::Would(Change::Nothing));
            }
            Standing::Ours { latest, .. } => Some(latest),
        };
        let within = self.by.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let creates_namespace = !self.policy.skip_namespace_creation;
        let rehearsed = self.helm.workshop.rehearse(&place, release, creates_namespace, within).await;
        let (printed, chart) = match rehearsed {
            Ok(rehearsed) => rehearsed,
            // Nothing happened, whatever it was.
            Err(Outcome::Unknown { reason }) => {
                return Ok(Outcome::Retry { after: Duration::from_secs(10), reason, cluster: false });
            }
            Err(outcome) => return Ok(outcome),
        };
        let Some(latest) = latest else { return Ok(Outcome::Would(Change::Create)) };
        let Ok(Rehearsed { manifest }) = serde_json::from_slice(&printed) else {
            return Ok(Outcome::Rejected {
                reason: "what helm prints of an upgrade cannot be understood".to_owned(),
            });
        };
        let (client, identity) = (&self.link.client, self.identity.as_ref());
        let namespace = &place.key.namespace;
        let before = live::content(client, namespace, &latest.secret, identity, self.by).await?;
        let after = Content { chart_version: chart.version.to_string(), manifest };
        let diff = between(&before.unwrap_or_default(), &after, namespace);
        Ok(Outcome::Would(Change::Update { diff }))
    }
}

/// What differs between two states of a release, object by object.
fn between(before: &Content, after: &Content, namespace: &str) -> String {
    let release = |content: &Content| {
        let Value::Object(release) = json!({"chart": {"version": content.chart_version}}) else {
            return Map::new();
        };
        release
    };
    let mut text = diff::between(&release(before), &release(after)).unwrap_or_default();
    let (before, after) = (by_name(before, namespace), by_name(after, namespace));
    let nothing = Map::new();
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        // An object that comes or goes is shown whole, and masked as what it is.
        let diff = match (old, new) {
            (Some(old), Some(new)) => diff::between(old, new),
            (None, Some(new)) => diff::between(&nothing, &diff::masked(new)),
            (Some(old), None) => diff::between(&diff::masked(old), &nothing),
            (None, None) => None,
        };
        if let Some(diff) = diff {
            text.push_str(&format!("@@ {name}\n{diff}"));
        }
    }
    if text.is_empty() {
        text.push_str("@@ no object changes; helm writes down another revision\n");
    }
    text
}

fn by_name(content: &Content, namespace: &str) -> BTreeMap<String, Map<String, Value>> {
    let named = |object: Map<String, Value>| {
        let id = live::name_of(&object)?;
        let namespace = id.namespace.as_deref().unwrap_or(namespace);
        Some((format!("{} {namespace}/{} ({})", id.gvk.kind, id.name, id.gvk.api_version()), object))
    };
    live::objects(&content.manifest).into_iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_masked_also_of_those_that_come_and_go() {
        let secret = |name: &str, value: &str| {
            format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\nstringData:\n  key: {value}\n"
            )
        };
        let content = |manifest: String| Content { chart_version: "1.0.0".to_owned(), manifest };
        let before = content(secret("stays", "s3cret-one") + &secret("goes", "s3cret-two"));
        let after = content(secret("stays", "s3cret-three") + &secret("comes", "s3cret-four"));
        let diff = between(&before, &after, "a");
        assert!(!diff.contains("s3cret"), "{diff}");
        for shown in ["@@ Secret a/stays (v1)", "@@ Secret a/comes (v1)", "@@ Secret a/goes (v1)", "***"] {
            assert!(diff.contains(shown), "{diff}");
        }
    }
}
