//! What one agent is given: the definitions that concern its cluster, compressed, in a Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use fleet_core::catalog::Withheld;
use fleet_core::cluster::ClusterId;
use fleet_core::resource::{Lookup, Others, Resource, ResourceId, ResourceState, Resources};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{AGENT_LABEL, label_value, object_name};
use crate::definitions::RawObject;

/// The type of the Secret.
pub const SECRET_TYPE: &str = "fleet-events.dev/agent";
/// The annotation with the digest of what is in it.
pub(super) const DIGEST_ANNOTATION: &str = "fleet-events.dev/digest";

/// The key in the Secret's data.
const KEY: &str = "definitions.json.gz";
/// How large the data of a Secret may be.
const LARGEST: usize = 1 << 20;
/// How large it may become when it is read.
const LARGEST_READ: u64 = 64 << 20;
const FORMAT: u32 = 1;

/// The definitions that concern one cluster. They may hold Secrets.
#[derive(Serialize, Deserialize)]
pub struct Bundle {
    format: u32,
    cluster: ClusterId,
    /// Whether what is not in here is known not to be.
    complete: bool,
    objects: Vec<Box<RawValue>>,
    /// What is known of the hub's objects that templates see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resources: Vec<Known>,
    /// EventSources whose events the hub hears from the agent, as far as triggers put something into other clusters.
    #[serde(default)]
    relayed: BTreeSet<Arc<str>>,
    /// Triggers that are not in here, and not gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    withheld: BTreeMap<Arc<str>, Withheld>,
}

/// What is known of one object.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    api_version: Arc<str>,
    kind: Arc<str>,
    namespace: Arc<str>,
    name: Arc<str>,
    /// The object, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<Value>,
    /// Why it cannot be read, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unavailable: Option<Arc<str>>,
}

/// Why a bundle cannot be written, or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It is too large for a Secret.
    #[error(
        "the definitions that concern the cluster take {bytes} bytes, compressed, and a Secret holds {LARGEST}; have fewer \
         or smaller templates concern it (sourceClusterSelector, clusterSelector)"
    )]
    TooLarge {
        /// Its size, compressed.
        bytes: usize,
    },
    /// It was not written by an operator, or by one of another version.
    #[error("it cannot be read: {0}; the operator at the hub writes it, of the same version as the agent")]
    Unreadable(&'static str),
    /// It is another agent's.
    #[error("it is meant for cluster {0}")]
    Foreign(ClusterId),
}

impl Bundle {
    /// Of objects, each as JSON, in a stable order.
    pub(super) fn new(cluster: ClusterId, complete: bool, objects: Vec<Box<RawValue>>) -> Self {
        let (resources, relayed, withheld) = Default::default();
        Self { format: FORMAT, cluster, complete, objects, resources, relayed, withheld }
    }

    /// With what is known of objects that templates see; of others nothing is.
    pub(super) fn with_resources<'a>(
        mut self,
        resources: impl Iterator<Item = (&'a ResourceId, Lookup<'a>)>,
    ) -> Self {
        self.resources = resources
            .filter_map(|(id, found)| {
                let (object, unavailable) = match found {
                    Lookup::Found(resource) => (Some(resource.value().clone()), None),
                    Lookup::Absent => (None, None),
                    Lookup::Unavailable(why) => (None, Some(why.into())),
                    Lookup::Unread => return None,
                };
                let ResourceId { api_version, kind, namespace, name } = id.clone();
                Some(Known { api_version, kind, namespace, name, object, unavailable })
            })
            .collect();
        self
    }

    /// What is known of the hub's objects that templates see.
    pub fn resources(&self) -> Resources {
        let known = self.resources.iter().map(|it| {
            let id = ResourceId {
                api_version: Arc::clone(&it.api_version),
                kind: Arc::clone(&it.kind),
                namespace: Arc::clone(&it.namespace),
                name: Arc::clone(&it.name),
            };
            let state = match (&it.object, &it.unavailable) {
                (Some(object), _) => ResourceState::Found(Arc::new(Resource::new(object.clone()))),
                (None, Some(why)) => ResourceState::Unavailable(Arc::clone(why)),
                (None, None) => ResourceState::Absent,
            };
            (id, state)
        });
        Resources { known: known.collect(), others: Others::Unread }
    }

    /// With EventSources of which the hub is to hear.
    pub(super) fn relaying(self, relayed: BTreeSet<Arc<str>>) -> Self {
        Self { relayed, ..self }
    }

    /// EventSources of which the hub is to hear.
    pub fn relayed(&self) -> &BTreeSet<Arc<str>> {
        &self.relayed
    }

    /// With the names of triggers that are not in here, and not gone.
    pub(super) fn withholding(self, withheld: BTreeMap<Arc<str>, Withheld>) -> Self {
        Self { withheld, ..self }
    }

    /// Triggers that are not in here, and not gone.
    pub fn withheld(&self) -> &BTreeMap<Arc<str>, Withheld> {
        &self.withheld
    }

    /// Whether what is not in here is known not to be.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// The objects, as the hub's API server had them.
    pub fn objects(&self) -> Vec<RawObject> {
        let values = self.objects.iter().filter_map(|object| serde_json::from_str(object.get()).ok());
        values.map(RawObject::in_api).collect()
    }

    /// The Secret for it, without a namespace, and the digest of what is in it; nothing if that is `known`.
    ///
    /// # Errors
    /// When it is too large.
    pub fn to_secret(&self, known: &str) -> Result<Option<(Value, String)>, BundleError> {
        let unwritten = |_| BundleError::Unreadable("it is no JSON");
        let text = serde_json::to_vec(self).map_err(unwritten)?;
        let digest = digest(&text);
        if digest == known {
            return Ok(None);
        }
        let mut compressed = GzEncoder::new(Vec::new(), Compression::best());
        let written = compressed.write_all(&text).and_then(|()| compressed.finish());
        let bytes = written.map_err(|_| BundleError::Unreadable("it cannot be compressed"))?;
        if bytes.len() > LARGEST {
            return Err(BundleError::TooLarge { bytes: bytes.len() });
        }
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": object_name(&self.cluster),
                "labels": {(AGENT_LABEL): label_value(&self.cluster)},
                "annotations": {(DIGEST_ANNOTATION): digest},
            },
            "type": SECRET_TYPE,
            "data": {(KEY): STANDARD.encode(bytes)},
        });
        Ok(Some((secret, digest)))
    }

    /// Reads a Secret's bundle for a cluster, and the digest of what is in it.
    ///
    /// # Errors
    /// When it is none, or another cluster's.
    pub fn of_secret(secret: &Value, cluster: &ClusterId) -> Result<(Self, String), BundleError> {
        let data = secret.pointer("/data").and_then(|data| data.get(KEY)).and_then(Value::as_str);
        let data = data.ok_or(BundleError::Unreadable("its Secret has no key definitions.json.gz"))?;
        let bytes = STANDARD.decode(data).map_err(|_| BundleError::Unreadable("it is no base64"))?;
        let mut text = Vec::new();
        let read = GzDecoder::new(&*bytes).take(LARGEST_READ).read_to_end(&mut text);
        read.map_err(|_| BundleError::Unreadable("it is not compressed by gzip"))?;
        let bundle: Self = serde_json::from_slice(&text)
            .map_err(|_| BundleError::Unreadable("it is not as it should be"))?;
        if bundle.format != FORMAT {
            return Err(BundleError::Unreadable("it is of another format"));
        }
        if bundle.cluster != *cluster {
            return Err(BundleError::Foreign(bundle.cluster));
        }
        Ok((bundle, digest(&text)))
    }
}

/// Leaves out what it holds.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("cluster", &self.cluster)
            .field("objects", &self.objects.len())
            .finish_non_exhaustive()
    }
}

/// In hex.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_and_shows_nothing() {
        let id = ClusterId::new("civo", "cluster1").unwrap();
        let objects = vec![object(r#"{"kind":"Secret","data":{"k":"hunter2"}}"#)];
        let bundle = Bundle::new(id.clone(), true, objects);
        let (secret, digest) = bundle.to_secret("").unwrap().unwrap();
        assert!(bundle.to_secret(&digest).unwrap().is_none(), "the same is the same");
        let (read, same) = Bundle::of_secret(&secret, &id).unwrap();
        assert_eq!((same, read.complete(), read.objects().len()), (digest, true, 1));
        assert_eq!(read.objects()[0].value["data"]["k"], "hunter2");
        assert!(!format!("{read:?}").contains("hunter2"));
        let other = ClusterId::new("civo", "cluster2").unwrap();
        assert!(matches!(Bundle::of_secret(&secret, &other), Err(BundleError::Foreign(_))));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let id = ClusterId::new("civo", "cluster1").unwrap();
        // Noise cannot be compressed.
        let mut noise = String::new();
        for block in 0..40_000_u32 {
            noise.push_str(&digest(&block.to_be_bytes()));
        }
        let bundle = Bundle::new(id, true, vec![object(&format!("\"{noise}\""))]);
        assert!(matches!(bundle.to_secret(""), Err(BundleError::TooLarge { .. })));
    }
}
