//! Which kinds a cluster serves, and at which path: discovery, one group version at a time, as far as it is needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use fleet_core::manifest::Gvk;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Call, ClusterClient, Failure};

/// A group version that lacks a kind is read again, but not more often than this.
const REREAD: Duration = Duration::from_secs(1);
/// Group versions remembered for a cluster. More means that something makes them up; then all are forgotten.
const MOST: usize = 512;

/// Where a kind is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    base: Arc<str>,
    plural: Arc<str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// All that is not plain in a path: names of RBAC objects may contain nearly anything.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

impl Resource {
    /// The path of all objects of the kind, or of those in one namespace.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => {
                format!(
                    "{}/namespaces/{}/{}",
                    self.base,
                    utf8_percent_encode(namespace, SEGMENT),
                    self.plural
                )
            }
            None => format!("{}/{}", self.base, self.plural),
        }
    }

    /// The path of one object.
    pub fn object(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{}", self.collection(namespace), utf8_percent_encode(name, SEGMENT))
    }
}

/// What is known of a cluster's kinds.
#[derive(Default)]
pub struct Kinds {
    versions: Mutex<HashMap<Name, Arc<GroupVersion>>>,
    /// Tells that the cluster was asked for kinds.
    asked: watch::Sender<()>,
}

/// Group and version.
type Name = (Arc<str>, Arc<str>);

#[derive(Default)]
struct GroupVersion {
    read: RwLock<Option<Read>>,
    /// One reads, the others wait for it.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Read {
    kinds: Arc<HashMap<String, Resource>>,
    at: Instant,
}

impl Kinds {
    /// Where a kind is served; `None` if the cluster does not serve it, as of a second ago at most.
    ///
    /// # Errors
    /// When the cluster could not be asked.
    pub async fn find(
        &self,
        client: &ClusterClient,
        gvk: &Gvk,
        deadline: Instant,
    ) -> Result<Option<Resource>, Failure> {
        let version = self.version(gvk);
        if let Some(resource) = version.known().and_then(|read| read.kinds.get(&*gvk.kind).cloned()) {
            return Ok(Some(resource));
        }
        let Ok(_reading) = tokio::time::timeout_at(deadline, version.reading.lock()).await else {
            return Err(Failure::NotTried { reason: "the cluster's kinds were not read in time".to_owned() });
        };
        // Somebody may have read it while this waited.
        if let Some(read) = version.known() {
            let found = read.kinds.get(&*gvk.kind).cloned();
            if found.is_some() || read.at.elapsed() < REREAD {
                return Ok(found);
            }
        }
        let base = base(&gvk.group, &gvk.version);
        let kinds = match client.call(Call::get(base.as_str()), deadline).await {
            Ok(body) => parse(&base, &body)?,
            // Every API server serves the core group; a 404 there is somebody else's.
            Err(Failure::NoSuchPath | Failure::NotFound { .. }) if !gvk.group.is_empty() => HashMap::new(),
            Err(failure) => return Err(failure),
        };
        let found = kinds.get(&*gvk.kind).cloned();
        version.set(Some(Read { kinds: Arc::new(kinds), at: Instant::now() }));
        self.asked.send_replace(());
        Ok(found)
    }

    /// As [`find`](Self::find), in whichever version of the group, if the given one is not served any more.
    ///
    /// # Errors
    /// When the cluster could not be asked.
    pub async fn find_in_any_version(
        &self,
        client: &ClusterClient,
        gvk: &Gvk,
        deadline: Instant,
    ) -> Result<Option<Resource>, Failure> {
        let found = self.find(client, gvk, deadline).await?;
        if found.is_some() || gvk.group.is_empty() {
            return Ok(found);
        }
        // A 404 could be a proxy's; a complete list of groups without this one could not.
        let body = client.call(Call::get("/apis"), deadline).await?;
        let groups: ApiGroups = serde_json::from_slice(&body).map_err(|_| not_discovery())?;
        let Some(group) = groups.groups.into_iter().find(|group| *group.name == *gvk.group) else {
            return Ok(None);
        };
        for version in group.versions {
            let other = Gvk { version: version.version.into(), ..gvk.clone() };
            if let Some(found) = self.find(client, &other, deadline).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Waits until the cluster was asked by somebody and is known to serve a kind, which it did not. Asks nothing itself.
    pub(crate) async fn until_served(&self, gvk: &Gvk) {
        let mut asked = self.asked.subscribe();
        while self.version(gvk).known().is_none_or(|read| !read.kinds.contains_key(&*gvk.kind)) {
            if asked.changed().await.is_err() {
                return;
            }
        }
    }

    /// Forgets where a kind was served: nothing was there.
    pub fn forget(&self, gvk: &Gvk) {
        self.version(gvk).set(None);
    }

    fn version(&self, gvk: &Gvk) -> Arc<GroupVersion> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.len() > MOST {
            versions.clear();
        }
        Arc::clone(versions.entry((Arc::clone(&gvk.group), Arc::clone(&gvk.version))).or_default())
    }
}

impl GroupVersion {
    fn known(&self) -> Option<Read> {
        self.read.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, read: Option<Read>) {
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = read;
    }
}

fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

#[derive(Deserialize)]
struct ApiResourceList {
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
    namespaced: bool,
}

#[derive(Deserialize)]
struct ApiGroups {
    groups: Vec<ApiGroup>,
}

#[derive(Deserialize)]
struct ApiGroup {
    name: String,
    versions: Vec<ApiVersion>,
}

#[derive(Deserialize)]
struct ApiVersion {
    version: String,
}

fn not_discovery() -> Failure {
    Failure::Other {
        code: 200,
        message: "the cluster's list of kinds cannot be understood; is this an API server?".to_owned(),
    }
}

fn parse(base: &str, body: &[u8]) -> Result<HashMap<String, Resource>, Failure> {
    let list: ApiResourceList = serde_json::from_slice(body).map_err(|_| not_discovery())?;
    let base: Arc<str> = base.into();
    let resources = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
    Ok(resources
        .map(|ApiResource { name, kind, namespaced }| {
            (kind, Resource { base: Arc::clone(&base), plural: name.into(), namespaced })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hold_hostile_names() {
        let list = br#"{"resources":[{"name":"roles","kind":"Role","namespaced":true},{"name":"roles/x","kind":"X","namespaced":true}]}"#;
        let kinds = parse("/apis/rbac.authorization.k8s.io/v1", list).unwrap();
        assert_eq!(kinds.len(), 1);
        assert_eq!(
            kinds["Role"].object(Some("a"), "b?c#d e:f"),
            "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles/b%3Fc%23d%20e:f"
        );
    }
}
