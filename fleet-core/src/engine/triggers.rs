//! A trigger as the engine uses it: compiled.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crate::catalog::{Condition, Payload, SourceDef, Subject, TriggerDef};
use crate::cluster::{Cluster, ClusterId};
use crate::engine::clusters::ClusterIndex;
use crate::engine::local::{Part, no_management};
use crate::engine::payload::Piece;
use crate::engine::reads::PayloadReads;
use crate::engine::references::{self, Look, Reference, Unrendered};
use crate::health::Check;
use crate::manifest::{Manifest, ObjectRef};
use crate::render::{
    Arrival, Context, Renderer, Template, TemplateError, TemplateFault, TemplateKind, TemplateSource,
};
use crate::selector::LabelSelector;
use crate::work::{EventKey, Work};

/// A trigger and its compiled templates.
pub(super) struct Trigger {
    pub(super) def: Arc<TriggerDef>,
    pub(super) action: Option<Result<Arc<dyn Template>, TemplateError>>,
    pub(super) key: Option<Result<Arc<dyn Template>, TemplateError>>,
    payload: Result<Vec<Piece>, Fault>,
    local: Result<Vec<Piece>, Fault>,
    references: Result<Vec<Reference>, Fault>,
    reads: PayloadReads,
    checks: Result<Vec<Check>, Fault>,
}

impl std::fmt::Debug for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trigger").field("name", &self.def.name).finish_non_exhaustive()
    }
}

/// What a Work should have in a cluster.
pub(super) struct Rendered {
    pub(super) manifests: Arc<[Manifest]>,
    /// The name of the template of each.
    pub(super) templates: Vec<Arc<str>>,
}

/// Why a Work cannot be rendered.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// One CamelCase word.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl From<TemplateError> for Fault {
    fn from(error: TemplateError) -> Self {
        Self { reason: "TemplateError", message: error.to_string() }
    }
}

/// Calls a renderer. One that panics over some event or template has failed there, and nowhere else.
pub(super) fn guarded<T>(
    name: impl FnOnce() -> String,
    call: impl FnOnce() -> Result<T, TemplateError>,
) -> Result<T, TemplateError> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(TemplateError {
            template: name(),
            line: None,
            fault: TemplateFault::Evaluation,
            reason: "the renderer failed; this is a bug, please report it".to_owned(),
        })
    })
}

/// Which Works of a trigger are to be looked at after a cluster changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affected {
    /// Those in the cluster.
    pub(super) here: bool,
    /// Those whose events came from the cluster, wherever they are.
    pub(super) from_here: bool,
}

/// Where the resources of a Work belong.
pub(super) enum Targets {
    /// Nowhere now: the origin is not selected, or not known.
    None,
    One(Arc<Cluster>),
    Many(Arc<[Arc<Cluster>]>),
}

impl Targets {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        match self {
            Self::None => [].iter(),
            Self::One(cluster) => std::slice::from_ref(cluster).iter(),
            Self::Many(clusters) => clusters.iter(),
        }
    }

    pub(super) fn contains(&self, id: &ClusterId) -> bool {
        self.iter().any(|cluster| cluster.id == *id)
    }
}

impl Trigger {
    pub(super) fn compile(def: Arc<TriggerDef>, renderer: &dyn Renderer) -> Self {
        let title = Subject::of_trigger(&def.name);
        let text = |part: &str, template: &Option<String>| {
            template.as_ref().map(|text| {
                let name = format!("{title}, {part}");
                let source = TemplateSource::new(name, text.as_str(), TemplateKind::Text);
                let source = source.in_language(def.language);
                guarded(|| source.name.clone(), || renderer.compile(&source))
            })
        };
        let checks = def.policy.health_checks.iter().map(|check| {
            Check::compile(check).map_err(|reason| {
                let message = format!("{title}, health check {}: {reason}", check.name);
                Fault { reason: "HealthCheckError", message }
            })
        });
        let pieces = |payload: &[Payload]| -> Result<Vec<_>, Fault> {
            payload.iter().map(|payload| Piece::compile(payload, renderer)).collect()
        };
        let (payload, local) = (pieces(&def.payload), pieces(&def.local));
        let references = references::compile(&def, renderer);
        let of_references = references.iter().flatten().flat_map(Reference::reads);
        let of_pieces = [&payload, &local].into_iter().flatten().flatten().flat_map(Piece::reads);
        Self {
            reads: PayloadReads::new(of_pieces.chain(of_references)),
            action: text("cloudEventAction", &def.action),
            key: text("key", &def.key),
            payload,
            local,
            references,
            checks: checks.collect(),
            def,
        }
    }

    /// Whether it is a ClusterProfile.
    pub(super) fn is_always_on(&self) -> bool {
        self.def.source.is_none()
    }

    /// Whether there is such a part of what it renders for a cluster. One that renders nothing at all does so remotely.
    pub(super) fn has(&self, part: Part) -> bool {
        match part {
            Part::Remote => !self.def.payload.is_empty() || self.def.local.is_empty(),
            Part::Local => !self.def.local.is_empty(),
        }
    }

    /// How the trigger is doing: whether what it is made of can be used.
    pub(super) fn condition(
        &self,
        sources: &BTreeMap<Arc<str>, Arc<SourceDef>>,
        is_managed: bool,
    ) -> Condition {
        let templates = [&self.action, &self.key].into_iter().flatten();
        let broken = templates.filter_map(|template| template.as_ref().err()).next();
        let (ready, reason, message) = if let Some(error) = broken {
            (false, "TemplateError", error.to_string())
        } else if let Some(fault) = [&self.payload, &self.local].into_iter().find_map(|it| it.as_ref().err())
        {
            (false, fault.reason, fault.message.clone())
        } else if let Err(fault) = &self.references {
            (false, fault.reason, fault.message.clone())
        } else if self.has(Part::Local) && !is_managed {
            let Fault { reason, message } = no_management();
            (false, reason, message)
        } else if let Err(fault) = &self.checks {
            (false, fault.reason, fault.message.clone())
        } else {
            match &self.def.source {
                Some(source) if !sources.contains_key(source) => {
                    let message =
                        format!("EventSource {source} does not exist; create it or mend eventSourceName");
                    (false, "SourceMissing", message)
                }
                Some(_) => (true, "Ready", "listening".to_owned()),
                None => (true, "Ready", "always on".to_owned()),
            }
        };
        Condition { ready, reason: reason.to_owned(), message }
    }

    /// The clusters where a Work of this trigger belongs.
    pub(super) fn targets(&self, origin: Option<&ClusterId>, clusters: &ClusterIndex) -> Targets {
        let destination = self.def.destination_clusters.as_ref();
        match (origin, destination) {
            (None, Some(destination)) => Targets::Many(clusters.select(destination)),
            (None, None) => Targets::Many(self.source_clusters(clusters)),
            (Some(origin), Some(destination)) => match clusters.origin(origin) {
                Some(origin) if self.is_source(&origin) => Targets::Many(clusters.select(destination)),
                _ => Targets::None,
            },
            // Where another operator drives it, it is that one's.
            (Some(origin), None) => match clusters.get(origin) {
                Some(origin) if self.is_source(&origin) => Targets::One(origin),
                _ => Targets::None,
            },
        }
    }

    /// Whether a cluster is among those that events come from, or that a ClusterProfile is for.
    fn is_source(&self, cluster: &Cluster) -> bool {
        cluster.is_selected_by(&self.def.source_clusters)
            || (cluster.is_member() && self.def.cluster_refs.contains(&cluster.id))
    }

    fn source_clusters(&self, clusters: &ClusterIndex) -> Arc<[Arc<Cluster>]> {
        let selected = clusters.select(&self.def.source_clusters);
        let named = self.def.cluster_refs.iter().filter_map(|id| clusters.get(id));
        let is_named_only =
            |it: &Arc<Cluster>| it.is_member() && !it.is_selected_by(&self.def.source_clusters);
        let named: Vec<_> = named.filter(is_named_only).collect();
        if named.is_empty() { selected } else { selected.iter().cloned().chain(named).collect() }
    }

    /// Whether a Work of this trigger belongs into a cluster.
    pub(super) fn targets_cluster(
        &self,
        origin: Option<&ClusterId>,
        cluster: &Cluster,
        clusters: &ClusterIndex,
    ) -> bool {
        let from_here = match (origin, &self.def.destination_clusters) {
            (None, Some(destination)) => return cluster.is_selected_by(destination),
            (None, None) => return self.is_source(cluster),
            (Some(origin), _) => clusters.origin(origin).is_some_and(|origin| self.is_source(&origin)),
        };
        from_here
            && match &self.def.destination_clusters {
                Some(destination) => cluster.is_selected_by(destination),
                None => origin == Some(&cluster.id),
            }
    }

    /// Whether anything of this cluster can matter to the trigger's Works.
    pub(super) fn concerns(&self, cluster: &Cluster) -> bool {
        let selects = |selector: &LabelSelector| cluster.is_selected_by(selector);
        self.is_source(cluster) || self.def.destination_clusters.as_ref().is_some_and(selects)
    }

    /// Whether another version of the trigger makes the same of what it hears.
    pub(super) fn hears_as(&self, new: &Self) -> bool {
        let (old, new) = (&self.def, &new.def);
        (&old.source, &old.filter, &old.action, &old.key) == (&new.source, &new.filter, &new.action, &new.key)
            && old.language == new.language
    }

    /// Whether another version of the trigger asks for the same of the Works that there are: what decides which events
    /// count, and what they mean, is about later events only.
    pub(super) fn asks_for_the_same_as(&self, new: &TriggerDef) -> bool {
        let TriggerDef {
            name,
            source: _,
            filter: _,
            source_clusters,
            cluster_refs,
            destination_clusters,
            action: _,
            key: _,
            language: _,
            payload,
            local,
            resources,
            identity,
            policy,
            one_for_event,
            ttl,
        } = &*self.def;
        *name == new.name
            && *source_clusters == new.source_clusters
            && *cluster_refs == new.cluster_refs
            && *destination_clusters == new.destination_clusters
            && *payload == new.payload
            && *local == new.local
            && *resources == new.resources
            && *identity == new.identity
            && *policy == new.policy
            && *one_for_event == new.one_for_event
            && *ttl == new.ttl
    }

    /// What a change of a cluster makes of the trigger's Works.
    pub(super) fn affected_by(&self, old: &Cluster, new: &Cluster) -> Affected {
        let turns = |selector: &LabelSelector| old.is_selected_by(selector) != new.is_selected_by(selector);
        let source = self.is_source(old) != self.is_source(new);
        let is_concerned = self.concerns(old) || self.concerns(new);
        Affected {
            here: source
                || self.def.destination_clusters.as_ref().is_some_and(turns)
                || (is_concerned && self.reads.see_change("cluster", old, new)),
            from_here: source || (is_concerned && self.reads.see_change("origin", old, new)),
        }
    }

    /// The checks of an object's health.
    pub(super) fn checks<'a>(&'a self, object: &'a ObjectRef) -> impl Iterator<Item = &'a Check> {
        self.checks.iter().flatten().filter(|check| check.covers(object))
    }

    /// Renders a part of a Work for a cluster.
    pub(super) fn render(
        &self,
        part: Part,
        work: &Work,
        cluster: &Cluster,
        origin: Option<&Cluster>,
        look: Look<'_>,
    ) -> Result<Rendered, Unrendered> {
        let is_of_event = work.key != EventKey::Always;
        let context = Context {
            event: is_of_event.then_some(&*work.event),
            message: is_of_event.then_some(&*work.message),
            events: None,
            cluster: Some(cluster),
            origin,
            resources: None,
            trigger: &self.def.name,
        };
        self.render_in(part, context, look)
    }

    /// Renders a part of all keys of a cluster together.
    pub(super) fn render_together(
        &self,
        part: Part,
        events: &[Arrival<'_>],
        cluster: &Cluster,
        look: Look<'_>,
    ) -> Result<Rendered, Unrendered> {
        let context = Context {
            event: None,
            message: None,
            events: Some(events),
            cluster: Some(cluster),
            origin: None,
            resources: None,
            trigger: &self.def.name,
        };
        self.render_in(part, context, look)
    }

    fn render_in(&self, part: Part, context: Context<'_>, look: Look<'_>) -> Result<Rendered, Unrendered> {
        let references = self.references.as_ref().map_err(Clone::clone)?;
        let referred = references::look_up(references, &context, look)?;
        let context = Context { resources: Some(&referred), ..context };
        let pieces = match part {
            Part::Remote => &self.payload,
            Part::Local => &self.local,
        };
        let pieces = pieces.as_ref().map_err(Clone::clone)?;
        let (mut manifests, mut names): (Vec<Manifest>, Vec<_>) = Default::default();
        for piece in pieces {
            for manifest in piece.render(&context)? {
                if let Some(twice) = manifests.iter().find(|it| it.id().same_object(manifest.id())) {
                    let message =
                        format!("the trigger's templates give {} twice; give each object once", twice.id());
                    return Err(Fault { reason: "TemplateError", message }.into());
                }
                manifests.push(manifest);
                names.push(Arc::clone(&piece.name));
            }
        }
        Ok(Rendered { manifests: manifests.into(), templates: names })
    }
}
