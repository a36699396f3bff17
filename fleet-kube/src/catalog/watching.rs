//! The task that owns the watches, and publishes definitions when all of them are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use futures::FutureExt;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::CatalogHealth;
use super::finalizers::Finalizers;
use super::index::{Index, Trouble};
use super::scope::Scope;
use super::status::Reports;
use crate::definitions::{Definitions, Family, Kind, ObjectId};

/// How many events are taken before definitions are made anew, so that a flood does not put that off for ever.
const BATCH: usize = 1024;
/// How often an API server that could not be reached is asked whether it is back, and how long it has for an answer.
const PROBE: Duration = Duration::from_secs(2);

type Told = (Scope, Result<Event<DynamicObject>, watcher::Error>);

pub(super) struct Watching {
    client: Client,
    family: Family,
    publish: watch::Sender<Option<Arc<Definitions>>>,
    tell: watch::Sender<CatalogHealth>,
    reports: Arc<Reports>,
    finalizers: Arc<Finalizers>,
    management: Option<ClusterId>,
    index: Index,
    watches: SelectAll<BoxStream<'static, Told>>,
    /// Ends the watch of a scope.
    ends: BTreeMap<Scope, CancellationToken>,
}

impl Watching {
    pub(super) fn new(
        client: Client,
        family: Family,
        publish: watch::Sender<Option<Arc<Definitions>>>,
        tell: watch::Sender<CatalogHealth>,
        reports: Arc<Reports>,
        finalizers: Arc<Finalizers>,
        management: Option<ClusterId>,
    ) -> Self {
        let (index, watches, ends) = (Index::new(family), SelectAll::new(), BTreeMap::new());
        Self { client, family, publish, tell, reports, finalizers, management, index, watches, ends }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        Scope::ours().into_iter().for_each(|scope| self.open(scope));
        let mut probe = interval(PROBE);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(told) = self.watches.next() => self.take(told),
                _ = probe.tick(), if self.troubled() => self.probe().await,
            }
        }
    }

    /// Takes an event and all that are there already.
    fn take(&mut self, told: Told) {
        let mut definitions = false;
        let mut trouble = false;
        let mut observed = Vec::new();
        let mut next = Some(told);
        let mut taken = 0;
        while let Some((scope, event)) = next.take() {
            let effect = self.index.take(&scope, event);
            definitions |= effect.definitions;
            trouble |= effect.trouble;
            observed.extend(effect.observed);
            taken += 1;
            if taken < BATCH {
                next = self.watches.next().now_or_never().flatten();
            }
        }
        if definitions {
            self.rebuild();
        }
        for (id, now) in &observed {
            self.finalizers.observe(id, now.as_ref().map(|now| &now.held));
        }
        for id in self.publish.borrow().iter().flat_map(|read| &read.refused) {
            self.finalizers.withdrawn(&ObjectId::namespaced(Kind::Cluster, id.namespace(), id.name()));
        }
        // Only now: a new generation is not called ready before it was judged.
        self.reports.observe(observed);
        if trouble || definitions {
            self.tell();
        }
    }

    fn rebuild(&mut self) {
        if !Scope::ours().iter().all(|scope| self.index.loaded(scope)) {
            return;
        }
        let closed = self.index.closed();
        let previous = self.publish.borrow().clone();
        let (parsed, management) = (self.index.parsed(), self.management.as_ref());
        let read = Definitions::assemble(parsed, Vec::new(), &closed, previous.as_deref(), management);
        let wanted: BTreeSet<Scope> =
            Scope::ours().into_iter().chain(read.references.iter().map(Scope::of)).collect();
        let open = self.index.scopes();
        wanted.difference(&open).for_each(|scope| self.open(scope.clone()));
        open.difference(&wanted).for_each(|scope| self.close(scope));
        let settled = |scope: &Scope| {
            let key = scope.namespace.clone().map(|namespace| (scope.kind, namespace));
            self.index.loaded(scope) || key.is_some_and(|key| closed.contains_key(&key))
        };
        if !wanted.iter().all(settled) {
            // What is referred to was not looked at yet: it is not missing.
            return;
        }
        for problem in &read.problems {
            if !previous.as_ref().is_some_and(|previous| previous.problems.contains(problem)) {
                tracing::warn!("{problem}");
            }
        }
        for solved in previous.iter().flat_map(|previous| &previous.problems) {
            if !read.problems.contains(solved) {
                tracing::info!("solved: {solved}");
            }
        }
        self.reports.judge(&read);
        self.publish.send_if_modified(|published| {
            let changed = !published.as_ref().is_some_and(|published| published.same(&read));
            *published = Some(Arc::new(read));
            changed
        });
    }

    fn open(&mut self, scope: Scope) {
        let end = CancellationToken::new();
        let told = scope.clone();
        let events = scope.watch(self.client.clone(), self.family).map(move |event| (told.clone(), event));
        self.watches.push(events.take_until(end.clone().cancelled_owned()).boxed());
        self.index.open(scope.clone());
        self.ends.insert(scope, end);
    }

    fn close(&mut self, scope: &Scope) {
        self.index.close(scope);
        if let Some(end) = self.ends.remove(scope) {
            end.cancel();
        }
    }

    fn troubled(&self) -> bool {
        self.index.troubles().any(|(_, trouble)| matches!(trouble, Trouble::Unreachable(_)))
    }

    /// A watch that goes on after a failure says nothing until something happens, so the server itself is asked.
    async fn probe(&mut self) {
        if let Ok(Ok(_)) = timeout(PROBE, self.client.apiserver_version()).await {
            self.index.reached();
            self.tell();
        }
    }

    fn tell(&self) {
        let mut troubles: Vec<String> = Vec::new();
        for (scope, trouble) in self.index.troubles() {
            let text = match trouble {
                Trouble::NotInstalled if self.family == Family::Sveltos => {
                    "the CustomResourceDefinitions of Sveltos are not installed; install them, or leave --api out"
                        .to_owned()
                }
                Trouble::NotInstalled => {
                    "the CustomResourceDefinitions are not installed: run `fleet-operator crds | \
                                          kubectl apply --server-side -f -`"
                        .to_owned()
                }
                Trouble::Forbidden(reason) => {
                    format!("{scope} cannot be read: {reason}; grant list and watch")
                }
                Trouble::Unreachable(reason) if self.index.loaded(scope) => {
                    format!("{scope} cannot be read now: {reason}; what was read last holds")
                }
                Trouble::Unreachable(reason) => format!("{scope} cannot be read yet: {reason}; trying again"),
            };
            if !troubles.contains(&text) {
                troubles.push(text);
            }
        }
        let now = CatalogHealth { loaded: self.publish.borrow().is_some(), troubles };
        self.tell.send_if_modified(|told| {
            if *told == now {
                return false;
            }
            now.troubles
                .iter()
                .filter(|one| !told.troubles.contains(one))
                .for_each(|one| tracing::warn!("{one}"));
            if now.troubles.is_empty() && !told.troubles.is_empty() {
                tracing::info!("definitions are read again");
            }
            *told = now;
            true
        });
    }
}
