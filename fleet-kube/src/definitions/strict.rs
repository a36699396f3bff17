//! Reading values to the letter: what is wrong is told with the field that it is in.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::object::{Fault, Place, Problem, join};

/// Reads a value into a type, and names the field that is in the way. The message shows what was found: not for Secrets.
pub(super) fn strict<T: DeserializeOwned + Serialize>(
    place: &Place,
    root: &str,
    value: &Value,
) -> Result<T, Problem> {
    let read: T = serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = error.path().iter().fold(root.to_owned(), |pointer, segment| match segment {
            Segment::Seq { index } => join(&pointer, &index.to_string()),
            Segment::Map { key } => join(&pointer, key),
            Segment::Enum { variant } => join(&pointer, variant),
            Segment::Unknown => pointer,
        });
        let mut reason = error.inner().to_string();
        let unquoted = ["integer", "floating point", "boolean"]
            .iter()
            .any(|found| reason.starts_with(&format!("invalid type: {found}")));
        if unquoted && reason.ends_with("expected a string") {
            reason.push_str("; quote it");
        }
        if reason.starts_with("invalid type: sequence, expected struct") {
            "is a list; a mapping was expected".clone_into(&mut reason);
        }
        if reason.contains("map with a single key") {
            "must be a mapping with exactly one key; write one item of the list for each"
                .clone_into(&mut reason);
        }
        place.problem(&pointer, Fault::Invalid, reason)
    })?;
    match serde_json::to_value(&read).ok().and_then(|read| list_for_mapping(root.to_owned(), value, &read)) {
        Some(pointer) => Err(place.problem(&pointer, Fault::Invalid, "is a list; a mapping was expected")),
        None => Ok(read),
    }
}

/// Where a list was read as a mapping: serde takes its elements for the fields in their order, and an empty selector
/// would select everything.
fn list_for_mapping(pointer: String, written: &Value, read: &Value) -> Option<String> {
    match (written, read) {
        (Value::Array(_), Value::Object(_)) => Some(pointer),
        (Value::Array(written), Value::Array(read)) => {
            written.iter().zip(read).enumerate().find_map(|(index, (written, read))| {
                list_for_mapping(join(&pointer, &index.to_string()), written, read)
            })
        }
        (Value::Object(written), Value::Object(read)) => written
            .iter()
            .find_map(|(key, written)| list_for_mapping(join(&pointer, key), written, read.get(key)?)),
        _ => None,
    }
}

/// Checks that exactly one of some fields of a mapping is set. A field that stands there with nothing after its colon
/// is null, which is as good as not there; people do not expect that.
pub(super) fn exactly_one(
    place: &Place,
    object: &Map<String, Value>,
    pointer: &str,
    fields: &[&str],
) -> Result<(), Problem> {
    let mut mapping = Some(object);
    for segment in pointer.split('/').skip(1) {
        mapping = mapping.and_then(|mapping| mapping.get(segment)?.as_object());
    }
    let found: Vec<(&str, bool)> =
        fields.iter().filter_map(|field| Some((*field, mapping?.get(*field)?.is_null()))).collect();
    let list = fields.join(", ");
    match found.as_slice() {
        [(_, false)] => Ok(()),
        [(field, true)] => {
            let reason = format!("is empty; write {field}: {{}} if there is nothing to set");
            Err(place.problem(&join(pointer, field), Fault::Invalid, reason))
        }
        [] => {
            Err(place.problem(pointer, Fault::Invalid, format!("exactly one of {list} must be set; none is")))
        }
        several => {
            let named: Vec<_> = several.iter().map(|(field, _)| *field).collect();
            let reason = format!("exactly one of {list} must be set; found {}", named.join(" and "));
            Err(place.problem(pointer, Fault::Invalid, reason))
        }
    }
}
