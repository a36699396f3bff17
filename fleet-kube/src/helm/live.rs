//! Releases as the cluster has them: helm keeps each revision in a Secret, whose labels say most of it.

use std::io::Read as _;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use fleet_core::apply::Identity;
use fleet_core::manifest::{Gvk, MARK, ObjectRef};
use fleet_core::yaml;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::client::{Call, ClusterClient, Failure, JSON};

/// The label of a release that tells what it was made of.
pub(super) const INPUTS: &str = "fleet-events.dev/helm-inputs";
/// The label of a release that tells which revision of it we have made: a person's upgrade takes our labels along.
pub(super) const REVISION: &str = "fleet-events.dev/helm-revision";
/// The label of a release with the hash over its chart, as far as a label holds it.
pub(super) const CHART: &str = "fleet-events.dev/helm-chart";
/// The label of a release that was there before it was ours.
pub(super) const ADOPTED: &str = fleet_core::manifest::ADOPTED;

const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// A release that is larger when it is unpacked is not looked into.
const LARGEST: u64 = 64 << 20;

/// One revision of a release, as its Secret's labels tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Revision {
    /// The Secret's name.
    pub(super) secret: Arc<str>,
    pub(super) uid: Arc<str>,
    /// The Secret's resourceVersion.
    pub(super) version: Arc<str>,
    pub(super) number: u32,
    pub(super) status: String,
    pub(super) mark: Option<Arc<str>>,
    pub(super) inputs: Option<String>,
    pub(super) adopted: bool,
    /// The revision that we have made, if we made any.
    made: Option<u32>,
    pub(super) chart: Option<String>,
    /// Seconds since 1970, by the server's clock: when helm began, or last changed it.
    pub(super) changed: Option<i64>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: Arc<str>,
    #[serde(default)]
    uid: Arc<str>,
    #[serde(default)]
    resource_version: Arc<str>,
    #[serde(default)]
    labels: Option<Map<String, Value>>,
}

impl Revision {
    /// What a Secret's metadata says; `None` if it is no release.
    pub(super) fn of(
        (secret, uid, version): (&Arc<str>, &Arc<str>, &Arc<str>),
        labels: &Map<String, Value>,
    ) -> Option<Self> {
        let label = |name: &str| labels.get(name).and_then(Value::as_str);
        Some(Self {
            secret: Arc::clone(secret),
            uid: Arc::clone(uid),
            version: Arc::clone(version),
            number: label("version")?.parse().ok()?,
            status: label("status")?.to_owned(),
            mark: label(MARK).map(Into::into),
            inputs: label(INPUTS).map(str::to_owned),
            adopted: label(ADOPTED).is_some(),
            made: label(REVISION).and_then(|made| made.parse().ok()),
            chart: label(CHART).map(str::to_owned),
            changed: label("modifiedAt").or(label("createdAt")).and_then(|at| at.parse().ok()),
        })
    }

    /// Whether helm was, or is, at work on it.
    pub(super) fn is_pending(&self) -> bool {
        self.status.starts_with("pending-") || self.status == "uninstalling"
    }

    /// Whether what it was is not there any more.
    pub(super) fn is_gone(&self) -> bool {
        self.status == "uninstalled"
    }

    /// Whether it is what we made last, and of this.
    pub(super) fn is_of(&self, inputs: &str) -> bool {
        self.status == "deployed" && self.made == Some(self.number) && self.inputs.as_deref() == Some(inputs)
    }
}

/// All revisions of a release that the cluster has, the latest first.
pub(super) async fn revisions(
    client: &ClusterClient,
    (namespace, name): (&str, &str),
    identity: Option<&Identity>,
    deadline: Instant,
) -> Result<Vec<Revision>, Failure> {
    let selector = format!("owner=helm,name={name}");
    let selector = utf8_percent_encode(&selector, NON_ALPHANUMERIC);
    let path = format!("/api/v1/namespaces/{namespace}/secrets?labelSelector={selector}");
    let call = Call { accept: METADATA_LIST, identity, ..Call::get(path) };
    let body = client.call(call, deadline).await.map_err(of_reading)?;
    let list: List = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    let mut revisions: Vec<Revision> = list
        .items
        .into_iter()
        .flatten()
        .filter_map(|Item { metadata: Metadata { name, uid, resource_version, labels } }| {
            Revision::of((&name, &uid, &resource_version), &labels?)
        })
        .collect();
    revisions.sort_unstable_by_key(|revision| std::cmp::Reverse(revision.number));
    Ok(revisions)
}

/// What helm has written down of a revision, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// The version of its chart.
    pub(super) chart_version: String,
    /// What it has put into the cluster, but for what hooks did.
    pub(super) manifest: String,
}

#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    manifest: String,
    #[serde(default)]
    chart: Chart,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chart {
    metadata: ChartMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChartMetadata {
    version: String,
}

#[derive(Deserialize)]
struct Secret {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    release: String,
}

/// Reads what helm has written down of a revision; `None` if it is not there any more.
pub(super) async fn content(
    client: &ClusterClient,
    namespace: &str,
    secret: &str,
    identity: Option<&Identity>,
    deadline: Instant,
) -> Result<Option<Content>, Failure> {
    let path =
        format!("/api/v1/namespaces/{namespace}/secrets/{}", utf8_percent_encode(secret, NON_ALPHANUMERIC));
    let call = Call { accept: JSON, identity, ..Call::get(path) };
    match client.call(call, deadline).await {
        Ok(body) => unpack(&body).map(Some).ok_or_else(unreadable),
        Err(Failure::NotFound { .. }) => Ok(None),
        Err(failure) => Err(of_reading(failure)),
    }
}

/// Of the Secret: base64, twice, then gzip, then JSON.
fn unpack(body: &[u8]) -> Option<Content> {
    let Secret { data: Data { release } } = serde_json::from_slice(body).ok()?;
    let packed = STANDARD.decode(STANDARD.decode(release).ok()?).ok()?;
    let mut unpacked = Vec::new();
    GzDecoder::new(packed.as_slice()).take(LARGEST).read_to_end(&mut unpacked).ok()?;
    let Stored { manifest, chart } = serde_json::from_slice(&unpacked).ok()?;
    Some(Content { chart_version: chart.metadata.version, manifest })
}

/// The objects that a chart renders. What cannot be read as an object is left out.
pub(super) fn objects(manifest: &str) -> Vec<Map<String, Value>> {
    yaml::documents(manifest)
        .into_iter()
        .filter_map(|document| match document.ok()?.value {
            Value::Object(object) if !object.is_empty() => Some(object),
            _ => None,
        })
        .collect()
}

/// What an object of a chart names.
pub(super) fn name_of(object: &Map<String, Value>) -> Option<ObjectRef> {
    let (api_version, kind) = (object.get("apiVersion")?.as_str()?, object.get("kind")?.as_str()?);
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let metadata = object.get("metadata")?;
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    Some(ObjectRef {
        gvk: Gvk { group: group.into(), version: version.into(), kind: kind.into() },
        namespace: text("namespace").map(Into::into),
        name: text("name")?.into(),
    })
}

fn unreadable() -> Failure {
    Failure::Unreachable {
        reason: "what helm has written down of the release cannot be understood".to_owned(),
    }
}

/// A failure to read had no effect, whatever it was.
pub(super) fn of_reading(failure: Failure) -> Failure {
    match failure {
        Failure::NoAnswer { reason } => Failure::Unreachable { reason },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_upgrade_by_hand_takes_our_labels_along_and_is_seen_all_the_same() {
        let revision = |version: &str, status: &str| {
            let labels = json!({
                "owner": "helm", "name": "a", "version": version, "status": status, "modifiedAt": "17",
                (MARK): "0123", (INPUTS): "abc", (REVISION): "2",
            });
            let part: Arc<str> = "x".into();
            Revision::of((&part, &part, &part), labels.as_object().unwrap()).unwrap()
        };
        assert!(revision("2", "deployed").is_of("abc"));
        assert!(!revision("2", "deployed").is_of("abd"));
        assert!(!revision("2", "failed").is_of("abc"));
        assert!(!revision("3", "deployed").is_of("abc"));
        assert!(revision("2", "pending-upgrade").is_pending());
    }
}
