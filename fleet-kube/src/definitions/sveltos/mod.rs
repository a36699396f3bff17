//! Sveltos' own manifests, taken as they are: `EventSource`, `EventTrigger` and `SveltosCluster` of group
//! `lib.projectsveltos.io`, `ClusterProfile` of group `config.projectsveltos.io`, version `v1beta1`.
//!
//! Each becomes what the manifest of ours becomes that means the same. What has no such meaning is refused by name: a
//! field that is known and not supported is told apart from one that nobody knows.

mod cluster;
mod payload;
mod profile;
mod source;
mod trigger;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::object::{Fault, Kind, Place, Problem, join};
use super::parse::strict;

pub(super) use cluster::cluster;
pub(super) use profile::profile;
pub(super) use source::source;
pub(super) use trigger::trigger;

/// The group of profiles, with its version.
pub(super) const CONFIG: &str = "config.projectsveltos.io/v1beta1";
/// The group of everything else, with its version.
pub(super) const LIB: &str = "lib.projectsveltos.io/v1beta1";

/// A ConfigMap or Secret with this annotation holds Lua.
pub(super) const LUA: &str = "projectsveltos.io/lua";

/// The kinds, with group and version.
pub(super) const KINDS: [(&str, &[(&str, Kind)]); 2] = [
    (
        LIB,
        &[
            ("EventSource", Kind::EventSource),
            ("EventTrigger", Kind::EventTrigger),
            ("SveltosCluster", Kind::Cluster),
        ],
    ),
    (CONFIG, &[("ClusterProfile", Kind::ClusterProfile)]),
];

/// An object, as Kubernetes' `ObjectReference` names it, as far as anybody reads it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

/// A field that Sveltos has and that has no meaning here.
type Unsupported = (&'static str, &'static str);

/// Reads a mapping: the fields of `T`, and none that is not supported.
fn fields<T: DeserializeOwned + Serialize>(
    place: &Place,
    pointer: &str,
    value: Option<&Value>,
    unsupported: &[Unsupported],
) -> Result<T, Vec<Problem>> {
    let value = supported(place, pointer, value, unsupported)?.unwrap_or_else(|| Value::Object(Map::new()));
    strict(place, pointer, &value).map_err(|problem| vec![problem])
}

/// A mapping without what is not supported, as long as that says nothing.
fn supported(
    place: &Place,
    pointer: &str,
    value: Option<&Value>,
    unsupported: &[Unsupported],
) -> Result<Option<Value>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut value = value.filter(|value| !value.is_null()).cloned();
    if let Some(Value::Object(fields)) = &mut value {
        for (field, why) in unsupported {
            match fields.remove(*field) {
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(Value::Array(items)) if items.is_empty() => {}
                Some(Value::String(text)) if text.is_empty() => {}
                Some(_) => {
                    let reason = format!("of Sveltos is not supported: {why}");
                    problems.push(place.problem(&join(pointer, field), Fault::NotSupported, reason));
                }
            }
        }
    }
    if problems.is_empty() { Ok(value) } else { Err(problems) }
}
