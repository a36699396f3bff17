//! Values that can be printed as such.

use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::{Number, Value as Json};

use crate::render::TemplateFault;

/// A value as a JSON scalar.
///
/// # Errors
/// For undefined, null, lists and mappings. The reason does not show the value.
pub(super) fn scalar(value: &Value) -> Result<Json, (TemplateFault, String)> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().into()),
        ValueKind::Bool => Ok(value.is_true().into()),
        ValueKind::Number => {
            let number = if !value.is_integer() {
                f64::try_from(value.clone()).ok().and_then(Number::from_f64)
            } else if let Some(number) = value.as_i64() {
                Some(number.into())
            } else {
                u64::try_from(value.clone()).ok().map(Number::from)
            };
            let fault = || (TemplateFault::Output, "JSON cannot hold this number".to_owned());
            number.map(Json::Number).ok_or_else(fault)
        }
        ValueKind::Undefined => Err((TemplateFault::Undefined, String::new())),
        ValueKind::None => Err(no_text("null")),
        ValueKind::Seq | ValueKind::Iterable => Err(no_text("a list")),
        ValueKind::Map => Err(no_text("a mapping")),
        ValueKind::Bytes => Err(no_text("bytes")),
        _ => Err((
            TemplateFault::Structure,
            "this is not a value, and cannot be printed; is a call missing?".to_owned(),
        )),
    }
}

/// A value as the text that it is within a larger text.
pub(super) fn text_of(value: &Value) -> Result<String, (TemplateFault, String)> {
    Ok(match scalar(value)? {
        Json::String(text) => text,
        other => other.to_string(),
    })
}

fn no_text(what: &str) -> (TemplateFault, String) {
    let how = match what {
        "null" => "give a value instead with default(\"…\", true), or print it with tojson",
        _ => "print what is in it, or all of it with tojson or toyaml",
    };
    (TemplateFault::Structure, format!("{what} is printed where a text, number or boolean is needed; {how}"))
}
