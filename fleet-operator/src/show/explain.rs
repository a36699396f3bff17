//! Why an object is in a cluster, or is not: from what is stored, and from what the definitions say now. Never from the
//! object itself, which anybody may have written.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use fleet_core::apply::InventoryItem;
use fleet_core::catalog::Subject;
use fleet_core::cluster::ClusterId;
use fleet_core::engine::Foresight;
use fleet_core::manifest::ObjectRef;
use fleet_core::store::{StoreError, WorkStore};
use fleet_core::work::{AppliedState, AppliedWork, Foreseen, Intent, Work, WorkId};
use serde::{Deserialize, Serialize};

use super::addons::{PAGE, describe, each_applied, for_cluster};
use super::rows::{ExplainedEvent, ExplainedWork, Explanation};

/// So many reasons are given.
const MOST: usize = 20;

/// An object as a person names it: `KIND/NAME` or `KIND/NAMESPACE/NAME`, and `KIND.GROUP` where the kind alone does not
/// tell. Letter case does not matter in the kind. Without a namespace, objects of any namespace are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sought {
    kind: String,
    group: Option<String>,
    namespace: Option<String>,
    name: String,
}

impl FromStr for Sought {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match *parts.as_slice() {
            [kind, name] => (kind, None, name),
            [kind, namespace, name] => (kind, Some(namespace.to_owned()), name),
            _ => ("", None, ""),
        };
        let (kind, group) = match kind.split_once('.') {
            Some((kind, group)) => (kind, Some(group.to_owned())),
            None => (kind, None),
        };
        let is_empty = kind.is_empty() || name.is_empty();
        if is_empty || group.as_deref() == Some("") || namespace.as_deref() == Some("") {
            return Err(
                "expected KIND/NAME, KIND/NAMESPACE/NAME or KIND.GROUP/…, such as namespace/mgianluc, \
                        configmap/web/settings or deployment.apps/web/front"
                    .to_owned(),
            );
        }
        Ok(Self { kind: kind.to_owned(), group, namespace, name: name.to_owned() })
    }
}

impl fmt::Display for Sought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(group) = &self.group {
            write!(f, ".{group}")?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, "/{namespace}")?;
        }
        write!(f, "/{}", self.name)
    }
}

impl Sought {
    /// Whether an object is meant.
    pub fn is(&self, object: &ObjectRef) -> bool {
        *self.name == *object.name
            && self.kind.eq_ignore_ascii_case(&object.gvk.kind)
            && self.group.as_deref().is_none_or(|group| group.eq_ignore_ascii_case(&object.gvk.group))
            && (self.namespace.is_none() || self.namespace.as_deref() == object.namespace.as_deref())
    }
}

/// How a cluster is doing, as far as the one who asks knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It is defined; whether it can be reached is not known, or it can.
    Fine,
    /// It cannot be reached; why.
    Unready(String),
    /// It is not defined.
    Unknown,
}

/// Explains an object in a cluster.
///
/// # Errors
/// When the store cannot be read.
pub async fn explain(
    sought: &Sought,
    cluster: &ClusterId,
    state: ClusterState,
    store: &dyn WorkStore,
    foresight: Foresight,
) -> Result<Explanation, StoreError> {
    let mut explanation = Explanation {
        object: sought.to_string(),
        cluster: cluster.to_string(),
        there: false,
        works: Vec::new(),
        reasons: Vec::new(),
    };
    match state {
        ClusterState::Fine => {}
        ClusterState::Unready(why) => {
            explanation.reasons.push(format!("cluster {cluster} cannot be reached now: {why}"));
        }
        ClusterState::Unknown => explanation.reasons.push(format!("there is no cluster {cluster}")),
    }
    let foresight = Arc::new(foresight);
    let mut candidates = Vec::new();
    let mut after: Option<WorkId> = None;
    let mut applied_there: HashMap<WorkId, Vec<AppliedWork>> = HashMap::new();
    each_applied(store, |work, applied| {
        if applied.cluster == *cluster {
            applied_there.entry(work.id.clone()).or_default().push(applied.clone());
        }
    })
    .await?;
    loop {
        let page = store.works(None, after.as_ref(), PAGE).await?;
        let mut rest = Vec::new();
        for stored in &page {
            let work = &stored.value;
            let applied = applied_there.remove(&work.id).unwrap_or_default();
            let told: Vec<_> = applied.iter().filter_map(|applied| recorded(sought, work, applied)).collect();
            for (found, reason) in &told {
                explanation.there |= found.as_ref().is_some_and(|found| found.uid.is_some());
                explanation.works.extend(found.clone());
                explanation.reasons.extend(reason.clone());
            }
            if told.is_empty() {
                rest.push((Arc::clone(work), applied));
            }
        }
        candidates.push(rest);
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.value.id.clone()),
            _ => break,
        }
        if explanation.there {
            // Nobody asks who else might have made it.
            candidates.clear();
        }
    }
    if !explanation.there {
        for rest in candidates {
            let (foresight, sought, cluster) = (Arc::clone(&foresight), sought.clone(), cluster.clone());
            // Rendering takes its time.
            let told = tokio::task::spawn_blocking(move || {
                rest.iter()
                    .flat_map(|(work, applied)| unrecorded(&sought, &cluster, work, applied, &foresight))
                    .collect::<Vec<_>>()
            });
            for (found, reason) in told.await.unwrap_or_default() {
                explanation.works.extend(found);
                explanation.reasons.push(reason);
            }
        }
        if explanation.works.is_empty() {
            let reason = "no Work of any trigger names it in this cluster; what was removed is forgotten once no older \
                          event of its key can come any more";
            explanation.reasons.push(reason.to_owned());
        }
    }
    let more = explanation.reasons.len().saturating_sub(MOST);
    if more > 0 {
        explanation.reasons.truncate(MOST);
        explanation.reasons.push(format!("and {more} more reasons"));
    }
    Ok(explanation)
}

/// What the record of a Work in the cluster says of the object, if it names it.
fn recorded(
    sought: &Sought,
    work: &Work,
    applied: &AppliedWork,
) -> Option<(Option<ExplainedWork>, Option<String>)> {
    let who = who(work, applied.local.as_ref().map(|local| &local.cluster));
    let (state, message) = describe(&applied.state);
    let why = if message.is_empty() { state.to_owned() } else { format!("{state}: {message}") };
    let found = |object: &ObjectRef, item: Option<&InventoryItem>| {
        Some(explained(work, Some(applied), object, item, item.and_then(|item| item.template.clone())))
    };
    if let Some(blocked) = applied.blocked.iter().find(|blocked| sought.is(&blocked.object)) {
        let reason = format!("{who} wants it, and it belongs to {}", blocked.owner);
        return Some((found(&blocked.object, None), Some(reason)));
    }
    let item = applied.inventory.iter().find(|item| sought.is(&item.object));
    if let AppliedState::Previewed { changes } = &applied.state {
        let foreseen = changes.iter().find(|foreseen| sought.is(&foreseen.object));
        if let Some(foreseen @ Foreseen { object, .. }) = foreseen {
            let reason = format!("{who} only tells what it would do (DryRun): {foreseen}");
            return Some((found(object, item), Some(reason)));
        }
    }
    let item = item?;
    let reason = match (&applied.state, item.uid.is_some(), work.intent) {
        (AppliedState::Applied, true, Intent::Create) => None,
        (AppliedState::Left { .. }, true, _) => Some(format!("{who} leaves it there: {message}")),
        (_, true, Intent::Delete) => Some(format!("{who} is to remove it, by {}: {why}", event_of(work))),
        (_, true, Intent::Create) => Some(format!("{who} is not done here: {why}")),
        (_, false, _) => Some(format!("{who} is to make it: {why}")),
    };
    Some((found(&item.object, Some(item)), reason))
}

/// What a Work that has nothing of that name in the cluster has to do with it: it may have made it once, or would if it
/// could.
fn unrecorded(
    sought: &Sought,
    cluster: &ClusterId,
    work: &Work,
    applied: &[AppliedWork],
    foresight: &Foresight,
) -> Vec<(Option<ExplainedWork>, String)> {
    let told = foresight.places_in(work, cluster).into_iter().filter_map(|place| {
        let for_cluster = place.local.is_some().then_some(&place.cluster.id);
        let is_of = |one: &&AppliedWork| one.local.as_ref().map(|local| &local.cluster) == for_cluster;
        let applied = applied.iter().find(is_of);
        let belongs = foresight.belongs(work, &place.cluster.id);
        let who = who(work, for_cluster);
        let pieces = match place.pieces {
            Ok(pieces) => pieces,
            // It may be the one that is meant.
            Err(error) if work.intent == Intent::Create && belongs => {
                let by = event_of(work);
                return Some((None, format!("{who}, by {by}, is stalled here, and might make it: {error}")));
            }
            Err(_) => return None,
        };
        let piece = pieces.into_iter().find(|piece| sought.is(piece.manifest.id()))?;
        let reason = match (work.intent, applied) {
            (Intent::Delete, _) => format!("{who} has removed it, by {}", event_of(work)),
            (Intent::Create, _) if !belongs => {
                format!("{who} would make it, but does not belong here: the trigger's selectors do not match")
            }
            (Intent::Create, None) => format!("{who} is to make it, and was not looked at here yet"),
            (Intent::Create, Some(applied)) => {
                let (state, message) = describe(&applied.state);
                let because = if message.is_empty() { String::new() } else { format!(": {message}") };
                format!("{who} is to make it, and is {state} here{because}")
            }
        };
        Some((Some(explained(work, applied, piece.manifest.id(), None, Some(piece.template))), reason))
    });
    told.collect()
}

/// A Work, and the cluster that it is for, if that is another one.
fn who(work: &Work, for_cluster: Option<&ClusterId>) -> String {
    let local = for_cluster.map(|cluster| format!(", for {cluster}")).unwrap_or_default();
    format!("Work {} of {}{local}", work.id, Subject::of_trigger(&work.trigger))
}

fn event_of(work: &Work) -> String {
    let event = &work.event;
    let subject = event.subject().map(|subject| format!(", subject {subject}")).unwrap_or_default();
    format!(
        "event {} (type {}, source {}{subject}) of EventSource {}, received {:.0}",
        event.id(),
        event.ty(),
        event.source(),
        work.source,
        work.received
    )
}

fn explained(
    work: &Work,
    applied: Option<&AppliedWork>,
    object: &ObjectRef,
    item: Option<&InventoryItem>,
    template: Option<Arc<str>>,
) -> ExplainedWork {
    let event = &work.event;
    let (state, message) = applied.map(|applied| describe(&applied.state)).unwrap_or_default();
    ExplainedWork {
        object: object.to_string(),
        work: work.id.to_string(),
        mark: applied.map_or(&work.id, |applied| &applied.work).hash().to_owned(),
        for_cluster: applied.and_then(for_cluster),
        trigger: work.trigger.to_string(),
        template: template.map(|template| template.to_string()),
        source: work.source.to_string(),
        event: ExplainedEvent {
            id: event.id().to_owned(),
            ty: event.ty().to_owned(),
            source: event.source().to_owned(),
            subject: event.subject().map(str::to_owned),
        },
        intent: work.intent,
        origin: work.origin.as_ref().map(ToString::to_string),
        positions: work.positions.iter().map(ToString::to_string).collect(),
        received: work.received,
        published: work.published,
        uid: item.and_then(|item| item.uid.as_ref().map(ToString::to_string)),
        applied: item.and_then(|item| item.uid.as_ref().and(item.applied_at)),
        repaired: item.and_then(|item| item.repaired_at),
        adopted: item.is_some_and(|item| item.adopted),
        state: state.to_owned(),
        message,
        health: applied.and_then(|applied| applied.health.clone()),
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::catalog::{CatalogSnapshot, Payload, TriggerDef};
    use fleet_core::cluster::Cluster;
    use fleet_core::event::Event;
    use fleet_core::manifest::Gvk;
    use fleet_core::memory::MemoryStore;
    use fleet_core::minijinja::MinijinjaRenderer;
    use fleet_core::render::TemplateSource;
    use fleet_core::selector::LabelSelector;
    use fleet_core::work::EventKey;

    use super::*;

    /// What was removed is known for as long as its tombstone is there.
    #[tokio::test]
    async fn a_tombstone_tells_which_event_removed_an_object() {
        let cluster = ClusterId::new("civo", "one").unwrap();
        let template = TemplateSource::manifests(
            "namespace",
            "{apiVersion: v1, kind: Namespace, metadata: {name: {{ event.subject }}}}",
        );
        let trigger = TriggerDef {
            payload: vec![Payload::Template(template)],
            ..TriggerDef::new("t", "s", LabelSelector::everything())
        };
        let snapshot = CatalogSnapshot {
            triggers: [("t".into(), Arc::new(trigger))].into(),
            ..CatalogSnapshot::default()
        };
        let cluster_there = Arc::new(Cluster::new(cluster.clone(), [("a", "b")]));
        let foresight = Foresight::new(&snapshot, [cluster_there], &MinijinjaRenderer);
        let key = EventKey::Text("k".to_owned());
        let event = br#"{"specversion":"1.0","id":"7","source":"auth","type":"logout","subject":"alice"}"#;
        let work = Work {
            id: WorkId::new("t", &key),
            trigger: "t".into(),
            source: "s".into(),
            key,
            origin: None,
            generation: 2,
            intent: Intent::Delete,
            event: Arc::new(Event::from_json(event).unwrap()),
            message: Arc::default(),
            positions: Default::default(),
            received: jiff::Timestamp::UNIX_EPOCH,
            published: None,
            recent: Vec::new(),
        };
        let store = MemoryStore::default();
        store.put_work(Arc::new(work), None, Vec::new()).await.unwrap();
        let sought = "namespace/alice".parse().unwrap();
        let told = explain(&sought, &cluster, ClusterState::Fine, &store, foresight).await.unwrap();
        let expected = "has removed it, by event 7 (type logout, source auth, subject alice) of EventSource s, received \
                        1970-01-01T00:00:00Z";
        assert!(!told.there && told.reasons[0].ends_with(expected), "{told:?}");
        assert_eq!(told.works[0].intent, Intent::Delete);
    }

    #[test]
    fn objects_are_named_as_people_name_them() {
        let object = |group: &str, kind: &str, namespace: Option<&str>, name: &str| ObjectRef {
            gvk: Gvk { group: group.into(), version: "v1".into(), kind: kind.into() },
            namespace: namespace.map(Into::into),
            name: name.into(),
        };
        let front = object("apps", "Deployment", Some("web"), "front");
        for text in ["deployment/front", "Deployment/web/front", "deployment.apps/web/front"] {
            assert!(text.parse::<Sought>().unwrap().is(&front), "{text}");
        }
        for text in ["deployment/web", "deployment.extensions/front", "deployment/other/front", "pod/front"] {
            assert!(!text.parse::<Sought>().unwrap().is(&front), "{text}");
        }
        assert!("NAMESPACE/x".parse::<Sought>().unwrap().is(&object("", "Namespace", None, "x")));
        for text in ["", "x", "x/", "/x", "a/b/c/d", "kind./x", "kind//x"] {
            assert!(text.parse::<Sought>().unwrap_err().contains("KIND/NAMESPACE/NAME"), "{text}");
        }
    }
}
