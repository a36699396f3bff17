//! CEL expressions over an object that give true or false, bounded in what they may cost.

use std::collections::HashMap;
use std::sync::Arc;

use ::cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use ::cel::objects::{Key, Map as CelMap};
use ::cel::{Context, ExecutionError, Value as CelValue};
use serde_json::{Map, Value};

/// The variable that an expression may use.
const OBJECT: &str = "object";
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
/// How many turns a loop may take, together with the one around it.
const TURNS: usize = 100_000;
/// Names that stand for types.
const TYPES: [&str; 9] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"];

#[derive(Debug)]
pub(super) struct Program {
    expression: IdedExpr,
    nested_loops: u32,
}

impl Program {
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("the expression has {} bytes, more than {LONGEST}", source.len()));
        }
        bracket_depth(source)?;
        let owned = source.to_owned();
        let parsing = std::thread::Builder::new().stack_size(STACK).spawn(move || parse(&owned));
        let parsed =
            parsing.map_err(|error| format!("no thread could be started for the parser: {error}"))?;
        parsed.join().map_err(|_| "the parser gave up on the expression".to_owned())?
    }

    /// Whether it is true; or a phrase that says why it is neither true nor false, and shows nothing of the object.
    pub(super) fn evaluate(&self, object: &Map<String, Value>) -> Result<bool, String> {
        if self.nested_loops > 0 && longest(object).saturating_pow(self.nested_loops) > TURNS {
            return Err("has loops over more than it may: a list in the object is too long".to_owned());
        }
        let mut context = Context::default();
        context.add_variable_from_value(OBJECT, map_value(object));
        match CelValue::resolve(&self.expression, &context) {
            Ok(CelValue::Bool(is)) => Ok(is),
            Ok(_) => Err("gives neither true nor false".to_owned()),
            Err(ExecutionError::NoSuchKey(_)) => {
                Err("looks at a field that is not there (yet); guard it with has(...)".to_owned())
            }
            Err(ExecutionError::IndexOutOfBounds(_)) => {
                Err("looks at an item that is not there (yet)".to_owned())
            }
            Err(ExecutionError::NoSuchOverload(overload)) => Err(format!(
                "uses {} with values of types that it does not take: {}",
                overload.function(),
                overload.argument_types().join(", ")
            )),
            // Others quote values.
            Err(_) => Err("cannot be evaluated for the object as it is now".to_owned()),
        }
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

fn parse(source: &str) -> Result<Program, String> {
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
    let mut walk = Walk { at: &at, loops: 0, nested: 0 };
    walk.walk(program.expression(), &mut Vec::new(), 0, 0)?;
    if let Some(kind) = never_bool(&program.expression().expr) {
        return Err(format!("the expression gives {kind}; it has to give true or false"));
    }
    let nested_loops = walk.nested;
    Ok(Program { expression: program.expression().clone(), nested_loops })
}

/// What an expression gives, where that can be seen and is neither true nor false.
fn never_bool(expression: &Expr) -> Option<&'static str> {
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
        Expr::Ident(name) if name == OBJECT => Some("the object"),
        _ => None,
    }
}

struct Walk<'a> {
    at: &'a dyn Fn(&IdedExpr) -> String,
    loops: usize,
    nested: u32,
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
                if name != OBJECT
                    && !name.starts_with('@')
                    && !TYPES.contains(&name)
                    && !names.contains(&name)
                {
                    return fault(format!("{name} is not known; the expression sees {OBJECT}"));
                }
            }
            Expr::Select(select) => inner.push(&select.operand),
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

/// The length of the longest list or map.
fn longest(object: &Map<String, Value>) -> usize {
    let of_value = |value: &Value| match value {
        Value::Object(fields) => longest(fields),
        Value::Array(items) => {
            let inner = items.iter().filter_map(|item| match item {
                Value::Object(fields) => Some(longest(fields)),
                Value::Array(items) => Some(items.len()),
                _ => None,
            });
            inner.max().unwrap_or(0).max(items.len())
        }
        _ => 0,
    };
    object.values().map(of_value).max().unwrap_or(0).max(object.len())
}

/// The library's own conversion makes positive numbers unsigned, which arithmetic does not mix with signed ones.
fn value(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(is) => CelValue::Bool(*is),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(signed), ..) => CelValue::Int(signed),
            (None, Some(unsigned), _) => CelValue::UInt(unsigned),
            (None, None, float) => CelValue::Float(float.unwrap_or(f64::NAN)),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(self::value).collect())),
        Value::Object(fields) => map_value(fields),
    }
}

fn map_value(fields: &Map<String, Value>) -> CelValue {
    let entries = fields.iter().map(|(name, field)| (Key::from(name.clone()), value(field)));
    CelValue::Map(CelMap { map: Arc::new(entries.collect::<HashMap<_, _>>()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Check, Health};
    use crate::policy::{HealthCheck, Target};

    fn compile(expression: &str) -> Result<Check, String> {
        let check =
            HealthCheck { name: "c".into(), target: Target::default(), expression: expression.into() };
        Check::compile(&check)
    }

    fn evaluate(expression: &str, object: &serde_json::Value) -> Health {
        compile(expression).unwrap().evaluate(object.as_object().unwrap())
    }

    fn message(health: Health) -> String {
        match health {
            Health::Progressing { message } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_true_is_ready_and_all_else_may_become_so() {
        let object = json!({
            "spec": {"replicas": 3},
            "status": {"phase": "hunter2", "ready": 2, "list": [1, 2], "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"},
            ]},
        });
        for expression in [
            "true",
            "object.status.ready + 1 == object.spec.replicas",
            "object.status.ready - object.spec.replicas == -1",
            "object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
            "has(object.status.phase) && !has(object.status.other)",
            "object.status.phase.matches('^hunter[0-9]$') && size(object.status.list) == 2",
            "type(object.status.list) == list",
            "object.status.list.all(x, object.status.list.exists(y, x == y))",
        ] {
            assert_eq!(evaluate(expression, &object), Health::Ready, "{expression}");
        }
        for (expression, expected) in [
            ("object.status.ready == 3", "check c is not true yet"),
            ("object.status.missing == 3", "check c looks at a field that is not there (yet)"),
            ("object.status.list[7] == 3", "check c looks at an item that is not there (yet)"),
            ("object.status.phase", "check c gives neither true nor false"),
            ("object.status.phase + 1 == 2", "check c "),
            ("object.status.phase / 0 == 2", "check c "),
            ("object.status.ready / 0 == 2", "check c cannot be evaluated"),
        ] {
            let message = message(evaluate(expression, &object));
            assert!(message.starts_with(expected), "{expression}: {message}");
            assert!(!message.contains("hunter2"), "{expression}: {message}");
        }
    }

    #[test]
    fn what_cannot_be_a_check_is_refused_with_its_place() {
        let deep = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
        for (expression, expected) in [
            ("", "check c: line 1, column 1"),
            ("object.a ==", "check c: line 1, column 12: mismatched input '<EOF>'"),
            ("true &&\n  * 2", "check c: line 2, column 3"),
            ("objct.status.ready", "check c: line 1, column 1: objct is not known"),
            ("true && event.data == 1", "check c: line 1, column 9: event is not known"),
            ("object.l.all(x, x > 1) && x == 1", "check c: line 1, column 27: x is not known"),
            ("object.status.redy()", "there is no function redy"),
            ("lower(object.a) == 'b'", "there is no function lower"),
            ("'text'", "gives a string; it has to give true or false"),
            ("size(object.a)", "gives a number"),
            ("object", "gives the object"),
            ("[true]", "gives a list"),
            (&deep(17), "column 17: brackets are nested more than 16 deep"),
            (&deep(1000), "brackets are nested more than 16 deep"),
            (&vec!["1"; 500].join("+"), "nested more than 20 deep"),
            (&format!("object{} == 1", ".a".repeat(900)), "nested more than 20 deep"),
            (&" ".repeat(3000), "has 3000 bytes, more than 2048"),
            ("object.l.all(x, object.l.all(y, object.l.all(z, x + y + z > 0)))", "more than 2 in each other"),
            (&["object.l.all(x, x > 0)"; 9].join(" && "), "more than 8 loops"),
        ] {
            let why = compile(expression).unwrap_err();
            assert!(why.contains(expected), "{expression}: {why}");
        }
        assert!(compile(&deep(16)).is_ok());
    }

    #[test]
    fn the_deepest_that_is_allowed_fits_a_small_stack() {
        let sum = format!("{} > 0", vec!["1"; 20].join("+"));
        let loops = format!("object.l.all(x, object.l.all(y, {}true{}))", "!(".repeat(8), ")".repeat(8));
        let checks = [compile(&sum).unwrap(), compile(&loops).unwrap()];
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
            let object = json!({"l": [1, 2]});
            checks.map(|check| check.evaluate(object.as_object().unwrap()))
        });
        assert_eq!(thread.unwrap().join().unwrap(), [Health::Ready, Health::Ready]);
    }

    #[test]
    fn loops_over_too_much_are_not_run() {
        let object = json!({"l": (0..2000).collect::<Vec<_>>()});
        assert_eq!(evaluate("object.l.all(x, x >= 0)", &object), Health::Ready);
        let nested = evaluate("object.l.all(x, object.l.exists(y, x == y))", &object);
        assert!(message(nested).contains("too long"));
    }
}
