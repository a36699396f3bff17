//! What a release consists of in the cluster, and what of it is helm's: the state that drift is told from.

use std::sync::Arc;

use fleet_core::apply::Identity;
use fleet_core::manifest::ObjectRef;
use fleet_core::observe::Owned;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::live::{self, Content, Revision};
use crate::applier::object::{METADATA, Object};
use crate::client::{Call, Failure};
use crate::clusters::Link;

/// The field manager that helm writes as.
pub(super) const HELM: &str = "helm";
/// So many objects are looked at at a time.
const AT_A_TIME: usize = 16;

/// Which of the fields of a release's objects are helm's, by kind, namespace and name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parts(Map<String, Value>);

/// A part of a release: where its object is, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) object: ObjectRef,
    /// Its namespace, or the release's if it names none: also of what has none.
    pub(super) namespace: Arc<str>,
}

impl Parts {
    /// Takes in a part, and which fields of it are helm's; none if it is not there.
    pub(super) fn add(&mut self, part: &Part, fields: Option<Value>) {
        let gvk = &part.object.gvk;
        let kind =
            if gvk.group.is_empty() { gvk.kind.to_string() } else { format!("{}.{}", gvk.kind, gvk.group) };
        let mut within = &mut self.0;
        for name in [kind.as_str(), &part.namespace] {
            let inner = within.entry(format!("f:{name}")).or_insert_with(|| json!({}));
            let Value::Object(inner) = inner else { return };
            within = inner;
        }
        within.insert(format!("f:{}", part.object.name), fields.unwrap_or(Value::Null));
    }

    /// All that is ours of a release, so that `/objects/Deployment.apps/NAMESPACE/NAME/spec/replicas` names a field in it.
    pub(super) fn owned(self, revision: &Revision) -> Owned {
        let release = json!({"f:revision": revision.number.to_string(), "f:status": revision.status});
        Owned(Arc::new(json!({"f:release": release, "f:objects": self.0})))
    }
}

/// The parts of a release.
pub(super) fn parts(content: &Content, namespace: &str) -> Vec<Part> {
    let objects = live::objects(&content.manifest);
    let part = |object: ObjectRef| Part {
        namespace: object.namespace.clone().unwrap_or_else(|| namespace.into()),
        object,
    };
    objects.iter().filter_map(live::name_of).map(part).collect()
}

/// Looks at each part of a release. Also gives the latest resourceVersion that was seen, of the release or a part.
pub(super) async fn look(
    link: &Link,
    revision: &Revision,
    parts: Vec<Part>,
    identity: Option<&Identity>,
    deadline: Instant,
) -> Result<(Parts, Option<u64>), Failure> {
    let looks = parts.into_iter().map(|part| async move {
        let object = find(link, &part, identity, deadline).await?;
        Ok::<_, Failure>((part, object))
    });
    let seen: Vec<_> = futures::stream::iter(looks).buffer_unordered(AT_A_TIME).try_collect().await?;
    let mut all = Parts::default();
    let mut latest = number(&revision.version);
    for (part, object) in seen {
        latest = latest.max(object.as_ref().and_then(Object::version).and_then(|version| number(version)));
        all.add(&part, object.map(|object| object.owned_by(HELM)));
    }
    Ok((all, latest))
}

async fn find(
    link: &Link,
    part: &Part,
    identity: Option<&Identity>,
    deadline: Instant,
) -> Result<Option<Object>, Failure> {
    let found = link.kinds.find(&link.client, &part.object.gvk, deadline).await.map_err(live::of_reading)?;
    let Some(resource) = found else { return Ok(None) };
    let namespace = resource.namespaced.then_some(&*part.namespace);
    let path = resource.object(namespace, &part.object.name);
    let call = Call { accept: METADATA, identity, ..Call::get(path) };
    match link.client.call(call, deadline).await {
        Ok(body) => Object::parse(&body).map(Some).map_err(live::of_reading),
        Err(Failure::NotFound { .. } | Failure::NoSuchPath) => Ok(None),
        Err(failure) => Err(live::of_reading(failure)),
    }
}

/// A resourceVersion as a number: of those of one etcd the later one is higher.
pub(super) fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}
