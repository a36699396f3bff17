//! What becomes of releases: the Secrets in which helm keeps them, and the objects that they consist of.
//!
//! Both are watched, by their metadata only; what a release consists of is read once for each revision. A release is told
//! when all of that is known.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::manifest::{Gvk, ObjectRef};
use fleet_core::observe::{Observation, Seen};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::{self, Revision};
use super::parts::{self, HELM, Part, Parts, number};
use super::spec::kind;
use crate::applier::Watches;
use crate::applier::observe::{Select, observe_labelled};
use crate::client::spread;
use crate::clusters::{Clusters, Route};

/// Releases that carry a mark.
const RELEASES: Select = Select::Labelled { selector: "owner=helm,fleet-events.dev/work", manager: HELM };
/// Objects of charts.
const OBJECTS: Select = Select::Labelled { selector: "app.kubernetes.io/managed-by=Helm", manager: HELM };
/// How long reading a release may take, and how long it is until that is tried again.
const READING: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_secs(5);

pub(super) fn observe(
    clusters: &Arc<Clusters>,
    cluster: &ClusterId,
    watches: Watches,
) -> BoxStream<'static, Observation> {
    let observer = Observer::new(Arc::clone(clusters), cluster.clone(), watches);
    futures::stream::unfold(observer, |mut observer| async move {
        let told = Box::pin(observer.next()).await?;
        Some((told, observer))
    })
    .boxed()
}

/// A release's namespace and name.
type Name = (Arc<str>, Arc<str>);

/// A kind, in whichever version: group and kind.
type KindName = (Arc<str>, Arc<str>);

struct Observer {
    clusters: Arc<Clusters>,
    cluster: ClusterId,
    watches: Watches,
    feeds: SelectAll<BoxStream<'static, (Option<KindName>, Observation)>>,
    releases: BTreeMap<Name, Release>,
    /// While the releases are listed: the Secrets that were told.
    listing: Option<HashSet<Arc<str>>>,
    /// A list that is due, and what it is as of.
    due: Option<Option<Arc<str>>>,
    kinds: HashMap<KindName, Kind>,
    out: VecDeque<Observation>,
    /// Not before that is a release read that could not be.
    again: Option<Instant>,
}

#[derive(Default)]
struct Release {
    revisions: BTreeMap<u32, Revision>,
    /// What the revision with this UID consists of.
    parts: Option<(Arc<str>, Vec<Part>)>,
    /// The latest resourceVersion at which something of it changed or went.
    as_of: Option<u64>,
    /// What was told of it last.
    told: Option<Told>,
    /// Whether it may be otherwise than it was told.
    is_news: bool,
}

#[derive(PartialEq)]
struct Told {
    uid: Arc<str>,
    mark: Arc<str>,
    print: Arc<str>,
    status: String,
}

/// Namespace and name of an object.
type Place = (Option<Arc<str>>, Arc<str>);

/// The objects of one kind that charts have put there.
struct Kind {
    stop: CancellationToken,
    /// Whether all of them are known.
    known: bool,
    listing: HashSet<Place>,
    /// The resourceVersion of each, and which fields of it are helm's.
    objects: HashMap<Place, (Option<u64>, Arc<Value>)>,
}

impl Drop for Kind {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Observer {
    fn new(clusters: Arc<Clusters>, cluster: ClusterId, watches: Watches) -> Self {
        let secrets = Gvk { group: "".into(), version: "v1".into(), kind: "Secret".into() };
        let told = observe_labelled(&clusters, &cluster, &secrets, RELEASES, watches);
        let mut feeds = SelectAll::new();
        feeds.push(told.map(|observation| (None, observation)).boxed());
        Self {
            clusters,
            cluster,
            watches,
            feeds,
            releases: BTreeMap::new(),
            listing: None,
            due: None,
            kinds: HashMap::new(),
            out: VecDeque::new(),
            again: None,
        }
    }

    /// `None` once the cluster is not registered any more.
    async fn next(&mut self) -> Option<Observation> {
        loop {
            if let Some(told) = self.out.pop_front() {
                return Some(told);
            }
            if self.again.is_none_or(|again| again <= Instant::now()) {
                self.again = None;
                self.read().await;
            }
            self.tell();
            if !self.out.is_empty() {
                continue;
            }
            let again = self.again;
            let wait = async {
                match again {
                    Some(again) => tokio::time::sleep_until(again).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                told = self.feeds.next() => match told? {
                    (None, observation) => self.take_secret(observation),
                    (Some(kind), observation) => self.take_object(&kind, observation),
                },
                () = wait => {}
            }
        }
    }

    fn take_secret(&mut self, observation: Observation) {
        match observation {
            Observation::Listing => self.listing = Some(HashSet::new()),
            Observation::There(Seen { object, uid, version, going, whole, .. }) => {
                let gone = going && whole.is_none();
                let Some((name, number)) = release_of(&object) else { return };
                if let Some(listing) = &mut self.listing {
                    listing.insert(Arc::clone(&object.name));
                }
                let labels =
                    whole.as_ref().and_then(|whole| whole.get("metadata")?.get("labels")?.as_object());
                let version = version.unwrap_or_default();
                let revision = labels.and_then(|labels| Revision::of((&object.name, &uid, &version), labels));
                let release = self.releases.entry(name).or_default();
                release.changed_at(&version);
                match revision.filter(|_| !gone) {
                    Some(revision) => release.revisions.insert(number, revision),
                    None => release.revisions.remove(&number),
                };
            }
            Observation::Listed { version } => {
                let listed = self.listing.take().unwrap_or_default();
                for release in self.releases.values_mut() {
                    let before = release.revisions.len();
                    release.revisions.retain(|_, revision| listed.contains(&revision.secret));
                    if release.revisions.len() != before {
                        release.changed_at(version.as_deref().unwrap_or_default());
                    }
                }
                self.due = Some(version);
            }
            _ => {}
        }
    }

    fn take_object(&mut self, name: &KindName, observation: Observation) {
        let Some(kind) = self.kinds.get_mut(name) else { return };
        let mut changed: Vec<(Arc<str>, Option<u64>)> = Vec::new();
        match observation {
            Observation::Listing => {
                kind.known = false;
                kind.listing.clear();
            }
            Observation::There(Seen { object, version, going, whole, owned, .. }) => {
                let key = (object.namespace.clone(), Arc::clone(&object.name));
                let version = version.as_deref().and_then(number);
                if going && whole.is_none() {
                    kind.listing.remove(&key);
                    if kind.objects.remove(&key).is_some() {
                        changed.push((key.1, version));
                    }
                } else {
                    kind.listing.insert(key.clone());
                    let before = kind.objects.insert(key.clone(), (version, Arc::clone(&owned.0)));
                    if before.is_none_or(|(_, before)| before != owned.0) {
                        changed.push((key.1, version));
                    }
                }
            }
            Observation::Listed { version } => {
                kind.known = true;
                let listed = std::mem::take(&mut kind.listing);
                let version = version.as_deref().and_then(number);
                kind.objects.retain(|key, _| {
                    let is_there = listed.contains(key);
                    if !is_there {
                        changed.push((Arc::clone(&key.1), version));
                    }
                    is_there
                });
                // Whatever was not told because not all was known.
                self.releases.values_mut().for_each(|release| release.is_news = true);
            }
            _ => {}
        }
        for (object, version) in changed {
            let has = |part: &Part| part.object.name == object && kind_name(&part.object.gvk) == *name;
            for release in self.releases.values_mut() {
                if release.parts.as_ref().is_some_and(|(_, parts)| parts.iter().any(has)) {
                    release.as_of = release.as_of.max(version);
                    release.is_news = true;
                }
            }
        }
    }

    /// Reads what revisions consist of that are new, and watches the kinds of that.
    async fn read(&mut self) {
        if self.listing.is_some() {
            return;
        }
        let is_read = |release: &Release, latest: &Revision| {
            release.parts.as_ref().is_some_and(|(uid, _)| *uid == latest.uid)
        };
        let unread: Vec<(Name, Revision)> = self
            .releases
            .iter()
            .filter_map(|(name, release)| {
                let latest = release.latest()?;
                (!is_read(release, latest) && !latest.is_pending()).then(|| (name.clone(), latest.clone()))
            })
            .collect();
        if unread.is_empty() {
            return;
        }
        let Route::Kube(link) = self.clusters.route(&self.cluster) else {
            self.again = Some(Instant::now() + spread(AGAIN));
            return;
        };
        for (name, latest) in unread {
            let deadline = Instant::now() + READING;
            match live::content(&link.client, &name.0, &latest.secret, None, deadline).await {
                Ok(content) => {
                    let parts = parts::parts(&content.unwrap_or_default(), &name.0);
                    if let Some(release) = self.releases.get_mut(&name) {
                        release.parts = Some((latest.uid, parts));
                        release.is_news = true;
                    }
                }
                Err(error) => {
                    tracing::debug!(cluster = %self.cluster, %error, "release {}/{} cannot be read", name.0, name.1);
                    self.again = Some(Instant::now() + spread(AGAIN));
                }
            }
        }
        self.watch_kinds();
    }

    /// Watches the kinds that releases have objects of, and no others.
    fn watch_kinds(&mut self) {
        let parts = self.releases.values().filter_map(|release| release.parts.as_ref());
        let needed: BTreeMap<KindName, Gvk> = parts
            .flat_map(|(_, parts)| parts)
            .map(|part| (kind_name(&part.object.gvk), part.object.gvk.clone()))
            .collect();
        self.kinds.retain(|name, _| needed.contains_key(name));
        for (name, gvk) in needed {
            if self.kinds.contains_key(&name) {
                continue;
            }
            let told = observe_labelled(&self.clusters, &self.cluster, &gvk, OBJECTS, self.watches);
            let (stop, of) = (CancellationToken::new(), name.clone());
            let told = told.map(move |observation| (Some(of.clone()), observation));
            self.feeds.push(told.take_until(stop.clone().cancelled_owned()).boxed());
            let kind = Kind { stop, known: false, listing: HashSet::new(), objects: HashMap::new() };
            self.kinds.insert(name, kind);
        }
    }

    /// Tells what is new, of releases of which all is known.
    fn tell(&mut self) {
        if self.listing.is_some() {
            return;
        }
        if self.due.is_some() && !self.releases.values().all(|release| self.is_known(release)) {
            return;
        }
        let due = self.due.take();
        if due.is_some() {
            self.out.push_back(Observation::Listing);
        }
        let names: Vec<Name> = self.releases.keys().cloned().collect();
        for name in names {
            self.tell_of(&name, due.is_some());
        }
        if let Some(version) = due {
            self.out.push_back(Observation::Listed { version });
        }
    }

    fn tell_of(&mut self, name: &Name, anyway: bool) {
        let Some(release) = self.releases.get(name).filter(|release| anyway || release.is_news) else {
            return;
        };
        if !self.is_known(release) {
            return;
        }
        let Some(latest) = release.latest().cloned() else {
            if let Some(Told { uid, mark, .. }) = self.releases.remove(name).and_then(|release| release.told)
                && !anyway
            {
                self.out.push_back(Observation::Gone {
                    object: object_of(name),
                    mark: Some(mark),
                    uid: Some(uid),
                });
            }
            self.watch_kinds();
            return;
        };
        let (parts, version) = self.parts_of(release, &latest);
        let owned = parts.owned(&latest);
        let mark = latest.mark.clone().unwrap_or_default();
        let now = Told {
            uid: Arc::clone(&latest.uid),
            mark: Arc::clone(&mark),
            print: owned.print([]),
            status: latest.status.clone(),
        };
        let Some(release) = self.releases.get_mut(name) else { return };
        release.is_news = false;
        if release.told.as_ref() == Some(&now) && !anyway {
            return;
        }
        release.told = Some(now);
        self.out.push_back(Observation::There(Seen {
            object: object_of(name),
            mark,
            uid: Arc::clone(&latest.uid),
            version: version.map(|version| version.to_string().into()),
            going: false,
            written_by_us: true,
            owned,
            other: None,
            whole: Some(Arc::new(shown(name, &latest))),
        }));
    }

    fn is_known(&self, release: &Release) -> bool {
        match (release.latest(), &release.parts) {
            (None, _) => true,
            (Some(latest), _) if latest.is_pending() => true,
            (Some(latest), Some((uid, parts))) => {
                let is_known = |name: &KindName| self.kinds.get(name).is_some_and(|kind| kind.known);
                *uid == latest.uid && parts.iter().all(|part| is_known(&kind_name(&part.object.gvk)))
            }
            (Some(_), None) => false,
        }
    }

    fn parts_of(&self, release: &Release, latest: &Revision) -> (Parts, Option<u64>) {
        let mut all = Parts::default();
        let mut version = number(&latest.version).max(release.as_of);
        let of_latest = release.parts.as_ref().filter(|(uid, _)| *uid == latest.uid);
        for part in of_latest.into_iter().flat_map(|(_, parts)| parts) {
            let kind = self.kinds.get(&kind_name(&part.object.gvk));
            let (namespace, name) = (Some(Arc::clone(&part.namespace)), Arc::clone(&part.object.name));
            let found = kind.and_then(|kind| {
                kind.objects.get(&(namespace, Arc::clone(&name))).or_else(|| kind.objects.get(&(None, name)))
            });
            version = version.max(found.and_then(|(version, _)| *version));
            all.add(part, found.map(|(_, fields)| Value::clone(fields)));
        }
        (all, version)
    }
}

impl Release {
    /// The latest revision, if it is one of something that is there.
    fn latest(&self) -> Option<&Revision> {
        self.revisions.values().next_back().filter(|latest| !latest.is_gone())
    }

    fn changed_at(&mut self, version: &str) {
        self.as_of = self.as_of.max(number(version));
        self.is_news = true;
    }
}

fn kind_name(gvk: &Gvk) -> KindName {
    (Arc::clone(&gvk.group), Arc::clone(&gvk.kind))
}

fn object_of((namespace, name): &Name) -> ObjectRef {
    ObjectRef { gvk: kind(), namespace: Some(Arc::clone(namespace)), name: Arc::clone(name) }
}

/// Whose revision a Secret is, by its name: `sh.helm.release.v1.NAME.vNUMBER`.
fn release_of(secret: &ObjectRef) -> Option<(Name, u32)> {
    let (name, number) = secret.name.strip_prefix("sh.helm.release.v1.")?.rsplit_once(".v")?;
    Some(((secret.namespace.clone()?, name.into()), number.parse().ok()?))
}

/// A release as health checks see it.
fn shown((namespace, name): &Name, latest: &Revision) -> Map<String, Value> {
    let (condition, reason) = match latest.status.as_str() {
        "deployed" => ("Ready", "Deployed"),
        "failed" => ("Stalled", "Failed"),
        _ => ("Reconciling", "UnderWay"),
    };
    let message = format!("revision {} is {}", latest.number, latest.status);
    let gvk = kind();
    let object = json!({
        "apiVersion": gvk.api_version(), "kind": gvk.kind,
        "metadata": {"namespace": namespace, "name": name},
        "status": {
            "revision": latest.number, "status": latest.status,
            "conditions": [{"type": condition, "status": "True", "reason": reason, "message": message}],
        },
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
