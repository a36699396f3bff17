//! Managed clusters: what an API server does with objects, as far as Fleet depends on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::world::World;

/// A request that got no answer may take effect for so long after its caller's deadline.
pub(crate) const SETTLE: Duration = Duration::from_secs(40);

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) uid: Arc<str>,
    /// The hash in the mark; what others made has none.
    pub(crate) mark: Option<String>,
    pub(crate) content: String,
    /// It has a deletionTimestamp.
    pub(crate) is_going: bool,
}

/// What is asked of an API server.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Get,
    /// POST.
    Create {
        mark: String,
        content: String,
    },
    /// Server-side apply that names a UID.
    Update {
        uid: Arc<str>,
        mark: String,
        content: String,
    },
    /// DELETE with a UID as precondition.
    Delete {
        uid: Arc<str>,
    },
}

/// Why a request failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    NotFound,
    AlreadyExists,
    UidMismatch,
    Throttled,
    /// It did not get there.
    Unreachable,
    /// There was no answer by the deadline.
    NoAnswer,
}

type Answer = Result<Object, Failure>;

#[derive(Default)]
struct State {
    objects: BTreeMap<(ClusterId, String), Object>,
    /// What others made, as they made it.
    foreign: BTreeMap<(ClusterId, String), Object>,
    /// Refuse connections.
    down: Vec<ClusterId>,
    /// Accept requests and never answer.
    hanging: Vec<ClusterId>,
    uids: u64,
}

/// All clusters' contents.
pub(crate) struct Clusters {
    world: Arc<World>,
    state: Mutex<State>,
}

impl Clusters {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), state: Mutex::default() })
    }

    pub(crate) fn objects(&self) -> BTreeMap<(ClusterId, String), Object> {
        self.state.lock().objects.clone()
    }

    /// What others made, and have not taken away.
    pub(crate) fn foreign(&self) -> BTreeMap<(ClusterId, String), Object> {
        self.state.lock().foreign.clone()
    }

    pub(crate) fn set_down(&self, cluster: &ClusterId, down: bool) {
        self.world.trace(|| format!("{cluster} is {}", if down { "down" } else { "up" }));
        let mut state = self.state.lock();
        state.down.retain(|it| it != cluster);
        state.hanging.retain(|it| it != cluster);
        if down {
            state.down.push(cluster.clone());
        }
    }

    pub(crate) fn hang(&self, cluster: &ClusterId) {
        self.world.trace(|| format!("{cluster} hangs"));
        self.state.lock().hanging.push(cluster.clone());
    }

    /// Somebody else makes an object, if the name is free, or takes theirs away.
    pub(crate) fn toggle_foreign(&self, cluster: &ClusterId, name: &str) {
        let mut state = self.state.lock();
        let place = (cluster.clone(), name.to_owned());
        if state.foreign.remove(&place).is_some() {
            self.world.trace(|| format!("somebody takes {name} out of {cluster}"));
            state.objects.remove(&place);
        } else if !state.objects.contains_key(&place) {
            self.world.trace(|| format!("somebody puts {name} into {cluster}"));
            let object = Object {
                uid: state.next_uid(),
                mark: None,
                content: "somebody else's".to_owned(),
                is_going: false,
            };
            state.foreign.insert(place.clone(), object.clone());
            state.objects.insert(place, object);
        }
    }

    /// Sends a request: it may fail before it has an effect, have one without an answer, or have one long after.
    pub(crate) async fn call(
        self: &Arc<Self>,
        cluster: &ClusterId,
        name: &str,
        request: Request,
        deadline: Instant,
    ) -> Answer {
        let world = &self.world;
        world.latency().await;
        let (is_down, hangs) = {
            let state = self.state.lock();
            (state.down.contains(cluster), state.hanging.contains(cluster))
        };
        if is_down || world.fault(world.faults.clusters, 20) {
            return Err(Failure::Unreachable);
        }
        if world.fault(world.faults.clusters, 20) {
            return Err(Failure::Throttled);
        }
        let is_lost = hangs || world.fault(world.faults.late, 40);
        let (answer, answered) = oneshot::channel();
        if is_lost {
            // Its effect comes at some time until the server itself gives up, or never.
            let longest = deadline.saturating_duration_since(Instant::now()) + SETTLE;
            let longest = u64::try_from(longest.as_millis()).unwrap();
            if world.dice.chance(600) {
                let after = world.dice.millis(0..longest);
                let (this, cluster, name) = (Arc::clone(self), cluster.clone(), name.to_owned());
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    let _ = this.take_effect(&cluster, &name, &request, "late");
                });
            }
            // Kept, so that nothing is answered.
            let _answer = answer;
            return match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(answer)) => answer,
                _ => Err(Failure::NoAnswer),
            };
        }
        let answer = self.take_effect(cluster, name, &request, "");
        world.latency().await;
        if Instant::now() > deadline {
            return Err(Failure::NoAnswer);
        }
        answer
    }

    fn take_effect(
        self: &Arc<Self>,
        cluster: &ClusterId,
        name: &str,
        request: &Request,
        how: &str,
    ) -> Answer {
        let mut state = self.state.lock();
        let place = (cluster.clone(), name.to_owned());
        let there = state.objects.get(&place).cloned();
        let answer = match (request, there) {
            (Request::Get, there) => there.ok_or(Failure::NotFound),
            (Request::Create { .. }, Some(_)) => Err(Failure::AlreadyExists),
            (Request::Create { mark, content }, None) => {
                let uid = state.next_uid();
                let object =
                    Object { uid, mark: Some(mark.clone()), content: content.clone(), is_going: false };
                state.objects.insert(place, object.clone());
                Ok(object)
            }
            (Request::Update { uid, mark, content }, Some(there)) if there.uid == *uid => {
                let object = Object { mark: Some(mark.clone()), content: content.clone(), ..there };
                state.objects.insert(place, object.clone());
                Ok(object)
            }
            (Request::Delete { uid }, Some(there)) if there.uid == *uid => {
                // Something may have to be finished first.
                let takes = self.world.dice.chance(200).then(|| self.world.dice.millis(100..10_000));
                match takes {
                    Some(takes) if !there.is_going => {
                        let object = Object { is_going: true, ..there };
                        state.objects.insert(place.clone(), object.clone());
                        let this = Arc::clone(self);
                        tokio::spawn(async move {
                            tokio::time::sleep(takes).await;
                            this.world.trace(|| format!("{} in {} is gone", place.1, place.0));
                            this.state.lock().objects.remove(&place);
                        });
                        Ok(object)
                    }
                    _ if there.is_going => Ok(there),
                    _ => {
                        state.objects.remove(&place);
                        Ok(there)
                    }
                }
            }
            (Request::Delete { .. }, None) => Err(Failure::NotFound),
            (Request::Update { .. } | Request::Delete { .. }, _) => Err(Failure::UidMismatch),
        };
        drop(state);
        self.world.trace(|| {
            let came = answer
                .as_ref()
                .map_or_else(|failure| format!("{failure:?}"), |it| format!("{} {}", it.uid, it.content));
            format!("{cluster} {name} {request:?} {how}: {came}")
        });
        answer
    }
}

impl State {
    fn next_uid(&mut self) -> Arc<str> {
        self.uids += 1;
        format!("uid{}", self.uids).into()
    }
}
