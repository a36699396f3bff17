//! `tojson` and `toyaml`: they print the punctuation of a value as text, and each key and leaf as a character that
//! stands for it.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};
use serde_json::Value as Json;

use super::error::{refuse, refuse_value};
use super::fill;
use super::filters::printed_text;
use super::printed::{Sink, Slot};
use crate::render::TemplateFault;
use crate::yaml;

/// A value as JSON in one line. `: ` and `, ` keep their spaces: without them YAML would read one scalar.
pub(super) fn tojson(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let mut writer = Writer::new(state, "tojson")?;
    writer.json(value, 0)?;
    writer.finish()
}

/// A value as YAML in block style, without a line break at the end.
pub(super) fn toyaml(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let mut writer = Writer::new(state, "toyaml")?;
    writer.yaml(value, 0, true)?;
    writer.finish()
}

struct Writer<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    sink: std::sync::Arc<Sink>,
    filter: &'static str,
    text: String,
}

impl<'s, 't, 'e> Writer<'s, 't, 'e> {
    fn new(state: &'s mut State<'t, 'e>, filter: &'static str) -> Result<Self, Error> {
        let sink = Sink::of(state)?;
        Ok(Self { state, sink, filter, text: String::new() })
    }

    fn finish(self) -> Result<Value, Error> {
        Ok(Value::from_safe_string(self.text))
    }

    fn json(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match self.enter(value, depth)? {
            Part::Leaf(leaf) => self.put(Slot::Leaf(leaf))?,
            Part::List => {
                self.text.push('[');
                for (index, item) in value.try_iter()?.enumerate() {
                    if index > 0 {
                        self.text.push_str(", ");
                    }
                    self.json(&item, depth + 1)?;
                }
                self.text.push(']');
            }
            Part::Map => {
                self.text.push('{');
                for (index, key) in value.try_iter()?.enumerate() {
                    if index > 0 {
                        self.text.push_str(", ");
                    }
                    self.key(&key)?;
                    self.text.push_str(": ");
                    self.json(&value.get_item(&key)?, depth + 1)?;
                }
                self.text.push('}');
            }
        }
        Ok(())
    }

    /// `here` says that the value begins where a line, or a list item's dash, has just been written.
    fn yaml(&mut self, value: &Value, depth: usize, here: bool) -> Result<(), Error> {
        match self.enter(value, depth)? {
            Part::Leaf(leaf) => {
                self.space_unless(here);
                self.put(Slot::Leaf(leaf))?;
            }
            _ if value.len() == Some(0) => {
                self.space_unless(here);
                self.text.push_str(if value.kind() == ValueKind::Map { "{}" } else { "[]" });
            }
            Part::List => {
                for (index, item) in value.try_iter()?.enumerate() {
                    self.line_unless(here && index == 0, depth);
                    self.text.push_str("- ");
                    self.yaml(&item, depth + 1, true)?;
                }
            }
            Part::Map => {
                for (index, key) in value.try_iter()?.enumerate() {
                    self.line_unless(here && index == 0, depth);
                    self.key(&key)?;
                    self.text.push(':');
                    self.yaml(&value.get_item(&key)?, depth + 1, false)?;
                }
            }
        }
        Ok(())
    }

    fn enter(&self, value: &Value, depth: usize) -> Result<Part, Error> {
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
        match value.kind() {
            ValueKind::Map => Ok(Part::Map),
            ValueKind::Seq | ValueKind::Iterable => Ok(Part::List),
            ValueKind::None => Ok(Part::Leaf(Json::Null)),
            _ => {
                let leaf = fill::scalar(value).map_err(|why| refuse_value(value, why))?;
                if let Json::String(text) = &leaf {
                    self.sink.whole(text)?;
                    self.state.consume_fuel(text.len() as u64 / 64)?;
                }
                Ok(Part::Leaf(leaf))
            }
        }
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        if key.is_safe() {
            return Err(printed_text(self.filter));
        }
        let text = fill::text_of(key).map_err(|why| refuse_value(key, why))?;
        self.sink.whole(&text)?;
        self.put(Slot::Key(text))
    }

    fn put(&mut self, slot: Slot) -> Result<(), Error> {
        self.text.push(self.sink.put(slot)?);
        Ok(())
    }

    fn space_unless(&mut self, here: bool) {
        if !here {
            self.text.push(' ');
        }
    }

    fn line_unless(&mut self, here: bool, depth: usize) {
        if !here {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n("  ", depth));
        }
    }
}

enum Part {
    Leaf(Json),
    List,
    Map,
}
