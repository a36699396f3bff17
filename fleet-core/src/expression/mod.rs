//! Expressions in CEL that are true or false: of an object, as a health check is, or of an event, as a
//! [filter](crate::filter::Filter) is.
//!
//! What one may cost is bounded when it is compiled: its length, how deep it is nested, how many loops it has; and when it is
//! asked: how many turns they take. It sees nothing but the variables it is given, and no clock.
//!
//! ```
//! use fleet_core::expression::{Expression, Scope};
//!
//! let is_ready = Expression::compile("resource.status.phase == 'Running'", &["resource"])?;
//! let pod = serde_json::json!({"status": {"phase": "Running"}});
//! let scope = Scope::new([("resource", pod.as_object().expect("an object"))]);
//! assert_eq!(is_ready.holds(&scope), Ok(true));
//! assert!(Expression::compile("resource.status.phase ==", &["resource"]).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod parse;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Weak};

use ::cel::{ExecutionError, Value as CelValue};
use parking_lot::Mutex;

use parse::Program;
pub use scope::Scope;

/// How many turns the loops of an expression may take, together with those around them.
const TURNS: usize = 100_000;

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    program: Arc<Program>,
}

/// Programs in use, so that what many definitions say, or what is read again, is compiled once.
static PROGRAMS: LazyLock<Mutex<HashMap<Said, Weak<Program>>>> = LazyLock::new(Mutex::default);

/// A text, and the variables that it may use.
type Said = (Arc<str>, &'static [&'static str]);

impl Expression {
    /// Compiles an expression over these variables. Takes some milliseconds, unless the same expression is in use already.
    ///
    /// # Errors
    /// When it is not one that gives true or false, speaks of anything but the variables, or is too large. The sentence says
    /// line and column.
    pub fn compile(text: &str, variables: &'static [&'static str]) -> Result<Self, InvalidExpression> {
        let said: Said = (text.into(), variables);
        if let Some(program) = PROGRAMS.lock().get(&said).and_then(Weak::upgrade) {
            return Ok(Self { text: said.0, program });
        }
        let program = Arc::new(Program::compile(text, variables).map_err(InvalidExpression)?);
        let this = Self { text: Arc::clone(&said.0), program };
        let mut programs = PROGRAMS.lock();
        if programs.len() == programs.capacity() {
            programs.retain(|_, program| program.strong_count() > 0);
        }
        programs.insert(said, Arc::downgrade(&this.program));
        Ok(this)
    }

    /// The text that it was compiled from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The fields of a variable that it looks at; `None` if that may be any.
    pub fn fields_of(&self, variable: &str) -> Option<&BTreeSet<String>> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        match self.program.reads.get(variable) {
            None => Some(&NONE),
            Some(fields) => fields.as_ref(),
        }
    }

    /// Whether it is true of what is in a scope.
    ///
    /// # Errors
    /// When it is neither true nor false.
    pub fn holds(&self, scope: &Scope) -> Result<bool, NoAnswer> {
        let loops = self.program.nested_loops;
        if loops > 0 && scope.longest().saturating_pow(loops) > TURNS {
            return Err(NoAnswer::TooLong);
        }
        match scope.resolve(&self.program.expression) {
            Ok(CelValue::Bool(is)) => Ok(is),
            Ok(_) => Err(NoAnswer::NotBoolean),
            Err(ExecutionError::NoSuchKey(_)) => Err(NoAnswer::NoField),
            Err(ExecutionError::IndexOutOfBounds(_)) => Err(NoAnswer::NoItem),
            Err(ExecutionError::NoSuchOverload(overload)) => Err(NoAnswer::Types {
                function: overload.function().to_owned(),
                types: overload.argument_types().join(", "),
            }),
            // Others quote values.
            Err(_) => Err(NoAnswer::Failed),
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why a text is no [`Expression`]: line and column, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidExpression(String);

/// Why an expression is neither true nor false of something, as a phrase that shows nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// It looks at a field that is not there.
    #[error("looks at a field that is not there (yet); guard it with has(...)")]
    NoField,
    /// It looks at an item of a list that is not there.
    #[error("looks at an item that is not there (yet)")]
    NoItem,
    /// It gives something else.
    #[error("gives neither true nor false")]
    NotBoolean,
    /// A function or operator met types that it does not take.
    #[error("uses {function} with values of types that it does not take: {types}")]
    Types {
        /// Its name.
        function: String,
        /// The types that it met.
        types: String,
    },
    /// Its loops would take too many turns.
    #[error("has loops over more than it may: a list that it can see is too long")]
    TooLong,
    /// Anything else: a division by zero, an overflow.
    #[error("cannot be evaluated for the values as they are now")]
    Failed,
}

impl NoAnswer {
    /// Whether something is missing that it looks at.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NoField | Self::NoItem)
    }
}
