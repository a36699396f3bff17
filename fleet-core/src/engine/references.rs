//! What triggers refer to in the management cluster: which objects a rendering sees, and what is rendered from which
//! object, so that a change of one renders again what shows it and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::triggers::{Fault, guarded};
use crate::catalog::{Subject, TriggerDef};
use crate::cluster::{Cluster, ClusterId};
use crate::engine::Shared;
use crate::manifest::names;
use crate::render::{
    Context, Renderer, Template, TemplateError, TemplateFault, TemplateKind, TemplateSource,
};
use crate::resource::{Lookup, Referred, ResourceId, ResourceRef, Resources};
use crate::work::WorkId;

/// A reference, its templates compiled.
pub(super) struct Reference {
    def: ResourceRef,
    namespace: Option<Text>,
    name: Text,
}

/// A template of a name, and what errors call it.
struct Text {
    field: String,
    template: Arc<dyn Template>,
}

/// Why a Work cannot be rendered.
#[derive(Debug)]
pub(super) enum Unrendered {
    /// Something has to be mended.
    Stalled(Fault),
    /// Something it refers to is being looked up.
    Unread,
}

impl From<Fault> for Unrendered {
    fn from(fault: Fault) -> Self {
        Self::Stalled(fault)
    }
}

impl From<TemplateError> for Unrendered {
    fn from(error: TemplateError) -> Self {
        Self::Stalled(error.into())
    }
}

/// Takes note of what is about to be looked up, and gives what is known after that.
pub(super) type Look<'l> = &'l mut dyn FnMut(&BTreeSet<ResourceId>) -> Arc<Resources>;

/// Compiles the references of a trigger.
pub(super) fn compile(def: &TriggerDef, renderer: &dyn Renderer) -> Result<Vec<Reference>, Fault> {
    let title = Subject::of_trigger(&def.name);
    let compile = |reference: &ResourceRef| {
        let text = |part: &str, text: &Arc<str>| {
            let field = format!("{title}, templateResourceRefs {}, {part}", reference.identifier);
            let source = TemplateSource::new(field.clone(), Arc::clone(text), TemplateKind::Text)
                .in_language(reference.language);
            let template = guarded(|| source.name.clone(), || renderer.compile(&source))?;
            Ok::<_, Fault>(Text { field, template })
        };
        Ok(Reference {
            namespace: reference.namespace.as_ref().map(|it| text("namespace", it)).transpose()?,
            name: text("name", &reference.name)?,
            def: reference.clone(),
        })
    };
    def.resources.iter().map(compile).collect()
}

impl Reference {
    /// What its templates read.
    pub(super) fn reads(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        self.namespace.iter().chain([&self.name]).map(|text| text.template.reads())
    }

    /// Which object it is in a context.
    fn resolve(&self, context: &Context<'_>) -> Result<ResourceId, TemplateError> {
        let namespace = match (&self.namespace, context.cluster) {
            (Some(namespace), _) => namespace.of(context, names::dns_label)?,
            (None, Some(cluster)) => cluster.id.namespace().into(),
            (None, None) => "default".into(),
        };
        Ok(ResourceId {
            api_version: Arc::clone(&self.def.api_version),
            kind: Arc::clone(&self.def.kind),
            namespace,
            name: self.name.of(context, names::path_segment)?,
        })
    }
}

impl Text {
    /// The text in a context. The rule keeps what is no name from becoming a path or a selector.
    fn of(
        &self,
        context: &Context<'_>,
        rule: fn(&str) -> Result<(), &'static str>,
    ) -> Result<Arc<str>, TemplateError> {
        let text = guarded(|| self.field.clone(), || self.template.text(context))?;
        let text = text.trim();
        rule(text).map_err(|why| TemplateError {
            template: self.field.clone(),
            line: None,
            fault: TemplateFault::Output,
            reason: format!("what it gives is no name: it {why}"),
        })?;
        Ok(text.into())
    }
}

/// Finds what references mean in a context, and looks it up.
pub(super) fn look_up(
    references: &[Reference],
    context: &Context<'_>,
    look: Look<'_>,
) -> Result<Referred, Unrendered> {
    let resolved = references.iter().map(|reference| Ok((reference, reference.resolve(context)?)));
    let resolved: Result<Vec<_>, TemplateError> = resolved.collect();
    let ids = resolved.iter().flatten().map(|(_, id)| id.clone()).collect();
    let resources = look(&ids);
    let (mut referred, mut unread) = (Referred::new(), false);
    for (Reference { def, .. }, id) in resolved? {
        let stalled = |reason, why: String| {
            let message = format!("what templateResourceRefs calls {}, {id}, {why}", def.identifier);
            Err(Unrendered::Stalled(Fault { reason, message }))
        };
        let found = match resources.look_up(&id) {
            Lookup::Found(resource) => Some(Arc::clone(resource)),
            Lookup::Absent if def.optional => None,
            Lookup::Absent => {
                let why = "does not exist; create it, correct the reference, or say optional: true in it";
                return stalled("ReferenceMissing", why.to_owned());
            }
            Lookup::Unavailable(why) => {
                return stalled("ReferenceUnavailable", format!("cannot be read: {why}"));
            }
            Lookup::Unread => {
                unread = true;
                continue;
            }
        };
        referred.insert(Arc::clone(&def.identifier), found);
    }
    if unread { Err(Unrendered::Unread) } else { Ok(referred) }
}

/// What a trigger refers to in a cluster, whatever event there is: for whoever has to look it up elsewhere, before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcesOfCluster {
    /// The objects. One whose name cannot be rendered is not among them; the engine says why.
    pub known: BTreeSet<ResourceId>,
    /// What templates call those that depend on the event.
    pub by_event: Vec<Arc<str>>,
}

impl ResourcesOfCluster {
    /// Finds them. Events are taken to come from the cluster itself.
    pub fn new(trigger: &TriggerDef, cluster: &Cluster, renderer: &dyn Renderer) -> Self {
        const OF_CLUSTER: [&str; 4] = ["cluster", "origin", "resources", "trigger"];
        let mut found = Self::default();
        if trigger.resources.is_empty() {
            return found;
        }
        let context = Context {
            event: None,
            message: None,
            events: None,
            cluster: Some(cluster),
            origin: Some(cluster),
            resources: None,
            trigger: &trigger.name,
        };
        // Of a template that is none nothing is rendered.
        for reference in compile(trigger, renderer).iter().flatten() {
            let root = |path: &str| path.split('.').next().is_some_and(|root| OF_CLUSTER.contains(&root));
            if reference.reads().flatten().all(|path| root(path)) {
                found.known.extend(reference.resolve(&context).ok());
            } else {
                found.by_event.push(Arc::clone(&reference.def.identifier));
            }
        }
        found
    }
}

/// A Work in a cluster.
type Place = (WorkId, ClusterId);

/// Which Works were rendered from which objects.
#[derive(Debug, Default)]
pub(super) struct RenderedFrom {
    state: Mutex<State>,
    /// Whether there is anything; as a rule there is not, and nobody has to wait for the lock.
    any: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    by_place: BTreeMap<Place, BTreeSet<ResourceId>>,
    by_resource: BTreeMap<ResourceId, BTreeSet<Place>>,
}

impl RenderedFrom {
    /// A Work is rendered from these in a cluster, and from nothing else.
    pub(super) fn note(&self, work: &WorkId, cluster: &ClusterId, ids: &BTreeSet<ResourceId>) {
        if ids.is_empty() && !self.any.load(Ordering::Acquire) {
            return;
        }
        let place = (work.clone(), cluster.clone());
        let mut state = self.state.lock();
        let State { by_place, by_resource } = &mut *state;
        if by_place.get(&place).is_some_and(|before| before == ids) {
            return;
        }
        let mut is_news = false;
        for gone in by_place.remove(&place).iter().flatten().filter(|id| !ids.contains(id)) {
            if let Some(places) = by_resource.get_mut(gone) {
                places.remove(&place);
                if places.is_empty() {
                    by_resource.remove(gone);
                    is_news = true;
                }
            }
        }
        for id in ids {
            let places = by_resource.entry(id.clone()).or_default();
            is_news |= places.is_empty();
            places.insert(place.clone());
        }
        if !ids.is_empty() {
            by_place.insert(place, ids.clone());
        }
        self.any.store(!by_place.is_empty(), Ordering::Release);
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
    }

    /// A Work is rendered from nothing in a cluster, or not at all.
    pub(super) fn forget(&self, work: &WorkId, cluster: &ClusterId) {
        self.note(work, cluster, &BTreeSet::new());
    }

    /// What was rendered from objects of which something else is known now.
    fn places<'i>(&self, ids: impl Iterator<Item = &'i ResourceId>) -> BTreeSet<Place> {
        if !self.any.load(Ordering::Acquire) {
            return BTreeSet::new();
        }
        let state = self.state.lock();
        ids.filter_map(|id| state.by_resource.get(id)).flatten().cloned().collect()
    }

    fn all(&self) -> BTreeSet<ResourceId> {
        self.state.lock().by_resource.keys().cloned().collect()
    }
}

impl Shared {
    /// Looks up for a Work in a cluster. It is noted first: who changes what is known looks there after that.
    pub(super) fn look_up_for(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> impl FnMut(&BTreeSet<ResourceId>) -> Arc<Resources> {
        move |ids| {
            self.rendered_from.note(work, cluster, ids);
            Arc::clone(&self.definitions.load().resources)
        }
    }

    /// Looks up what is known already, and asks for nothing else.
    pub(super) fn known_resources(&self) -> impl FnMut(&BTreeSet<ResourceId>) -> Arc<Resources> {
        |_| Arc::clone(&self.definitions.load().resources)
    }

    /// The Works that show another object now than before.
    pub(super) fn rendered_from_changed(&self, before: &Resources, now: &Resources) -> BTreeSet<Place> {
        if before.others != now.others {
            let state = self.rendered_from.state.lock();
            return state.by_place.keys().cloned().collect();
        }
        let is_other = |(id, state): &(&ResourceId, _)| now.known.get(*id) != Some(*state);
        let changed = before.known.iter().filter(is_other).map(|(id, _)| id);
        let new = now.known.keys().filter(|id| !before.known.contains_key(*id));
        self.rendered_from.places(changed.chain(new))
    }
}

/// Tells the catalog what is referred to, whenever that changed, until it is dropped.
pub(super) async fn tell(shared: &Shared) {
    loop {
        shared.rendered_from.changed.notified().await;
        shared.catalog.refer(shared.rendered_from.all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::EventKey;

    fn id(name: &str) -> ResourceId {
        ResourceId {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: "a".into(),
            name: name.into(),
        }
    }

    #[test]
    fn what_nobody_refers_to_any_more_is_forgotten() {
        let index = RenderedFrom::default();
        let cluster = ClusterId::new("fleet", "c").unwrap();
        let (one, two) = (WorkId::new("one", &EventKey::Always), WorkId::new("two", &EventKey::Always));
        index.note(&one, &cluster, &[id("x"), id("y")].into());
        index.note(&two, &cluster, &[id("y")].into());
        assert_eq!(index.all(), [id("x"), id("y")].into());
        assert_eq!(index.places([&id("x")].into_iter()), [(one.clone(), cluster.clone())].into());
        index.note(&one, &cluster, &[id("z")].into());
        assert_eq!(index.all(), [id("y"), id("z")].into());
        index.forget(&two, &cluster);
        index.forget(&one, &cluster);
        assert!(index.all().is_empty() && index.state.lock().by_place.is_empty());
    }
}
