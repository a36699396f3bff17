//! Printing: one character for each value.

use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr};
use minijinja::{AutoEscape, Error, Output, State, Value};
use serde_json::Value as Json;

use super::environment::AUTO_ESCAPE;
use super::error::{refuse, refuse_value};
use super::scalar::scalar;
use crate::printed::{Sink, Slot};
use crate::render::TemplateFault;

/// The name of the [`Sink`] in the context. No template can spell it.
pub(super) const SINK: &str = "printed values";

/// An object of the context, so that formatter and filters find it.
impl Object for Sink {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// The sink of a rendering that is under way.
pub(super) fn sink_of(state: &mut State<'_, '_>) -> Result<Arc<Sink>, Error> {
    struct Found(Arc<Sink>);
    if let Some(Found(sink)) = state.get_extension::<Found>() {
        return Ok(Arc::clone(sink));
    }
    let sink = state
        .lookup(SINK)
        .and_then(|value| value.downcast_object::<Sink>())
        .ok_or_else(|| refuse(TemplateFault::Evaluation, "nothing can be printed here"))?;
    state.get_or_insert_extension(Found(Arc::clone(&sink)));
    Ok(sink)
}

/// The formatter: prints one character for a value, and printed text as it is.
pub(super) fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if !matches!(state.auto_escape(), AutoEscape::Custom(name) if name == AUTO_ESCAPE) {
        return Err(refuse(
            TemplateFault::Structure,
            "autoescape is not available; values are always safe to print",
        ));
    }
    if value.is_safe() {
        out.write_str(value.as_str().unwrap_or_default())?;
        return Ok(());
    }
    let sink = sink_of(state)?;
    let slot = match value.to_str().filter(|_| value.kind() == minijinja::value::ValueKind::String) {
        Some(text) => {
            sink.whole(&text)?;
            Slot::Text(text)
        }
        None => match scalar(value).map_err(|why| refuse_value(value, why))? {
            Json::String(text) => Slot::Text(text.into()),
            plain => Slot::Plain(plain),
        },
    };
    out.write_str(sink.put(slot)?.encode_utf8(&mut [0; 4]))?;
    Ok(())
}
