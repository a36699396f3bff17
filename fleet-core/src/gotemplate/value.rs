//! What templates compute with. Lists and mappings live in a [`Heap`] that ends with the rendering: what a template
//! changes (`set`) is its own, and a mapping that holds itself leaks nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use regex::Regex;
use serde_json::{Number, Value as Json};

use crate::printed::{LONGEST, Planes, Refusal, Tree};
use crate::render::TemplateFault;
use crate::yaml;

/// What a rendering may cost: one for each node, argument and item, and for each 64 bytes of text.
const STEPS: usize = 1_000_000;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    /// Within the range of `i64` and `u64`.
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Printed(Printed),
    List(ListId),
    Map(MapId),
}

/// Text that was printed: characters in it stand for values. It can be printed, indented and trimmed; nothing can look into
/// it.
#[derive(Clone, Debug)]
pub(super) struct Printed {
    pub(super) text: Arc<str>,
    /// The same with the values in it, for functions that make of it a value that is no structure (`toJson . | b64enc`).
    pub(super) plain: Option<Arc<str>>,
}

/// A list of the heap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ListId(usize);

/// A mapping of the heap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MapId(usize);

/// The entries of a mapping, in the order in which Go ranges over them.
pub(super) type Entries = BTreeMap<Arc<str>, Value>;

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// What it is, as errors and `kindOf` name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "invalid",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int64",
            Self::Float(_) => "float64",
            Self::Text(_) | Self::Printed(_) => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
        }
    }

    /// What it is, for people.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::Printed(_) => "text that was printed before",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// The lists and mappings of one rendering, and what it may still cost.
#[derive(Debug)]
pub(super) struct Heap {
    lists: Vec<Vec<Value>>,
    maps: Vec<Entries>,
    steps: usize,
    /// The regular expressions that were compiled, by how they are written.
    pub(super) expressions: HashMap<Arc<str>, Regex>,
    /// The objects of the management cluster, by identifier.
    pub(super) resources: Option<Value>,
}

impl Default for Heap {
    fn default() -> Self {
        Self {
            lists: Vec::new(),
            maps: Vec::new(),
            steps: STEPS,
            expressions: HashMap::new(),
            resources: None,
        }
    }
}

impl Heap {
    /// Pays for work.
    pub(super) fn charge(&mut self, steps: usize) -> Result<(), Refusal> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(Refusal::new(
                TemplateFault::Limit,
                "the template does too much work; make its loops shorter or split it",
            )),
        }
    }

    /// Pays for a text before it is made.
    pub(super) fn charge_text(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes > LONGEST {
            return Err(Refusal::new(
                TemplateFault::Limit,
                format!("a text becomes longer than {LONGEST} bytes"),
            ));
        }
        self.charge(1 + bytes / 64)
    }

    pub(super) fn text(&mut self, text: impl Into<Arc<str>>) -> Result<Value, Refusal> {
        let text = text.into();
        self.charge_text(text.len())?;
        Ok(Value::Text(text))
    }

    pub(super) fn list(&mut self, items: Vec<Value>) -> Result<Value, Refusal> {
        self.charge(1 + items.len())?;
        Ok(self.put_list(items))
    }

    pub(super) fn map(&mut self, entries: Entries) -> Result<Value, Refusal> {
        self.charge(1 + entries.len())?;
        Ok(self.put_map(entries))
    }

    fn put_list(&mut self, items: Vec<Value>) -> Value {
        self.lists.push(items);
        Value::List(ListId(self.lists.len() - 1))
    }

    fn put_map(&mut self, entries: Entries) -> Value {
        self.maps.push(entries);
        Value::Map(MapId(self.maps.len() - 1))
    }

    pub(super) fn items(&self, list: ListId) -> &[Value] {
        self.lists.get(list.0).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn entries(&self, map: MapId) -> &Entries {
        static NONE: Entries = BTreeMap::new();
        self.maps.get(map.0).unwrap_or(&NONE)
    }

    pub(super) fn set(&mut self, map: MapId, key: Arc<str>, value: Value) -> Result<(), Refusal> {
        self.charge(1)?;
        if let Some(entries) = self.maps.get_mut(map.0) {
            entries.insert(key, value);
        }
        Ok(())
    }

    pub(super) fn unset(&mut self, map: MapId, key: &str) {
        if let Some(entries) = self.maps.get_mut(map.0) {
            entries.remove(key);
        }
    }

    /// Whether a condition with it holds, as in Go.
    pub(super) fn truth(&self, value: &Value) -> bool {
        match value {
            Value::Nil => false,
            Value::Bool(flag) => *flag,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) | Value::Printed(Printed { text, .. }) => !text.is_empty(),
            Value::List(list) => !self.items(*list).is_empty(),
            Value::Map(map) => !self.entries(*map).is_empty(),
        }
    }

    /// Takes in JSON, and looks at every text of it. Costs nothing: its size is bounded where it comes from.
    pub(super) fn take_in(&mut self, value: Json, planes: &mut Planes) -> Value {
        match value {
            Json::Null => Value::Nil,
            Json::Bool(flag) => Value::Bool(flag),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number.into()),
                (None, Some(number)) => Value::Int(number.into()),
                (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => {
                planes.see(&text);
                Value::Text(text.into())
            }
            Json::Array(items) => {
                let items = items.into_iter().map(|item| self.take_in(item, planes)).collect();
                self.put_list(items)
            }
            Json::Object(entries) => {
                let entries = entries.into_iter().map(|(key, value)| {
                    planes.see(&key);
                    (Arc::from(key), self.take_in(value, planes))
                });
                let entries = entries.collect();
                self.put_map(entries)
            }
        }
    }

    /// The value with its structure, keys sorted.
    pub(super) fn tree(&mut self, value: &Value) -> Result<Tree, Refusal> {
        self.tree_at(value, 0)
    }

    fn tree_at(&mut self, value: &Value, depth: usize) -> Result<Tree, Refusal> {
        self.charge(1)?;
        self.shallow(depth)?;
        Ok(match value {
            Value::List(list) => {
                let items = self.items(*list).to_vec();
                Tree::List(items.iter().map(|item| self.tree_at(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Value::Map(map) => {
                let entries = self.entries(*map).clone();
                let entries =
                    entries.iter().map(|(key, item)| Ok((key.to_string(), self.tree_at(item, depth + 1)?)));
                Tree::Map(entries.collect::<Result<_, Refusal>>()?)
            }
            scalar => {
                if let Value::Text(text) = scalar {
                    self.charge(text.len() / 64)?;
                }
                Tree::Leaf(json_scalar(scalar)?)
            }
        })
    }

    /// A copy that shares nothing that could change.
    pub(super) fn copy(&mut self, value: &Value) -> Result<Value, Refusal> {
        self.copy_at(value, 0)
    }

    fn copy_at(&mut self, value: &Value, depth: usize) -> Result<Value, Refusal> {
        self.shallow(depth)?;
        match value {
            Value::List(list) => {
                let items = self.items(*list).to_vec();
                let items =
                    items.iter().map(|item| self.copy_at(item, depth + 1)).collect::<Result<_, _>>()?;
                self.list(items)
            }
            Value::Map(map) => {
                let entries = self.entries(*map).clone();
                let entries =
                    entries.into_iter().map(|(key, item)| Ok((key, self.copy_at(&item, depth + 1)?)));
                let entries = entries.collect::<Result<_, Refusal>>()?;
                self.map(entries)
            }
            scalar => Ok(scalar.clone()),
        }
    }

    /// Whether two values are the same all through, of the same kinds.
    pub(super) fn same(&mut self, one: &Value, other: &Value) -> Result<bool, Refusal> {
        self.same_at(one, other, 0)
    }

    fn same_at(&mut self, one: &Value, other: &Value, depth: usize) -> Result<bool, Refusal> {
        self.charge(1)?;
        self.shallow(depth)?;
        Ok(match (one, other) {
            (Value::Nil, Value::Nil) => true,
            (Value::Bool(one), Value::Bool(other)) => one == other,
            (Value::Int(one), Value::Int(other)) => one == other,
            #[allow(clippy::float_cmp)]
            (Value::Float(one), Value::Float(other)) => one == other,
            (Value::Text(one), Value::Text(other)) => {
                self.charge(one.len() / 64)?;
                one == other
            }
            (Value::List(one), Value::List(other)) => {
                self.charge(self.items(*one).len().saturating_add(self.items(*other).len()))?;
                let (one, other) = (self.items(*one).to_vec(), self.items(*other).to_vec());
                if one.len() != other.len() {
                    return Ok(false);
                }
                for (one, other) in one.iter().zip(&other) {
                    if !self.same_at(one, other, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Map(one), Value::Map(other)) => {
                self.charge(self.entries(*one).len().saturating_add(self.entries(*other).len()))?;
                let (one, other) = (self.entries(*one).clone(), self.entries(*other).clone());
                if !one.keys().eq(other.keys()) {
                    return Ok(false);
                }
                for (one, other) in one.values().zip(other.values()) {
                    if !self.same_at(one, other, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => false,
        })
    }

    fn shallow(&self, depth: usize) -> Result<(), Refusal> {
        if depth <= yaml::MAX_DEPTH {
            return Ok(());
        }
        let reason = format!("a value nests deeper than {} levels", yaml::MAX_DEPTH);
        Err(Refusal::new(TemplateFault::Limit, reason))
    }
}

/// A nil, boolean, number or string as JSON. A whole float is a whole number, as Go's JSON has it.
pub(super) fn json_scalar(value: &Value) -> Result<Json, Refusal> {
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => return Err(no_json()),
        },
        Value::Float(number) => match whole(*number) {
            Some(number) => number.into(),
            None => Number::from_f64(*number).map(Json::Number).ok_or_else(no_json)?,
        },
        Value::Text(text) => Json::String(text.as_ref().to_owned()),
        other => {
            let reason = format!("{} stands where a plain value is needed", other.what());
            return Err(Refusal::new(TemplateFault::Structure, reason));
        }
    })
}

/// The integer that a float is.
pub(super) fn whole(number: f64) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    #[allow(clippy::cast_possible_truncation)]
    (number.fract() == 0.0 && number.abs() < BEYOND).then_some(number as i64)
}

fn no_json() -> Refusal {
    Refusal::new(TemplateFault::Output, "JSON cannot hold this number")
}
