//! `tojson` and `toyaml`.

use std::sync::Arc;

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};
use serde_json::Value as Json;

use super::error::{refuse, refuse_value};
use super::filters::printed_text;
use super::print::sink_of;
use super::scalar::{scalar, text_of};
use crate::printed::{Sink, Tree};
use crate::render::TemplateFault;
use crate::yaml;

/// A value as JSON in one line.
pub(super) fn tojson(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let reader = Reader::new(state, "tojson")?;
    let tree = reader.tree(value, 0)?;
    Ok(Value::from_safe_string(tree.json(&reader.sink)?))
}

/// A value as YAML in block style, without a line break at the end.
pub(super) fn toyaml(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let reader = Reader::new(state, "toyaml")?;
    let tree = reader.tree(value, 0)?;
    Ok(Value::from_safe_string(tree.yaml(&reader.sink)?))
}

/// Takes values apart.
struct Reader<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    sink: Arc<Sink>,
    filter: &'static str,
}

impl<'s, 't, 'e> Reader<'s, 't, 'e> {
    fn new(state: &'s mut State<'t, 'e>, filter: &'static str) -> Result<Self, Error> {
        let sink = sink_of(state)?;
        Ok(Self { state, sink, filter })
    }

    fn tree(&self, value: &Value, depth: usize) -> Result<Tree, Error> {
        self.state.consume_fuel(1)?;
        if depth > yaml::MAX_DEPTH {
            return Err(refuse(
                TemplateFault::Limit,
                format!("the value nests deeper than {} levels", yaml::MAX_DEPTH),
            ));
        }
        if value.is_safe() {
            return Err(printed_text(self.filter));
        }
        Ok(match value.kind() {
            ValueKind::Map => {
                let entry = |key: Value| {
                    let item = value.get_item(&key)?;
                    Ok((self.key(&key)?, self.tree(&item, depth + 1)?))
                };
                Tree::Map(value.try_iter()?.map(entry).collect::<Result<_, Error>>()?)
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| self.tree(&item, depth + 1));
                Tree::List(items.collect::<Result<_, _>>()?)
            }
            ValueKind::None => Tree::Leaf(Json::Null),
            _ => {
                let leaf = scalar(value).map_err(|why| refuse_value(value, why))?;
                if let Json::String(text) = &leaf {
                    self.sink.whole(text)?;
                    self.state.consume_fuel(text.len() as u64 / 64)?;
                }
                Tree::Leaf(leaf)
            }
        })
    }

    fn key(&self, key: &Value) -> Result<String, Error> {
        if key.is_safe() {
            return Err(printed_text(self.filter));
        }
        let text = text_of(key).map_err(|why| refuse_value(key, why))?;
        self.sink.whole(&text)?;
        Ok(text)
    }
}
