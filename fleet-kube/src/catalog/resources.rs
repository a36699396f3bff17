//! Watching the objects that templates see: exactly those that are referred to, each by a watch of its own that all who refer
//! to it share, for as long as anybody does.
//!
//! One task owns the watches and what they told. It is told what is wanted as a whole, whenever that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::resource::{Others, Resource, ResourceId, ResourceState, Resources};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use futures::{FutureExt, TryStreamExt};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::core::discovery::Scope;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::index::{Trouble, chain, trouble};
use super::scope::WATCH;
use crate::client::Patience;

/// So many objects are watched at most; each takes a connection.
pub(super) const MOST: usize = 500;
/// How many events are taken before what is known is published, so that a flood does not put that off for ever.
const BATCH: usize = 1024;
/// How long the server may take to say which kinds it has.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is asked again for a kind that it does not have.
const AGAIN: Duration = Duration::from_secs(2);

/// What is wanted, by who wants it.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// By the engine.
    pub(super) engine: BTreeSet<ResourceId>,
    /// For the agents whose hub this is.
    pub(super) agents: BTreeSet<ResourceId>,
}

/// Group and version, and a kind.
type Kind = (Arc<str>, Arc<str>);

/// An object, as the API server names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    kind: Kind,
    namespace: Option<Arc<str>>,
    name: Arc<str>,
}

/// What is known of a kind.
enum OfKind {
    /// The server is asked.
    Asked,
    Served {
        resource: ApiResource,
        namespaced: bool,
    },
    /// It cannot be had, and why.
    Unknown(Arc<str>),
}

/// One watch.
struct Watch {
    end: CancellationToken,
    /// While it is read (again): whether it was among what is there.
    listed: bool,
    /// What is known of the object; nothing before anything was told.
    state: Option<ResourceState>,
}

type Told = (Target, Result<Event<DynamicObject>, watcher::Error>);
type Answer = (Kind, Result<(ApiResource, bool), Arc<str>>);

pub(super) struct Following {
    client: Client,
    wanted: watch::Receiver<Wanted>,
    publish: watch::Sender<Arc<Resources>>,
    kinds: BTreeMap<Kind, OfKind>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    watches: BTreeMap<Target, Watch>,
    told: SelectAll<BoxStream<'static, Told>>,
}

impl Following {
    pub(super) fn new(
        client: Client,
        wanted: watch::Receiver<Wanted>,
        publish: watch::Sender<Arc<Resources>>,
    ) -> Self {
        Self {
            client,
            wanted,
            publish,
            kinds: BTreeMap::new(),
            asked: FuturesUnordered::new(),
            watches: BTreeMap::new(),
            told: SelectAll::new(),
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.wanted.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.wanted.changed() => if changed.is_err() { return },
                Some(answer) = self.asked.next() => self.hear(answer),
                Some(told) = self.told.next() => self.take(told),
            }
            self.follow();
        }
    }

    /// All that is wanted, in an order that does not change with who wants it.
    fn all(&mut self) -> BTreeSet<ResourceId> {
        let wanted = self.wanted.borrow_and_update();
        wanted.engine.union(&wanted.agents).cloned().collect()
    }

    /// Opens and closes watches as it is wanted, and publishes what is known.
    fn follow(&mut self) {
        let all = self.all();
        let kinds: BTreeSet<Kind> = all.iter().map(kind).collect();
        self.kinds.retain(|kind, _| kinds.contains(kind));
        for kind in kinds {
            if !self.kinds.contains_key(&kind) {
                let state = match in_core(&kind) {
                    Some(resource) => OfKind::Served { resource, namespaced: true },
                    None => {
                        self.asked.push(ask(self.client.clone(), kind.clone(), Duration::ZERO).boxed());
                        OfKind::Asked
                    }
                };
                self.kinds.insert(kind, state);
            }
        }
        let targets: BTreeSet<Target> = all.iter().filter_map(|id| self.target(id)).collect();
        self.watches.retain(|target, watch| {
            let stays = targets.contains(target);
            if !stays {
                watch.end.cancel();
            }
            stays
        });
        for target in targets {
            if self.watches.len() < MOST && !self.watches.contains_key(&target) {
                self.open(target);
            }
        }
        let known = all.into_iter().filter_map(|id| {
            let state = match self.kinds.get(&kind(&id)) {
                Some(OfKind::Unknown(why)) => Some(ResourceState::Unavailable(Arc::clone(why))),
                Some(OfKind::Served { .. }) => {
                    let target = self.target(&id)?;
                    match self.watches.get(&target) {
                        Some(watch) => watch.state.clone(),
                        None => Some(ResourceState::Unavailable(
                            format!("more than {MOST} objects are referred to; refer to fewer, for example by keeping \
                                     what many need in one object").into(),
                        )),
                    }
                }
                Some(OfKind::Asked) | None => None,
            };
            Some((id, state?))
        });
        let now = Resources { known: known.collect(), others: Others::Unread };
        self.publish.send_if_modified(|published| {
            let is_news = **published != now;
            if is_news {
                *published = Arc::new(now);
            }
            is_news
        });
    }

    fn target(&self, id: &ResourceId) -> Option<Target> {
        let kind = kind(id);
        let Some(OfKind::Served { namespaced, .. }) = self.kinds.get(&kind) else { return None };
        let namespace = namespaced.then(|| Arc::clone(&id.namespace));
        Some(Target { kind, namespace, name: Arc::clone(&id.name) })
    }

    fn open(&mut self, target: Target) {
        let Some(OfKind::Served { resource, .. }) = self.kinds.get(&target.kind) else { return };
        let api: Api<DynamicObject> = match &target.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        let config =
            watcher::Config::default().timeout(WATCH.as_secs() as u32).fields(&selector(&target.name));
        let end = CancellationToken::new();
        let told = target.clone();
        let events = watcher(api, config).backoff(Patience::default()).into_stream();
        let events = events.map(move |event| (told.clone(), event));
        self.told.push(events.take_until(end.clone().cancelled_owned()).boxed());
        self.watches.insert(target, Watch { end, listed: false, state: None });
    }

    /// Takes an event and all that are there already.
    fn take(&mut self, told: Told) {
        let mut next = Some(told);
        for _ in 0..BATCH {
            let Some((target, event)) = next.take() else { return };
            if let Some(watch) = self.watches.get_mut(&target) {
                watch.take(&target, self.kinds.get(&target.kind), event);
            }
            next = self.told.next().now_or_never().flatten();
        }
        if let Some((target, event)) = next
            && let Some(watch) = self.watches.get_mut(&target)
        {
            watch.take(&target, self.kinds.get(&target.kind), event);
        }
    }

    fn hear(&mut self, (kind, answer): Answer) {
        let Some(state) = self.kinds.get_mut(&kind) else { return };
        *state = match answer {
            Ok((resource, namespaced)) => OfKind::Served { resource, namespaced },
            Err(why) => {
                self.asked.push(ask(self.client.clone(), kind, AGAIN).boxed());
                OfKind::Unknown(why)
            }
        };
    }
}

impl Watch {
    fn take(
        &mut self,
        target: &Target,
        kind: Option<&OfKind>,
        event: Result<Event<DynamicObject>, watcher::Error>,
    ) {
        match event {
            Ok(Event::Init) => self.listed = false,
            Ok(Event::InitApply(object)) => {
                self.listed = true;
                self.find(target, object);
            }
            Ok(Event::InitDone) if !self.listed => self.state = Some(ResourceState::Absent),
            Ok(Event::InitDone) => {}
            Ok(Event::Apply(object)) => self.find(target, object),
            Ok(Event::Delete(_)) => self.state = Some(ResourceState::Absent),
            // What was read last holds.
            Err(_) if matches!(self.state, Some(ResourceState::Found(_) | ResourceState::Absent)) => {}
            Err(error) => {
                if let Some(trouble) = trouble(&error) {
                    self.state = Some(ResourceState::Unavailable(why(target, kind, trouble).into()));
                }
            }
        }
    }

    fn find(&mut self, target: &Target, mut object: DynamicObject) {
        // Items of a list of Kubernetes' own kinds do not say what they are.
        object.types = Some(kube::api::TypeMeta {
            api_version: target.kind.0.to_string(),
            kind: target.kind.1.to_string(),
        });
        match serde_json::to_value(object) {
            Ok(value) => self.state = Some(ResourceState::Found(Arc::new(Resource::new(value)))),
            Err(error) => tracing::error!(object = ?target, %error, "an object of the API is no JSON"),
        }
    }
}

fn kind(id: &ResourceId) -> Kind {
    (Arc::clone(&id.api_version), Arc::clone(&id.kind))
}

/// What needs no asking.
fn in_core((api_version, kind): &Kind) -> Option<ApiResource> {
    let plural = match (&**api_version, &**kind) {
        ("v1", "ConfigMap") => "configmaps",
        ("v1", "Secret") => "secrets",
        _ => return None,
    };
    Some(ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: kind.to_string(),
        plural: plural.to_owned(),
    })
}

/// Asks where a kind is served, after a pause.
async fn ask(client: Client, kind: Kind, pause: Duration) -> Answer {
    sleep(pause).await;
    let (api_version, name) = &kind;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, name);
    let answer = match timeout(DEADLINE, kube::discovery::pinned_kind(&client, &gvk)).await {
        Ok(Ok((resource, capabilities))) => Ok((resource, capabilities.scope == Scope::Namespaced)),
        Ok(Err(kube::Error::Discovery(_))) => Err(unknown(&kind)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(unknown(&kind)),
        Ok(Err(error)) => {
            Err(format!("the management cluster does not say which kinds it has: {}", chain(&error)).into())
        }
        Err(_) => Err("the management cluster does not say in time which kinds it has".into()),
    };
    (kind, answer)
}

fn unknown((api_version, kind): &Kind) -> Arc<str> {
    format!(
        "the management cluster has no kind {kind} of {api_version}; install its CustomResourceDefinition, or correct \
         apiVersion and kind"
    )
    .into()
}

/// Why an object cannot be read.
fn why(target: &Target, kind: Option<&OfKind>, trouble: Trouble) -> String {
    match (trouble, kind) {
        (Trouble::Forbidden(reason), Some(OfKind::Served { resource, .. })) => {
            let group = if resource.group.is_empty() { "the core group" } else { &resource.group };
            let within = match &target.namespace {
                Some(namespace) => format!(" in namespace {namespace}"),
                None => String::new(),
            };
            format!("{reason}; grant the operator list and watch of {} ({group}){within}", resource.plural)
        }
        (Trouble::NotInstalled, _) => unknown(&target.kind).to_string(),
        (Trouble::Forbidden(reason) | Trouble::Unreachable(reason), _) => reason,
    }
}

/// Selects the one object of this name.
fn selector(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for char in name.chars() {
        if matches!(char, '\\' | ',' | '=') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    format!("metadata.name={escaped}")
}

/// Looks objects up once; what is not told in time is said to be so.
pub async fn look_up(client: Client, ids: BTreeSet<ResourceId>, patience: Duration) -> Resources {
    let (tell, wanted) = watch::channel(Wanted { engine: ids.clone(), ..Wanted::default() });
    let (publish, mut published) = watch::channel(Arc::default());
    let stop = CancellationToken::new();
    let following = tokio::spawn(Following::new(client, wanted, publish).run(stop.clone()));
    let all = |now: &Arc<Resources>| ids.iter().all(|id| now.known.contains_key(id));
    let _ = timeout(patience, published.wait_for(all)).await;
    let mut found = Resources::clone(&published.borrow());
    stop.cancel();
    // A task that panicked has ended too.
    let _ = following.await;
    drop(tell);
    for id in ids {
        let late = || ResourceState::Unavailable("the management cluster did not answer in time".into());
        found.known.entry(id).or_insert_with(late);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_selects_nothing_else() {
        assert_eq!(selector("a"), "metadata.name=a");
        assert_eq!(selector("a,metadata.name=b\\"), "metadata.name=a\\,metadata.name\\=b\\\\");
    }
}
