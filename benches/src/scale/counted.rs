//! Parts that count what is asked of them, and change nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::event::Event;
use fleet_core::manifest::{Gvk, Manifest};
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::observe::{Depth, Observation};
use fleet_core::render::{Context, Renderer, Template, TemplateError, TemplateSource};
use fleet_kube::applier::KubeApplier;
use futures::StreamExt;
use futures::stream::BoxStream;

/// Counts calls and lists.
pub(super) struct CountedApplier {
    inner: KubeApplier,
    pub(super) calls: AtomicUsize,
    pub(super) under_way: AtomicUsize,
    /// Lists of watches that are complete.
    pub(super) listed: Arc<AtomicUsize>,
}

impl CountedApplier {
    pub(super) fn new(inner: KubeApplier) -> Self {
        Self { inner, calls: AtomicUsize::new(0), under_way: AtomicUsize::new(0), listed: Arc::default() }
    }

    async fn counted(&self, call: impl Future<Output = Vec<Outcome>>) -> Vec<Outcome> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let outcomes = call.await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        outcomes
    }
}

#[async_trait]
impl Applier for CountedApplier {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        self.counted(self.inner.apply(request)).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        self.counted(self.inner.remove(request)).await
    }

    fn settle_time(&self) -> Duration {
        self.inner.settle_time()
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        let listed = Arc::clone(&self.listed);
        let count = move |told: &Observation| {
            listed.fetch_add(usize::from(matches!(told, Observation::Listed { .. })), Ordering::Relaxed);
        };
        self.inner.observe(cluster, kind, depth).inspect(count).boxed()
    }
}

/// Counts for how many of the users something was rendered.
pub(super) struct CountedRenderer {
    rendered: Arc<[AtomicBool]>,
}

impl CountedRenderer {
    pub(super) fn new(users: usize) -> Self {
        Self { rendered: (0..users).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Whether something was rendered for every user.
    pub(super) fn is_complete(&self) -> bool {
        self.rendered.iter().all(|rendered| rendered.load(Ordering::Relaxed))
    }
}

/// A user as the measurement names it.
pub(super) fn user(number: usize) -> String {
    format!("user-{number}")
}

impl Renderer for CountedRenderer {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        let inner = MinijinjaRenderer.compile(source)?;
        Ok(Arc::new(CountedTemplate { inner, rendered: Arc::clone(&self.rendered) }))
    }
}

struct CountedTemplate {
    inner: Arc<dyn Template>,
    rendered: Arc<[AtomicBool]>,
}

impl Template for CountedTemplate {
    fn reads(&self) -> &BTreeSet<String> {
        self.inner.reads()
    }

    fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError> {
        let subject = context.event.and_then(Event::subject);
        let number = subject.and_then(|subject| subject.strip_prefix("user-")?.parse::<usize>().ok());
        if let Some(rendered) = number.and_then(|number| self.rendered.get(number)) {
            rendered.store(true, Ordering::Relaxed);
        }
        self.inner.manifests(context)
    }

    fn text<'a>(&self, context: &Context<'a>) -> Result<String, TemplateError> {
        self.inner.text(context)
    }
}
