//! The watches that keep the cache true: one for each kind. They heal by themselves; meanwhile what is known holds.

use std::sync::Arc;

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::watch;

use super::cache::Cache;
use super::record::{Record, Rooms, Version};
use crate::agent::AGENT_LABEL;
use crate::catalog::WATCH;
use crate::client::{Patience, chain};

/// How many objects are listed at a time. Works may hold large events.
const PAGE: u32 = 100;

/// Follows all objects of a kind until it is dropped. `loaded` becomes true when all were read once.
pub(super) async fn follow<R: Record>(
    api: Api<DynamicObject>,
    kind: &'static str,
    rooms: Rooms,
    cache: Arc<Cache>,
    loaded: watch::Sender<bool>,
) {
    let config = watcher::Config::default().timeout(WATCH.as_secs() as u32).page_size(PAGE);
    // What agents show of theirs is no record of ours.
    let config = config.labels(&format!("!{AGENT_LABEL}"));
    let mut events = watcher(api, config).backoff(Patience::default()).boxed();
    let mut broken = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if std::mem::take(&mut broken) && !matches!(event, Event::Init) {
                    tracing::info!("{kind}s are watched again");
                }
                take::<R>(&cache, kind, &rooms, event, &loaded);
            }
            Err(error) => {
                // That the server forgot the place where the watch stood is part of every watch's life.
                let is_news = !broken && !is_expired(&error);
                broken |= is_news;
                if is_news {
                    tracing::warn!(
                        reason = chain(&error),
                        "{kind}s cannot be watched now; what others write shows when they can"
                    );
                }
            }
        }
    }
}

fn is_expired(error: &watcher::Error) -> bool {
    use watcher::Error::{WatchError, WatchFailed, WatchStartFailed};
    match error {
        WatchError(status) => status.code == 410,
        WatchStartFailed(kube::Error::Api(status)) | WatchFailed(kube::Error::Api(status)) => {
            status.code == 410
        }
        _ => false,
    }
}

fn take<R: Record>(
    cache: &Cache,
    kind: &str,
    rooms: &Rooms,
    event: Event<DynamicObject>,
    loaded: &watch::Sender<bool>,
) {
    match event {
        Event::Init => cache.lock::<R>().list_begins(),
        Event::InitApply(object) | Event::Apply(object) => put::<R>(cache, kind, rooms, object),
        Event::InitDone => {
            let effects = cache.lock::<R>().list_ends();
            for (place, effect) in effects {
                cache.follow(&place, effect);
            }
            loaded.send_replace(true);
        }
        Event::Delete(object) => {
            let Some((_, version)) = identity(&object) else { return };
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
            let spec = object.data.get("spec").unwrap_or(&Value::Null);
            let Some(place) = R::place_of(rooms, namespace, name, spec) else {
                return;
            };
            let effect = cache.lock::<R>().gone(&place, &version.uid);
            cache.follow(&place, effect);
        }
    }
}

/// Takes an object as a watch or a request gave it.
fn put<R: Record>(cache: &Cache, kind: &str, rooms: &Rooms, mut object: DynamicObject) {
    let Some((name, version)) = identity(&object) else { return };
    let namespace = object.metadata.namespace.take().unwrap_or_default();
    let spec = object.data.get_mut("spec").map(Value::take).unwrap_or_default();
    let Some(place) = R::place_of(rooms, &namespace, &name, &spec) else {
        tracing::warn!("{kind} {namespace}/{name} is not the operator's and is ignored: delete it");
        return;
    };
    if place.cluster.is_none() {
        let status = object.data.get_mut("status").map(Value::take).unwrap_or_default();
        if cache.statuses.observe(&place.work, serde_json::from_value(status).ok()) {
            // It may not be the one that we would write.
            cache.statuses.mark(&place.work);
        }
    }
    let mut table = cache.lock::<R>();
    if !table.is_news(&place, &version) {
        return;
    }
    match R::read(&name, spec) {
        Ok(record) => {
            let effect = table.put(&place, Arc::new(record), version);
            drop(table);
            cache.follow(&place, effect);
        }
        Err(why) => {
            drop(table);
            tracing::warn!("{kind} {namespace}/{name} cannot be read: {why}; it was edited: delete it");
        }
    }
}

fn identity(object: &DynamicObject) -> Option<(String, Version)> {
    let version = Version {
        uid: object.metadata.uid.as_deref()?.into(),
        generation: object.metadata.generation.unwrap_or_default(),
        resource: object.metadata.resource_version.as_deref()?.parse().ok()?,
    };
    Some((object.metadata.name.clone()?, version))
}
