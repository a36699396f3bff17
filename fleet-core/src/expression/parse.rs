//! How an expression is compiled: what it may be is checked before it is ever asked.

use std::collections::{BTreeMap, BTreeSet};

use ::cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use ::cel::{Context, ExecutionError};

/// The longest expression, in bytes.
const LONGEST: usize = 2048;
/// How deep brackets may be nested: the parser's stack grows by more than 100 KiB with each in a debug build.
const BRACKETS: usize = 16;
const STACK: usize = 16 << 20;
/// How deep the expression itself may be nested: evaluating it recurses on the caller's stack.
const DEPTH: usize = 20;
/// How many loops (`all`, `exists`, `map`, ...) there may be, and how many within each other.
const LOOPS: usize = 8;
const NESTED_LOOPS: u32 = 2;
/// Names that stand for types.
const TYPES: [&str; 9] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"];

#[derive(Debug)]
pub(super) struct Program {
    pub(super) expression: IdedExpr,
    pub(super) nested_loops: u32,
    /// The variables that it uses, with those of their fields that it looks at; `None` if that may be any.
    pub(super) reads: BTreeMap<String, Option<BTreeSet<String>>>,
}

impl Program {
    pub(super) fn compile(source: &str, variables: &'static [&'static str]) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("the expression has {} bytes, more than {LONGEST}", source.len()));
        }
        bracket_depth(source)?;
        let owned = source.to_owned();
        let parsing = std::thread::Builder::new().stack_size(STACK).spawn(move || parse(&owned, variables));
        let parsed =
            parsing.map_err(|error| format!("no thread could be started for the parser: {error}"))?;
        parsed.join().map_err(|_| "the parser gave up on the expression".to_owned())?
    }
}

/// Refuses brackets that are nested too deep, before the parser recurses into them.
fn bracket_depth(source: &str) -> Result<(), String> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (offset, c) in source.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        // A string whose escapes mean something else (raw, in three quotes) cannot hide more than the line it is in.
        if depth > BRACKETS {
            let position = position(source, offset);
            return Err(format!("{position}: brackets are nested more than {BRACKETS} deep"));
        }
    }
    Ok(())
}

fn position(source: &str, offset: usize) -> String {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}")
}

fn parse(source: &str, variables: &[&str]) -> Result<Program, String> {
    let program = ::cel::Program::compile(source).map_err(|errors| {
        let Some(first) = errors.errors.first() else { return "the expression cannot be read".to_owned() };
        let (line, column) = first.pos;
        // What could stand there instead is a long list of tokens.
        let what =
            first.msg.split(" expecting ").next().unwrap_or_default().trim_start_matches("Syntax error: ");
        format!("line {line}, column {column}: {what}")
    })?;
    let at = |expression: &IdedExpr| {
        let offset = program.source_info().offset_for(expression.id);
        // Offsets count characters.
        let offset = offset.map_or(0, |(start, _)| start as usize);
        let bytes = source.char_indices().nth(offset).map_or(source.len(), |(bytes, _)| bytes);
        position(source, bytes)
    };
    let mut walk = Walk { at: &at, variables, loops: 0, nested: 0, reads: BTreeMap::new() };
    walk.walk(program.expression(), &mut Vec::new(), 0, 0)?;
    if let Some(kind) = never_bool(&program.expression().expr, variables) {
        return Err(format!("the expression gives {kind}; it has to give true or false"));
    }
    let Walk { nested: nested_loops, reads, .. } = walk;
    Ok(Program { expression: program.expression().clone(), nested_loops, reads })
}

/// What an expression gives, where that can be seen and is neither true nor false.
fn never_bool(expression: &Expr, variables: &[&str]) -> Option<&'static str> {
    match expression {
        Expr::Literal(LiteralValue::Boolean(_)) => None,
        Expr::Literal(LiteralValue::String(_)) => Some("a string"),
        Expr::Literal(LiteralValue::Null) => Some("null"),
        Expr::Literal(LiteralValue::Bytes(_)) => Some("bytes"),
        Expr::Literal(_) => Some("a number"),
        Expr::List(_) => Some("a list"),
        Expr::Map(_) | Expr::Struct(_) => Some("a map"),
        Expr::Call(call) => match call.func_name.as_str() {
            "size"
            | "int"
            | "uint"
            | "double"
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE => Some("a number"),
            "string" => Some("a string"),
            "type" => Some("a type"),
            _ => None,
        },
        Expr::Ident(name) if variables.contains(&name.as_str()) => Some("an object"),
        _ => None,
    }
}

struct Walk<'a> {
    at: &'a dyn Fn(&IdedExpr) -> String,
    variables: &'a [&'a str],
    loops: usize,
    nested: u32,
    reads: BTreeMap<String, Option<BTreeSet<String>>>,
}

impl Walk<'_> {
    /// Looks whether an expression keeps to what is allowed. `names` are those that loops around it bring in.
    fn walk<'e>(
        &mut self,
        expression: &'e IdedExpr,
        names: &mut Vec<&'e str>,
        depth: usize,
        loops: u32,
    ) -> Result<(), String> {
        let fault = |what: String| Err(format!("{}: {what}", (self.at)(expression)));
        if depth > DEPTH {
            return fault(format!("the expression is nested more than {DEPTH} deep"));
        }
        let mut inner: Vec<&'e IdedExpr> = Vec::new();
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => {
                let name = name.as_str();
                let is_variable = self.variables.contains(&name) && !names.contains(&name);
                if is_variable {
                    self.reads.insert(name.to_owned(), None);
                } else if !name.starts_with('@') && !TYPES.contains(&name) && !names.contains(&name) {
                    let known = self.variables.join(" and ");
                    return fault(format!("{name} is not known; the expression sees {known}"));
                }
            }
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name)
                    if self.variables.contains(&name.as_str()) && !names.contains(&name.as_str()) =>
                {
                    let fields = self.reads.entry(name.clone()).or_insert_with(|| Some(BTreeSet::new()));
                    if let Some(fields) = fields {
                        fields.insert(select.field.clone());
                    }
                }
                _ => inner.push(&select.operand),
            },
            Expr::Call(call) => {
                if !is_known(&call.func_name) {
                    return fault(format!("there is no function {}", call.func_name));
                }
                inner.extend(call.target.as_deref());
                inner.extend(&call.args);
            }
            Expr::List(list) => inner.extend(&list.elements),
            Expr::Map(map) => inner.extend(map.entries.iter().flat_map(|entry| entry_parts(&entry.expr))),
            Expr::Struct(made) => {
                inner.extend(made.entries.iter().flat_map(|entry| entry_parts(&entry.expr)))
            }
            Expr::Comprehension(comprehension) => {
                self.loops += 1;
                self.nested = self.nested.max(loops + 1);
                if self.loops > LOOPS || self.nested > NESTED_LOOPS {
                    return fault(format!(
                        "there are more than {LOOPS} loops (all, exists, map, ...), or more than {NESTED_LOOPS} in \
                         each other"
                    ));
                }
                self.walk(&comprehension.iter_range, names, depth + 1, loops)?;
                let outer = names.len();
                names.push(&comprehension.iter_var);
                names.extend(comprehension.iter_var2.as_deref());
                names.push(&comprehension.accu_var);
                for part in [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.walk(part, names, depth + 1, loops + 1)?;
                }
                names.truncate(outer);
            }
        }
        inner.into_iter().try_for_each(|part| self.walk(part, names, depth + 1, loops))
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}

/// Whether there is a function of that name. The library tells only when it is called.
fn is_known(name: &str) -> bool {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let called = |source: String| {
        let program = ::cel::Program::compile(&source).ok()?;
        let result = program.execute(&Context::default());
        Some(!matches!(result, Err(ExecutionError::UndeclaredReference(_))))
    };
    !is_name || called(format!("{name}()")) == Some(true) || called(format!("(0).{name}()")) == Some(true)
}
