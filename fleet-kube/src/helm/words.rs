//! What helm says of a failure: what it means, and what of it people may see.

use std::time::Duration;

use fleet_core::apply::Outcome;
use serde_json::{Map, Value};

use super::program::Unrun;

/// Longer reasons are cut.
const LONGEST: usize = 1024;
/// Shorter texts are masked only where they are quoted: they would be found inside of words.
const SHORTEST_BARE: usize = 4;
const MASK: &str = "***";

/// Texts that must not show.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// All values, and these.
    pub(super) fn of(values: &Map<String, Value>, more: impl IntoIterator<Item = String>) -> Self {
        let mut texts: Vec<String> = more.into_iter().collect();
        values.values().for_each(|value| collect(value, &mut texts));
        let lines: Vec<String> = texts
            .iter()
            .filter(|text| text.contains('\n'))
            .flat_map(|text| text.lines().map(str::to_owned))
            .collect();
        texts.extend(lines);
        // As it is quoted in JSON, in Go and in YAML.
        let quoted: Vec<String> = texts.iter().map(|text| Value::String(text.clone()).to_string()).collect();
        texts.extend(quoted.iter().map(|text| text.trim_matches('"').to_owned()));
        texts.retain(|text| !text.trim().is_empty());
        texts.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        texts.dedup();
        Self(texts)
    }

    fn masked(&self, mut words: String) -> String {
        for text in &self.0 {
            if text.len() >= SHORTEST_BARE {
                words = words.replace(text.as_str(), MASK);
                continue;
            }
            for quote in ['\'', '"', '`'] {
                words = words.replace(&format!("{quote}{text}{quote}"), MASK);
            }
        }
        words
    }
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Number(number) => texts.push(number.to_string()),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        Value::Array(items) => items.iter().for_each(|value| collect(value, texts)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// What is known to be meant by words of helm's, or of what it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    ClusterUnreachable,
    ClusterRefusesUs,
    RepositoryUnreachable,
    RepositoryRefusesUs,
    NoSuchChart,
    Other,
}

fn meaning(words: &str) -> Meaning {
    let has = |those: &[&str]| those.iter().any(|these| words.contains(these));
    if has(&["Kubernetes cluster unreachable", "the server is currently unable to handle the request"]) {
        return Meaning::ClusterUnreachable;
    }
    if has(&["the server has asked for the client to provide credentials"]) {
        return Meaning::ClusterRefusesUs;
    }
    if has(&[
        "401 Unauthorized",
        "403 Forbidden",
        "response status code 401",
        "response status code 403",
        "basic credential not found",
    ]) {
        return Meaning::RepositoryRefusesUs;
    }
    if has(&[
        "connection refused",
        "no such host",
        "i/o timeout",
        "TLS handshake timeout",
        "connection reset",
        "network is unreachable",
        "502 Bad Gateway",
        "503 Service",
        "504 Gateway",
        "context deadline exceeded",
        "Client.Timeout",
    ]) {
        return Meaning::RepositoryUnreachable;
    }
    if has(&[
        "no chart version found",
        "no chart name found",
        "404 Not Found",
        ": not found",
        "could not locate a version",
        "does not contain a chart",
        "chart not found",
        "not found in",
    ]) {
        return Meaning::NoSuchChart;
    }
    Meaning::Other
}

/// What becomes of a release whose chart could not be had.
pub(super) fn of_pull(unrun: Unrun, chart: &str, secrets: &Secrets) -> Outcome {
    let Unrun::Failed(said) = unrun else { return of_unrun(unrun) };
    let words = shown(&said.0, secrets);
    match meaning(&said.0) {
        Meaning::RepositoryRefusesUs => Outcome::Rejected {
            reason: format!(
                "chart {chart}: the repository refuses the credentials, or wants some; correct registryCredentialsConfig: {words}"
            ),
        },
        Meaning::RepositoryUnreachable => Outcome::Retry {
            after: Duration::from_secs(10),
            reason: format!("chart {chart}: the repository cannot be reached: {words}"),
            cluster: false,
        },
        Meaning::NoSuchChart => Outcome::Rejected {
            reason: format!(
                "chart {chart}: the repository has no such chart or version; correct chartName or chartVersion: {words}"
            ),
        },
        _ => Outcome::Rejected { reason: format!("chart {chart} cannot be had: {words}") },
    }
}

/// What becomes of a release that helm could not install, upgrade or uninstall.
pub(super) fn of_run(unrun: Unrun, what: &str, secrets: &Secrets) -> Outcome {
    let Unrun::Failed(said) = unrun else { return of_unrun(unrun) };
    let words = shown(&said.0, secrets);
    match meaning(&said.0) {
        Meaning::ClusterUnreachable => Outcome::Retry {
            after: Duration::from_secs(1),
            reason: format!("the API server cannot be reached by helm: {words}"),
            cluster: true,
        },
        Meaning::ClusterRefusesUs => Outcome::Retry {
            after: Duration::from_secs(10),
            reason: "the API server does not accept the credentials of the cluster's kubeconfig; renew them"
                .to_owned(),
            cluster: true,
        },
        // A break in the middle leaves the release as far as helm came: that is looked at next.
        Meaning::RepositoryUnreachable => Outcome::Retry {
            after: Duration::from_secs(5),
            reason: format!("{what} failed: {words}"),
            cluster: false,
        },
        _ => Outcome::Rejected { reason: format!("{what} failed: {words}") },
    }
}

fn of_unrun(unrun: Unrun) -> Outcome {
    match unrun {
        Unrun::Overdue(_) => {
            Outcome::Unknown { reason: format!("{unrun}; options.timeout gives it more time") }
        }
        // It is looked for again after a while; that the program is there is nobody else's change.
        Unrun::Unusable(reason) => Outcome::Rejected { reason },
        Unrun::Busy => Outcome::Waiting { reason: unrun.to_string() },
        Unrun::Folder { .. } => {
            Outcome::Retry { after: Duration::from_secs(10), reason: unrun.to_string(), cluster: false }
        }
        Unrun::Failed(_) => Outcome::Rejected { reason: "helm failed".to_owned() },
    }
}

/// Helm's words on one line: from its error on, without what it warns of, and without values.
fn shown(said: &str, secrets: &Secrets) -> String {
    let masked = secrets.masked(said.to_owned());
    const NOISE: [&str; 4] = ["WARNING:", "level=", "Hang tight", "Update Complete"];
    let is_noise = |line: &&str| !line.is_empty() && !NOISE.iter().any(|noise| line.starts_with(noise));
    let lines: Vec<&str> = masked.lines().map(str::trim).filter(is_noise).collect();
    let from = lines.iter().position(|line| line.starts_with("Error:")).unwrap_or(0);
    let text = lines.get(from..).unwrap_or_default().join(" ");
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    if let Some(rest) = text.strip_prefix("Error: ") {
        text = rest.to_owned();
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    if text.is_empty() { "helm did not say why".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::program::Said;
    use super::*;

    fn told(words: &str) -> Outcome {
        let Value::Object(values) =
            json!({"a": {"b": ["s3cret-value", 12345]}, "c": "x", "d": "two\nlines here"})
        else {
            unreachable!()
        };
        let secrets = Secrets::of(&values, ["pass\"word".to_owned()]);
        of_run(Unrun::Failed(Said(words.to_owned())), "helm upgrade", &secrets)
    }

    #[test]
    fn values_never_show() {
        for words in [
            "Error: at '/a': 's3cret-value' does not match",
            "Error: got 12345",
            "Error: got 'x'",
            "Error: two\\nlines here",
            "Error: two\n lines here",
            "Error: pass\"word and pass\\\"word",
        ] {
            let shown = format!("{:?}", told(words));
            for value in ["s3cret", "12345", "'x'", "lines", "word"] {
                assert!(!shown.contains(value), "{shown}");
            }
            assert!(shown.contains(MASK), "{shown}");
        }
    }

    #[test]
    fn what_is_out_of_reach_is_tried_again_and_what_is_wrong_is_not() {
        let cluster =
            told("Error: Kubernetes cluster unreachable: Get \"https://x\": dial tcp: connection refused");
        assert!(matches!(cluster, Outcome::Retry { cluster: true, .. }), "{cluster:?}");
        let wrong = told("level=WARN msg=x\nError: UPGRADE FAILED: execution error at (t.yaml:1:2): no");
        assert_eq!(
            wrong,
            Outcome::Rejected {
                reason: "helm upgrade failed: UPGRADE FAILED: execution error at (t.yaml:1:2): no".to_owned()
            }
        );
    }
}
