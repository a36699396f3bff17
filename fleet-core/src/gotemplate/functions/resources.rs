//! Objects of the management cluster, by their identifiers, as Sveltos looks them up.

use std::sync::Arc;

use super::{Args, Call, Function, function};
use crate::gotemplate::value::Value;
use crate::printed::Refusal;

pub(super) const FUNCTIONS: &[Function] =
    &[function(LOOK_UP[0], 1, 1, |call, args| resource(call, args)), function(LOOK_UP[1], 2, 2, field)];

/// Those that look something up.
pub(in crate::gotemplate) const LOOK_UP: [&str; 2] = ["getResource", "getField"];

/// The object; nil if it is optional and does not exist. Sveltos takes an object, too, where it renders with an event.
fn resource(call: &Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    if let Value::Map(_) = args.get(0) {
        return Ok(args.get(0).clone());
    }
    let identifier = args.text(0)?;
    let found = match &call.heap.resources {
        Some(Value::Map(resources)) => call.heap.entries(*resources).get(identifier).cloned(),
        _ => None,
    };
    found.ok_or_else(|| args.wrong("there is no such identifier in templateResourceRefs"))
}

/// A field of it by its path, or an empty string.
fn field(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let mut value = resource(call, args)?;
    let path: &Arc<str> = args.text(1)?;
    for name in path.split('.') {
        call.heap.charge(1)?;
        value = match value {
            Value::Map(map) => call.heap.entries(map).get(name).cloned().unwrap_or(Value::text("")),
            _ => return Ok(Value::text("")),
        };
    }
    Ok(value)
}
