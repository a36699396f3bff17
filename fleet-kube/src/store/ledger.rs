//! Floors and epochs: one ConfigMap for each EventSource and each domain, compared and swapped by its resourceVersion,
//! always read as it is.

use std::collections::BTreeMap;

use fleet_core::position::{Domain, Position};
use fleet_core::store::StoreError;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::objects::{Objects, deadline, failed};
use super::record::hash;
use crate::client::Failure;

/// The label of our ConfigMaps and Secrets that says what they hold.
pub(super) const HOLDS: &str = "fleet-events.dev/holds";

/// One line of the ledger.
struct Line<'a> {
    /// `floors` or `epoch`.
    holds: &'static str,
    /// Of which EventSource or domain.
    of: &'a str,
}

#[derive(Deserialize)]
struct ConfigMap {
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

/// Where floors and epochs are kept.
#[derive(Debug)]
pub(super) struct Ledger {
    objects: Objects,
    collection: String,
}

impl Ledger {
    pub(super) fn new(objects: Objects, namespace: &str) -> Self {
        Self { objects, collection: format!("/api/v1/namespaces/{namespace}/configmaps") }
    }

    pub(super) async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError> {
        let line = Line { holds: "epoch", of: domain.as_str() };
        self.change(&line, |epoch: Option<u64>| {
            let next = epoch.unwrap_or_default().saturating_add(1);
            (Some(next), next)
        })
        .await
    }

    pub(super) async fn floors(&self, source: &str) -> Result<Vec<Position>, StoreError> {
        let line = Line { holds: "floors", of: source };
        let stored = self.read(&line, deadline()).await?;
        Ok(stored.map(|(floors, _)| floors).unwrap_or_default())
    }

    pub(super) async fn raise_floor(&self, source: &str, floor: &Position) -> Result<(), StoreError> {
        let line = Line { holds: "floors", of: source };
        self.change(&line, |floors: Option<Vec<Position>>| {
            let mut floors = floors.unwrap_or_default();
            match floors.iter_mut().find(|there| there.domain == floor.domain) {
                Some(there) if floor.is_above(there) => *there = floor.clone(),
                Some(_) => return (None, ()),
                None => floors.push(floor.clone()),
            }
            (Some(floors), ())
        })
        .await
    }

    /// Reads, has `decide` say what is to be written (if anything) and answered, and begins anew where somebody else
    /// wrote meanwhile.
    async fn change<T, A>(
        &self,
        line: &Line<'_>,
        decide: impl Fn(Option<T>) -> (Option<T>, A),
    ) -> Result<A, StoreError>
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        let deadline = deadline();
        loop {
            let (value, version) = self.read(line, deadline).await?.unzip();
            let (value, answer) = decide(value);
            let Some(value) = value else { return Ok(answer) };
            let text =
                serde_json::to_string(&value).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            let name = self.name(line);
            let object = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "labels": {(HOLDS): line.holds}, "resourceVersion": version},
                "data": {(line.holds): text, "of": line.of},
            });
            let sent = match version {
                Some(_) => {
                    let path = format!("{}/{name}", self.collection);
                    self.objects.send(Method::PUT, &path, &object, deadline).await
                }
                None => self.objects.send(Method::POST, &self.collection, &object, deadline).await,
            };
            match sent {
                Ok(()) => return Ok(answer),
                Err(Failure::AlreadyExists | Failure::Conflict { .. } | Failure::UidMismatch) => {}
                // It was deleted since it was read.
                Err(Failure::NotFound { resource, .. }) if resource == "configmaps" => {}
                Err(failure) => return Err(failed(line, failure)),
            }
        }
    }

    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        line: &Line<'_>,
        deadline: Instant,
    ) -> Result<Option<(T, String)>, StoreError> {
        let name = self.name(line);
        let path = format!("{}/{name}", self.collection);
        let Some(found) =
            self.objects.get::<ConfigMap>(&path, deadline).await.map_err(|failure| failed(line, failure))?
        else {
            return Ok(None);
        };
        let of = found.data.get("of").map(String::as_str);
        let value = found.data.get(line.holds).and_then(|text| serde_json::from_str(text).ok());
        match value {
            Some(value) if of == Some(line.of) => Ok(Some((value, found.metadata.resource_version))),
            _ => Err(StoreError::Corrupt(format!(
                "ConfigMap {name} does not hold {line}; it was edited: restore it, or delete it if that may begin anew"
            ))),
        }
    }

    fn name(&self, line: &Line<'_>) -> String {
        format!("fleet-{}-{}", line.holds, hash(line.of.as_bytes()))
    }
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} of {:?}", self.holds, self.of)
    }
}
