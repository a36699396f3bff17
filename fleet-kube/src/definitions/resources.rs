//! What triggers and profiles let their templates see of the management cluster (`templateResourceRefs`); and what a folder
//! has of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleet_core::manifest::names;
use fleet_core::render::Language;
use fleet_core::resource::{Others, Resource, ResourceId, ResourceRef, ResourceState, Resources};
use serde_json::{Map, Value};

use super::object::{Fault, Kind, Location, ObjectId, Place, Problem, join};
use super::parse::{Body, Parsed};
use crate::api::TemplateResourceRef;

const FIELD: &str = "/spec/templateResourceRefs";
/// The kinds that a folder has, besides definitions.
const IN_FOLDERS: &[(&str, &str)] = &[("v1", "ConfigMap"), ("v1", "Secret")];
const NOT_IN_FOLDERS: &str = "without a management cluster there are only ConfigMaps and Secrets, those of the folder; put \
                              what templates need into one of them";

/// Reads references; `language` is what names and namespaces are written in. What is wrong with them by themselves is added
/// to the problems.
pub(super) fn read(
    place: &Place,
    refs: &[TemplateResourceRef],
    language: Language,
    problems: &mut Vec<Problem>,
) -> Vec<ResourceRef> {
    let mut read = Vec::with_capacity(refs.len());
    for (index, reference) in refs.iter().enumerate() {
        let pointer = join(FIELD, &index.to_string());
        let mut invalid = |field: &str, reason: String| {
            problems.push(place.problem(&format!("{pointer}/{field}"), Fault::Invalid, reason));
        };
        let TemplateResourceRef { identifier, resource, optional } = reference;
        if !is_identifier(identifier) {
            let reason = "must be at most 63 letters, digits, _ and -, and begin with a letter or _";
            invalid("identifier", format!("{identifier:?} {reason}"));
        } else if refs.iter().take(index).any(|other| other.identifier == *identifier) {
            invalid("identifier", format!("{identifier} is used twice; each needs one of its own"));
        }
        let (group, version) = resource.api_version.split_once('/').unwrap_or(("", &resource.api_version));
        let group = if group.is_empty() { Ok(()) } else { names::dns_subdomain(group) };
        if let Err(why) = group.and_then(|()| names::version(version)) {
            let reason = format!("{:?} is no group and version: it {why}", resource.api_version);
            invalid("resource/apiVersion", reason);
        }
        if let Err(why) = names::kind(&resource.kind) {
            invalid("resource/kind", format!("{:?} {why}", resource.kind));
        }
        let namespace = resource.namespace.as_deref();
        let rules = [("namespace", namespace, names::dns_label as fn(&str) -> _)];
        let rules = rules.into_iter().chain([("name", Some(&*resource.name), names::path_segment as _)]);
        for (field, text, rule) in rules {
            if let Some(Err(why)) = text.filter(|text| !is_template(text)).map(rule) {
                invalid(&format!("resource/{field}"), format!("{:?} {why}", text.unwrap_or_default()));
            }
        }
        read.push(ResourceRef {
            identifier: identifier.as_str().into(),
            api_version: resource.api_version.as_str().into(),
            kind: resource.kind.as_str().into(),
            namespace: namespace.map(Into::into),
            name: resource.name.as_str().into(),
            language,
            optional: *optional,
        });
    }
    read
}

fn is_identifier(text: &str) -> bool {
    let rest = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(rest)
}

fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag))
}

/// Tells, in a folder, what can never be found there; and what is not there, as far as that can be told without rendering.
pub(super) fn tell(place: &Place, refs: &[ResourceRef], known: &Resources, problems: &mut Vec<Problem>) {
    if place.location == Location::Api {
        return;
    }
    for (index, reference) in refs.iter().enumerate() {
        let pointer = join(FIELD, &index.to_string());
        let kind = (&*reference.api_version, &*reference.kind);
        if !IN_FOLDERS.contains(&kind) {
            let pointer = format!("{pointer}/resource/kind");
            let reason = format!("{} of {} cannot be had: {NOT_IN_FOLDERS}", kind.1, kind.0);
            problems.push(place.problem(&pointer, Fault::MissingReference, reason));
            continue;
        }
        let Some(namespace) = reference.namespace.as_ref().filter(|namespace| !is_template(namespace)) else {
            continue;
        };
        if reference.optional || is_template(&reference.name) {
            continue;
        }
        let id = ResourceId {
            api_version: Arc::clone(&reference.api_version),
            kind: Arc::clone(&reference.kind),
            namespace: Arc::clone(namespace),
            name: Arc::clone(&reference.name),
        };
        if known.look_up(&id) == fleet_core::resource::Lookup::Absent {
            let reason =
                format!("{id} does not exist; create it, correct the reference, or say optional: true in it");
            problems.push(place.problem(&pointer, Fault::MissingReference, reason));
        }
    }
}

/// What a folder has: its ConfigMaps and Secrets. What cannot be used has no good version; if `unread`, there may be more.
pub(super) fn of_folder(
    objects: &BTreeMap<ObjectId, Arc<Parsed>>,
    unusable: &BTreeMap<ObjectId, &'static str>,
    unread: bool,
) -> Resources {
    let named = |id: &ObjectId| ResourceId {
        api_version: "v1".into(),
        kind: id.kind.to_string().into(),
        namespace: id.namespace.clone().unwrap_or_else(|| "default".into()),
        name: Arc::clone(&id.name),
    };
    let usable = objects.iter().filter_map(|(id, object)| {
        Some((named(id), ResourceState::Found(Arc::clone(object.resource.as_ref()?))))
    });
    let is_referred = |id: &ObjectId| matches!(id.kind, Kind::ConfigMap | Kind::Secret);
    let broken = unusable.iter().filter(|(id, _)| is_referred(id)).map(|(id, why)| {
        (named(id), ResourceState::Unavailable(format!("it {why}; correct it first").into()))
    });
    let others = match unread {
        false => Others::Only { kinds: IN_FOLDERS, otherwise: NOT_IN_FOLDERS.into() },
        true => Others::Only {
            kinds: &[],
            otherwise: "it was not found, and not everything could be read; see the other problems".into(),
        },
    };
    Resources { known: usable.chain(broken).collect(), others }
}

/// A ConfigMap or Secret of a folder, as an API server would have it.
pub(super) fn as_served(id: &ObjectId, object: &Map<String, Value>) -> Resource {
    let mut object = object.clone();
    if let (Some(Value::Object(metadata)), Some(namespace)) = (object.get_mut("metadata"), &id.namespace) {
        metadata.insert("namespace".to_owned(), Value::from(&**namespace));
    }
    if let Some(Value::Object(texts)) = object.remove("stringData") {
        let data = object.entry("data").or_insert_with(|| Value::Object(Map::new()));
        if data.is_null() {
            *data = Value::Object(Map::new());
        }
        if let Value::Object(data) = data {
            for (key, text) in texts {
                let text = text.as_str().unwrap_or_default();
                data.insert(key, STANDARD.encode(text).into());
            }
        }
    }
    Resource::new(Value::Object(object))
}

/// What triggers may refer to, if any does: in a folder. In a management cluster that is watched for, one by one.
pub(super) fn known(
    objects: &BTreeMap<ObjectId, Arc<Parsed>>,
    unusable: &BTreeMap<ObjectId, &'static str>,
    unread: bool,
) -> Resources {
    let refers = |object: &Arc<Parsed>| {
        object.place.location != Location::Api
            && match &object.body {
                Ok(Body::Trigger(draft)) => draft.refers(),
                Ok(Body::Profile(draft)) => draft.refers(),
                _ => false,
            }
    };
    match objects.values().any(refers) {
        true => of_folder(objects, unusable, unread),
        false => Resources::default(),
    }
}
