//! One object of the inventory is taken away.

use std::sync::Arc;

use bytes::Bytes;
use fleet_core::apply::{InventoryItem, Outcome};
use fleet_core::manifest::ObjectRef;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::create::{being_deleted, keeps_changing};
use super::object::Object;
use super::{Run, of_reading};
use crate::client::{Call, Failure, JSON, Resource};

/// Deleting one of these would destroy a cluster, not a tenant.
const NEVER_DELETED: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

const TURNS: usize = 4;

impl Run<'_> {
    pub(super) async fn remove(
        &self,
        item: &InventoryItem,
        now: &(dyn Fn() -> Timestamp + Send + Sync),
    ) -> Result<Outcome, Failure> {
        let id = &item.object;
        let begun = now();
        let found = self.link.kinds.find_in_any_version(&self.link.client, &id.gvk, self.deadline).await;
        let Some(resource) = found.map_err(of_reading)? else {
            // The kind is gone, and its objects with it.
            return Ok(absent(item, begun));
        };
        if self.scope_fault(id, &resource).is_some() {
            // Refused when it was to be applied: there was never such an object.
            return Ok(Outcome::Gone);
        }
        let protected =
            &*id.gvk.kind == "Namespace" && id.gvk.group.is_empty() && NEVER_DELETED.contains(&&*id.name);
        let mut uid = item.uid.clone().filter(|_| !protected);
        for _ in 0..TURNS {
            if let Some(known) = uid.take() {
                match self.delete(id, &resource, &known).await {
                    Ok(Deleted::Going) => return Ok(being_deleted(id)),
                    // Accepted; now see what became of it.
                    Ok(Deleted::Accepted) => {}
                    Err(Failure::NotFound { .. } | Failure::UidMismatch) => {}
                    Err(failure) => return Err(failure),
                }
            }
            let begun = now();
            let Some(object) = self.look(id, &resource).await? else {
                return Ok(absent(item, begun));
            };
            let ours = object.mark() == Some(self.work.hash()) || item.uid.as_ref() == Some(object.uid());
            if !ours {
                // Whatever we made is not there any more. This is somebody else's, and stays.
                return Ok(absent(item, begun));
            }
            if protected {
                let reason = format!(
                    "namespace {} is never deleted; remove the label and what else is not wanted by hand",
                    id.name
                );
                return Ok(Outcome::Rejected { reason });
            }
            if object.is_going() {
                return Ok(being_deleted(id));
            }
            uid = Some(Arc::clone(object.uid()));
        }
        Ok(keeps_changing())
    }

    async fn delete(&self, id: &ObjectRef, resource: &Resource, uid: &str) -> Result<Deleted, Failure> {
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        });
        let call = Call {
            method: Method::DELETE,
            path: resource.object(id.namespace.as_deref(), &id.name),
            content_type: Some(JSON),
            accept: JSON,
            body: Bytes::from(options.to_string()),
            identity: self.identity,
        };
        let body = self.link.client.call(call, self.deadline).await?;
        // Either the object as it is being deleted, or a Status.
        let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
        let going = answer.kind != "Status" && Object::parse(&body).is_ok_and(|object| object.is_going());
        Ok(if going { Deleted::Going } else { Deleted::Accepted })
    }
}

enum Deleted {
    /// It is still there, with a deletionTimestamp.
    Going,
    /// It may be gone already.
    Accepted,
}

#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    kind: String,
}

/// Nothing of ours was there in a read that began at `begun`. That is proof only if no request without an answer can
/// still take effect.
fn absent(item: &InventoryItem, begun: Timestamp) -> Outcome {
    match item.uncertain_until {
        Some(until) if begun < until => Outcome::Waiting {
            reason: format!("a request without an answer may still create {} until {until}", item.object),
        },
        _ => Outcome::Gone,
    }
}
