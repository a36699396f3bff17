//! What an expression sees.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use ::cel::common::ast::IdedExpr;
use ::cel::objects::{Key, Map as CelMap};
use ::cel::{Context, ExecutionError, Value as CelValue};
use serde_json::{Map, Value};

/// The functions of the language. Putting them together costs more than evaluating most expressions.
static FUNCTIONS: LazyLock<Context<'static, 'static>> = LazyLock::new(Context::default);

/// The values of variables, converted once for all expressions that are asked about them.
pub struct Scope {
    context: Context<'static, 'static>,
    longest: usize,
}

impl Scope {
    /// A scope of objects by the names of variables.
    pub fn new<'v>(variables: impl IntoIterator<Item = (&'static str, &'v Map<String, Value>)>) -> Self {
        let mut longest = 0;
        let mut context = FUNCTIONS.new_inner_scope();
        for (name, object) in variables {
            context.add_variable_from_value(name, map(object, &mut longest));
        }
        Self { context, longest }
    }

    /// The length of the longest list or map in it.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    pub(super) fn resolve(&self, expression: &IdedExpr) -> Result<CelValue, ExecutionError> {
        CelValue::resolve(expression, &self.context)
    }
}

/// What is in it may be a Secret's.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scope")
    }
}

/// The library's own conversion makes positive numbers unsigned, which arithmetic does not mix with signed ones.
fn value(value: &Value, longest: &mut usize) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(is) => CelValue::Bool(*is),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(signed), ..) => CelValue::Int(signed),
            (None, Some(unsigned), _) => CelValue::UInt(unsigned),
            (None, None, float) => CelValue::Float(float.unwrap_or(f64::NAN)),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => {
            *longest = items.len().max(*longest);
            CelValue::List(Arc::new(items.iter().map(|item| self::value(item, longest)).collect()))
        }
        Value::Object(fields) => map(fields, longest),
    }
}

fn map(fields: &Map<String, Value>, longest: &mut usize) -> CelValue {
    *longest = fields.len().max(*longest);
    let entries = fields.iter().map(|(name, field)| (Key::from(name.clone()), value(field, longest)));
    CelValue::Map(CelMap { map: Arc::new(entries.collect::<HashMap<_, _>>()) })
}
