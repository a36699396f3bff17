//! What an event would put where, or ClusterProfiles do, as text: told from definitions alone, or compared with what is in
//! the clusters.

mod chart;
mod difference;
mod told;
mod unified;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use fleet_core::catalog::{CatalogSnapshot, Subject, TriggerDef};
use fleet_core::cluster::ClusterId;
use fleet_core::engine::{Fate, Foresight, Foretold};
use fleet_core::event::Event;
use fleet_core::languages::Languages;
use fleet_core::resource::{ResourceId, Resources};
use fleet_core::source::{Delivery, Message, Settle};
use fleet_core::yaml;
use fleet_kube::connection::ClusterDefinition;
use fleet_kube::definitions::Definitions;

pub use self::difference::{Comparison, compare};
pub use self::told::{Told, text};
pub use self::unified::Unified;
use crate::run::with_management;

/// The definitions as they are, to tell what events mean; the management cluster, if there is one, and what is known of it.
pub fn foresight(
    definitions: &Definitions,
    management: Option<&ClusterDefinition>,
    resources: Arc<Resources>,
) -> Foresight {
    let catalog = CatalogSnapshot { resources, ..definitions.catalog.clone() };
    let clusters = with_management(&definitions.clusters, management);
    let clusters = clusters.iter().map(|definition| Arc::new(definition.cluster(true)));
    Foresight::new(&catalog, clusters, &Languages)
}

/// What a trigger or profile is called in what is told.
fn called(def: &TriggerDef) -> String {
    match Subject::of_trigger(&def.name) {
        Subject::Trigger(name) => format!("trigger {name}"),
        profile => profile.to_string(),
    }
}

/// The objects of the management cluster that something would be rendered from.
pub fn resources(foretold: &[Foretold]) -> BTreeSet<ResourceId> {
    let meanings = foretold.iter().filter_map(|it| match &it.fate {
        Fate::Taken(meaning) => Some(meaning),
        _ => None,
    });
    meanings.flat_map(|it| &it.places).flat_map(|place| &place.resources).cloned().collect()
}

/// An event as if it were delivered: JSON as it is sent, or the same in YAML.
///
/// # Errors
/// When it is not one event.
pub fn delivery(raw: &[u8], origin: Option<ClusterId>, subject: String) -> Result<Delivery, String> {
    let is_json = raw.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let raw = if is_json { Bytes::copy_from_slice(raw) } else { from_yaml(raw)? };
    let event = Event::from_json(&raw).map_err(|error| error.to_string())?;
    Ok(Delivery {
        event: Ok(event),
        origin,
        message: Arc::new(Message { subject, headers: Vec::new() }),
        raw,
        position: None,
        published: None,
        settle: Settle::nothing(),
    })
}

fn from_yaml(raw: &[u8]) -> Result<Bytes, String> {
    let text = std::str::from_utf8(raw).map_err(|_| "it is neither JSON nor YAML".to_owned())?;
    let mut documents = yaml::documents(text).into_iter();
    match (documents.next(), documents.next()) {
        (Some(Ok(document)), None) if document.value.is_object() => {
            serde_json::to_vec(&document.value).map(Bytes::from).map_err(|error| error.to_string())
        }
        (Some(Err(error)), _) => {
            Err(format!("it is neither JSON nor YAML: line {}: {}", error.line, error.reason))
        }
        _ => Err("it is not one event; give one at a time".to_owned()),
    }
}

/// The EventSource that the event is to come from: the one that is named, or the only one.
///
/// # Errors
/// When there is none, or more than one.
pub fn source(definitions: &Definitions, named: Option<&str>) -> Result<Arc<str>, String> {
    let sources = &definitions.catalog.sources;
    let names = || sources.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
    match (named, sources.len()) {
        (_, 0) => Err("there is no EventSource among the definitions".to_owned()),
        (Some(named), _) => match sources.get_key_value(named) {
            Some((name, _)) => Ok(Arc::clone(name)),
            None => Err(format!("there is no EventSource {named}; there are: {}", names())),
        },
        (None, 1) => sources.keys().next().map(Arc::clone).ok_or_else(String::new),
        (None, _) => Err(format!("there are several EventSources; say which with --source: {}", names())),
    }
}
