//! Opening a store: the namespace, the permissions, and everything that is stored.

use std::sync::Arc;

use fleet_core::work::AppliedWork;
use http::Method;
use kube::api::{Api, ApiResource, DynamicObject};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::KubeStore;
use super::cache::Cache;
use super::ledger::Ledger;
use super::letters::Letters;
use super::objects::{NOT_INSTALLED, Objects};
use super::record::{PlannedWork, Rooms};
use super::status::mirror;
use super::watching::follow;
use crate::api::{self, GROUP, VERSION};
use crate::client::{ClusterClient, Failure};

/// How long opening may take.
const OPEN: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The kinds are not known.
    #[error("{NOT_INSTALLED}")]
    NotInstalled,
    /// Something is not allowed.
    #[error("{message}; grant {grant}")]
    Forbidden {
        /// The API server's words.
        message: String,
        /// What is missing.
        grant: &'static str,
    },
    /// The API server cannot be asked now; trying again may help.
    #[error("the API server cannot be asked for Works now: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl OpenError {
    fn of(failure: Failure, grant: &'static str) -> Self {
        match failure {
            Failure::NoSuchPath => Self::NotInstalled,
            Failure::Forbidden { message } => Self::Forbidden { message, grant },
            failure => Self::Unavailable { reason: failure.to_string() },
        }
    }
}

impl KubeStore {
    /// Opens the store of the operator in a namespace, which is made if it is not there. Returns when everything that is
    /// stored was read. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the kinds are not installed, something is not allowed, or the API server does not answer within a minute.
    ///
    /// Cancel safe.
    pub async fn open(client: ClusterClient, namespace: &str) -> Result<Self, OpenError> {
        Self::open_rooms(client, Rooms { works: namespace.into(), together: false }).await
    }

    /// As [`open`](Self::open), with everything in that one namespace: for an agent, whose cluster need not have a namespace
    /// of the name that its Cluster is in at the hub.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// Cancel safe.
    pub async fn open_in_one(client: ClusterClient, namespace: &str) -> Result<Self, OpenError> {
        Self::open_rooms(client, Rooms { works: namespace.into(), together: true }).await
    }

    async fn open_rooms(client: ClusterClient, rooms: Rooms) -> Result<Self, OpenError> {
        let namespace = &*rooms.works;
        let deadline = Instant::now() + OPEN;
        let objects = Objects::new(client);
        make(&objects, namespace, deadline).await?;
        let base = format!("/apis/{GROUP}/{VERSION}");
        for (path, grant) in [
            (format!("{base}/namespaces/{namespace}/works?limit=1"), "get, list and watch of works"),
            match rooms.together {
                true => (
                    format!("{base}/namespaces/{namespace}/appliedworks?limit=1"),
                    "get, list and watch of appliedworks",
                ),
                false => {
                    let everywhere = "get, list and watch of appliedworks in all namespaces";
                    (format!("{base}/appliedworks?limit=1"), everywhere)
                }
            },
        ] {
            // A watch would only try again.
            let answer = loop {
                match objects.get::<IgnoredAny>(&path, deadline).await {
                    // As for a moment after the definitions were installed.
                    Err(Failure::Throttled { retry_after, .. }) => sleep(retry_after).await,
                    answer => break answer,
                }
            };
            answer.map_err(|failure| OpenError::of(failure, grant))?;
        }
        let watches = objects
            .client()
            .for_watches()
            .map_err(|error| OpenError::Unavailable { reason: error.to_string() })?;
        let cache = Arc::new(Cache::default());
        let works: Api<DynamicObject> =
            Api::namespaced_with(watches.clone(), namespace, &ApiResource::erase::<api::Work>(&()));
        let resource = ApiResource::erase::<api::AppliedWork>(&());
        let applied: Api<DynamicObject> = match rooms.together {
            true => Api::namespaced_with(watches, namespace, &resource),
            false => Api::all_with(watches, &resource),
        };
        let (works_loaded, mut works_are) = watch::channel(false);
        let (applied_loaded, mut applied_are) = watch::channel(false);
        // AppliedWorks first: a status is summed up from them.
        let tasks = [
            spawn(follow::<AppliedWork>(
                applied,
                "AppliedWork",
                rooms.clone(),
                Arc::clone(&cache),
                applied_loaded,
            )),
            spawn(follow::<PlannedWork>(works, "Work", rooms.clone(), Arc::clone(&cache), works_loaded)),
            spawn(mirror(Arc::clone(&cache), objects.clone(), rooms.clone())),
        ];
        for loaded in [&mut works_are, &mut applied_are] {
            match timeout_at(deadline, loaded.wait_for(|loaded| *loaded)).await {
                Ok(Ok(_)) => {}
                _ => {
                    let reason = "what is stored could not be read within a minute".to_owned();
                    return Err(OpenError::Unavailable { reason });
                }
            }
        }
        Ok(Self {
            ledger: Ledger::new(objects.clone(), namespace),
            letters: Letters::new(objects.clone(), namespace),
            cache,
            objects,
            rooms,
            _tasks: tasks,
        })
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Makes the namespace if it is certain that it is not there.
async fn make(objects: &Objects, namespace: &str, deadline: Instant) -> Result<(), OpenError> {
    let grant = "create of namespaces, or create the namespace yourself";
    match objects.get::<IgnoredAny>(&format!("/api/v1/namespaces/{namespace}"), deadline).await {
        // Who may not look may still write in it.
        Ok(Some(_)) | Err(Failure::Forbidden { .. }) => return Ok(()),
        Ok(None) => {}
        Err(failure) => return Err(OpenError::of(failure, grant)),
    }
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    match objects.send(Method::POST, "/api/v1/namespaces", &object, deadline).await {
        Ok(()) | Err(Failure::AlreadyExists) => Ok(()),
        Err(failure) => Err(OpenError::of(failure, grant)),
    }
}
