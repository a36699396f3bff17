//! Lists and watches as the API writes them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Reader;
use crate::client::Failure;

/// One page of a list.
pub(crate) struct Page<T> {
    pub(crate) objects: Vec<T>,
    /// The token for the next page.
    pub(crate) next: Option<String>,
    /// What the list is as of.
    pub(crate) version: Arc<str>,
}

/// One line of a watch.
pub(crate) enum Event<T> {
    Told(T, Option<Arc<str>>),
    /// Nothing else has happened up to this version.
    Bookmark(Arc<str>),
    /// The server has forgotten where the watch stood.
    Expired,
    /// Nothing that matters.
    Other,
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: Arc<str>,
    #[serde(default)]
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: ListMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

pub(crate) fn page<R: Reader>(reader: &R, body: &[u8]) -> Result<Page<R::Told>, Failure> {
    let list: List<'_> = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let items = list.items.unwrap_or_default();
    let told = items.into_iter().filter_map(|object| reader.there(object).transpose());
    Ok(Page {
        objects: told.map(|told| told.map(|(told, _)| told)).collect::<Result<_, _>>()?,
        next: list.metadata.r#continue.filter(|token| !token.is_empty()),
        version: list.metadata.resource_version,
    })
}

pub(crate) fn event<R: Reader>(reader: &R, line: &[u8]) -> Result<Event<R::Told>, Failure> {
    if line.trim_ascii().is_empty() {
        return Ok(Event::Other);
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(|_| unreadable())?;
    let told = match line.r#type {
        "ADDED" | "MODIFIED" => reader.there(line.object)?,
        // Also for one that is not selected any more.
        "DELETED" => reader.gone(line.object)?,
        "BOOKMARK" => {
            let bookmark: Bookmark = parse(line.object)?;
            return Ok(Event::Bookmark(bookmark.metadata.resource_version));
        }
        "ERROR" => match parse(line.object)? {
            Status { code: 410, .. } => return Ok(Event::Expired),
            Status { code, message } => {
                return Err(Failure::NoAnswer {
                    reason: format!("the API server ended the watch with {code}: {message}"),
                });
            }
        },
        _ => None,
    };
    Ok(told.map_or(Event::Other, |(told, version)| Event::Told(told, version)))
}

/// Reads one of these.
pub(crate) fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(raw.get()).map_err(|_| unreadable())
}

/// What cannot be read.
pub(crate) fn unreadable() -> Failure {
    Failure::NoAnswer { reason: "what the API server tells of objects cannot be understood".to_owned() }
}
