//! What a Go template says, as a tree: for whoever renders it, and for whoever rewrites it in another language.
//!
//! The tree is that of Go's `text/template/parse`: `{{ else if }}` is an `if` in the `otherwise` of another, a `{{ block }}`
//! is a definition and a call of it.

use std::collections::BTreeMap;
use std::fmt;

/// A template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// What is rendered.
    pub body: Vec<Node>,
    /// What `{{ define }}` and `{{ block }}` name.
    pub definitions: BTreeMap<String, Vec<Node>>,
}

/// A part of a template.
#[derive(Clone, PartialEq)]
pub enum Node {
    /// Text that stands in the template, already trimmed as `{{-` and `-}}` ask.
    Text {
        /// The text; not empty.
        text: String,
        /// The line of its first character, counted from 1.
        line: u32,
    },
    /// `{{/* … */}}`; it prints nothing.
    Comment {
        /// What stands between `/*` and `*/`.
        text: String,
        /// The line where it begins.
        line: u32,
    },
    /// `{{ … }}`: prints the value, unless it declares or assigns a variable.
    Action(Pipeline),
    /// `{{ if }}`.
    If(Branch),
    /// `{{ with }}`.
    With(Branch),
    /// `{{ range }}`; its pipeline may declare two variables.
    Range(Branch),
    /// `{{ break }}`, always within a range.
    Break,
    /// `{{ continue }}`, always within a range.
    Continue,
    /// `{{ template "name" … }}`, also what a `{{ block }}` leaves behind.
    Template {
        /// The name of the definition; whether there is one shows when it is rendered.
        name: String,
        /// What becomes its dot; without, that is nil.
        argument: Option<Pipeline>,
        /// The line where it stands.
        line: u32,
    },
}

/// The condition, and what depends on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// What is asked or ranged over.
    pub pipeline: Pipeline,
    /// What is rendered then.
    pub body: Vec<Node>,
    /// What stands behind `{{ else }}`.
    pub otherwise: Vec<Node>,
}

/// Commands, each of which gets the value of the one before it as its last argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// The line where it begins.
    pub line: u32,
    /// The variables that take the value, with their `$`: one, or two in a range.
    pub variables: Vec<String>,
    /// Whether it assigns (`=`) to variables that exist, instead of declaring them (`:=`).
    pub assigns: bool,
    /// The commands; never empty.
    pub commands: Vec<Command>,
}

/// A value, or a function with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The line where it stands.
    pub line: u32,
    /// The function or value, then the arguments; never empty.
    pub operands: Vec<Operand>,
}

/// A value within a command.
#[derive(Clone, PartialEq)]
pub enum Operand {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true` and `false`.
    Bool(bool),
    /// A number without a fraction, or a character.
    Int(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// A string, its escapes resolved.
    Text(String),
    /// `.a.b`: the names, at least one.
    Field(Vec<String>),
    /// `$x.a.b`
    Variable {
        /// The name with its `$`; a lone `$` is what the template was rendered with.
        name: String,
        /// The names behind it.
        fields: Vec<String>,
    },
    /// The name of a function that exists.
    Function(String),
    /// A pipeline in parentheses.
    Parentheses(Box<Pipeline>),
    /// `(…).a.b`: something else with names behind it.
    Chain {
        /// What has the fields.
        of: Box<Operand>,
        /// The names, at least one.
        fields: Vec<String>,
    },
}

/// The template may come from a Secret: what it says is not shown, only how it is built.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { line, .. } => write!(f, "Text(line {line})"),
            Self::Comment { line, .. } => write!(f, "Comment(line {line})"),
            Self::Action(pipeline) => f.debug_tuple("Action").field(pipeline).finish(),
            Self::If(branch) => f.debug_tuple("If").field(branch).finish(),
            Self::With(branch) => f.debug_tuple("With").field(branch).finish(),
            Self::Range(branch) => f.debug_tuple("Range").field(branch).finish(),
            Self::Break => f.write_str("Break"),
            Self::Continue => f.write_str("Continue"),
            Self::Template { line, .. } => write!(f, "Template(line {line})"),
        }
    }
}

/// As for [`Node`]: no text and no number of the template.
impl fmt::Debug for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dot => f.write_str("Dot"),
            Self::Nil => f.write_str("Nil"),
            Self::Bool(_) => f.write_str("Bool"),
            Self::Int(_) => f.write_str("Int"),
            Self::Float(_) => f.write_str("Float"),
            Self::Text(_) => f.write_str("Text"),
            Self::Field(names) => f.debug_tuple("Field").field(names).finish(),
            Self::Variable { name, fields } => f.debug_tuple("Variable").field(name).field(fields).finish(),
            Self::Function(name) => f.debug_tuple("Function").field(name).finish(),
            Self::Parentheses(pipeline) => f.debug_tuple("Parentheses").field(pipeline).finish(),
            Self::Chain { of, fields } => f.debug_tuple("Chain").field(of).field(fields).finish(),
        }
    }
}

impl Pipeline {
    /// The string that it is, if it is nothing but a string.
    pub fn as_text(&self) -> Option<&str> {
        match (self.commands.as_slice(), self.variables.is_empty()) {
            ([Command { operands, .. }], true) => match operands.as_slice() {
                [Operand::Text(text)] => Some(text),
                _ => None,
            },
            _ => None,
        }
    }
}
