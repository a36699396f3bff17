//! Comparison and logic.

use std::cmp::Ordering;

use super::{Args, Call, Function, MANY, function};
use crate::gotemplate::value::{Heap, Value};
use crate::printed::Refusal;

pub(super) const FUNCTIONS: &[Function] = &[
    function("eq", 2, MANY, |call, args| {
        for index in 1..args.len() {
            if equal(call.heap, args, index)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    })
    .also_on_written_text(),
    function("ne", 2, 2, |call, args| Ok(Value::Bool(!equal(call.heap, args, 1)?))).also_on_written_text(),
    function("lt", 2, 2, |_, args| Ok(Value::Bool(order(args)? == Some(Ordering::Less)))),
    function("le", 2, 2, |_, args| {
        Ok(Value::Bool(matches!(order(args)?, Some(Ordering::Less | Ordering::Equal))))
    }),
    function("gt", 2, 2, |_, args| Ok(Value::Bool(order(args)? == Some(Ordering::Greater)))),
    function("ge", 2, 2, |_, args| {
        Ok(Value::Bool(matches!(order(args)?, Some(Ordering::Greater | Ordering::Equal))))
    }),
    function("not", 1, 1, |call, args| Ok(Value::Bool(!call.heap.truth(args.get(0))))).also_on_printed_text(),
    function("deepEqual", 2, 2, |call, args| Ok(Value::Bool(call.heap.same(args.get(0), args.get(1))?))),
    function("default", 1, 2, |call, args| {
        let given = args.get(1);
        Ok(if call.heap.truth(given) { given } else { args.get(0) }.clone())
    })
    .also_on_printed_text(),
    function("empty", 1, 1, |call, args| Ok(Value::Bool(!call.heap.truth(args.get(0)))))
        .also_on_printed_text(),
    function("coalesce", 0, MANY, |call, args| {
        Ok(args.all().iter().find(|value| call.heap.truth(value)).cloned().unwrap_or(Value::Nil))
    })
    .also_on_printed_text(),
    function("all", 0, MANY, |call, args| {
        Ok(Value::Bool(args.all().iter().all(|value| call.heap.truth(value))))
    }),
    function("any", 0, MANY, |call, args| {
        Ok(Value::Bool(args.all().iter().any(|value| call.heap.truth(value))))
    }),
    function("ternary", 3, 3, |_, args| match args.get(2) {
        Value::Bool(true) => Ok(args.get(0).clone()),
        Value::Bool(false) => Ok(args.get(1).clone()),
        _ => Err(args.unfit(2, "a boolean")),
    })
    .also_on_printed_text(),
    function("kindOf", 1, 1, |_, args| Ok(Value::text(args.get(0).kind()))),
    function("kindIs", 2, 2, |_, args| {
        let (wanted, value) = (args.text(0)?, args.get(1));
        // In Go every number of JSON is a float.
        let matches =
            &**wanted == value.kind() || matches!((value, &**wanted), (Value::Int(_), "int" | "float64"));
        Ok(Value::Bool(matches))
    }),
    function("typeOf", 1, 1, |_, args| Ok(Value::text(crate::gotemplate::format::go_type(args.get(0))))),
    function("typeIs", 2, 2, type_is),
    function("typeIsLike", 2, 2, type_is),
];

fn type_is(_: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let (wanted, value) = (args.text(0)?, args.get(1));
    let matches = &**wanted == crate::gotemplate::format::go_type(value)
        || matches!((value, &**wanted), (Value::Int(_), "int64" | "float64"));
    Ok(Value::Bool(matches))
}

/// Whether the first argument equals another one. Whole and other numbers compare as numbers: in Go all those of JSON are
/// floats, and a template means the number.
fn equal(heap: &mut Heap, args: &Args<'_>, index: usize) -> Result<bool, Refusal> {
    match (args.get(0), args.get(index)) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Bool(one), Value::Bool(other)) => Ok(one == other),
        (Value::Text(one), Value::Text(other)) => {
            heap.charge(one.len() / 64)?;
            Ok(one == other)
        }
        (one, other) => match numbers(one, other) {
            Some(order) => Ok(order == Some(Ordering::Equal)),
            None => Err(incomparable(args, one, other)),
        },
    }
}

fn order(args: &Args<'_>) -> Result<Option<Ordering>, Refusal> {
    match (args.get(0), args.get(1)) {
        (Value::Text(one), Value::Text(other)) => Ok(Some(one.cmp(other))),
        (one, other) => numbers(one, other).ok_or_else(|| incomparable(args, one, other)),
    }
}

/// How two numbers compare, if that is what they are.
fn numbers(one: &Value, other: &Value) -> Option<Option<Ordering>> {
    #[allow(clippy::cast_precision_loss)]
    let float = |value: &Value| match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    };
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => Some(Some(one.cmp(other))),
        _ => Some(float(one)?.partial_cmp(&float(other)?)),
    }
}

fn incomparable(args: &Args<'_>, one: &Value, other: &Value) -> Refusal {
    args.wrong(format!("{} and {} cannot be compared", one.what(), other.what()))
}
