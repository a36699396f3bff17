//! Arithmetic and conversions, as sprig has them.

use super::{Args, Call, Function, MANY, function};
use crate::gotemplate::format;
use crate::gotemplate::value::{Value, whole};
use crate::printed::Refusal;

pub(super) const FUNCTIONS: &[Function] = &[
    function("add", 0, MANY, |_, args| fold(args, 0, 0, i64::checked_add)),
    function("add1", 1, 1, |_, args| result(args, int64(args.get(0)).checked_add(1))),
    function("sub", 2, 2, |_, args| result(args, int64(args.get(0)).checked_sub(int64(args.get(1))))),
    function("mul", 1, MANY, |_, args| fold(args, int64(args.get(0)), 1, i64::checked_mul)),
    function("div", 2, 2, |_, args| divided(args, i64::checked_div)),
    function("mod", 2, 2, |_, args| divided(args, i64::checked_rem)),
    function("max", 1, MANY, |_, args| fold(args, int64(args.get(0)), 1, |a, b| Some(a.max(b)))),
    function("biggest", 1, MANY, |_, args| fold(args, int64(args.get(0)), 1, |a, b| Some(a.max(b)))),
    function("min", 1, MANY, |_, args| fold(args, int64(args.get(0)), 1, |a, b| Some(a.min(b)))),
    function("addf", 0, MANY, |_, args| Ok(decimal(args, 0, 0.0, |a, b| a + b))),
    function("subf", 1, MANY, |_, args| Ok(decimal(args, 1, float64(args.get(0)), |a, b| a - b))),
    function("mulf", 1, MANY, |_, args| Ok(decimal(args, 1, float64(args.get(0)), |a, b| a * b))),
    function("maxf", 1, MANY, |_, args| Ok(decimal(args, 1, float64(args.get(0)), f64::max))),
    function("minf", 1, MANY, |_, args| Ok(decimal(args, 1, float64(args.get(0)), f64::min))),
    function("divf", 1, MANY, |_, args| {
        if args.from(1).iter().any(|value| float64(value) == 0.0) {
            return Err(args.wrong("divides by zero"));
        }
        Ok(decimal(args, 1, float64(args.get(0)), |a, b| a / b))
    }),
    function("floor", 1, 1, |_, args| Ok(Value::Float(float64(args.get(0)).floor()))),
    function("ceil", 1, 1, |_, args| Ok(Value::Float(float64(args.get(0)).ceil()))),
    function("round", 2, 3, round),
    function("int", 1, 1, |_, args| Ok(Value::Int(int64(args.get(0)).into()))),
    function("int64", 1, 1, |_, args| Ok(Value::Int(int64(args.get(0)).into()))),
    function("float64", 1, 1, |_, args| Ok(Value::Float(float64(args.get(0))))),
    function("atoi", 1, 1, |_, args| Ok(Value::Int(args.text(0)?.parse::<i64>().unwrap_or(0).into()))),
    function("toDecimal", 1, 1, |call, args| {
        let octal = format::plain(call.heap, args.get(0))?;
        Ok(Value::Int(i64::from_str_radix(&octal, 8).unwrap_or(0).into()))
    }),
    function("until", 1, 1, |call, args| {
        let stop = args.int(0)?;
        let numbers = steps(call, args, 0, stop, if stop < 0 { -1 } else { 1 })?;
        call.heap.list(numbers)
    }),
    function("untilStep", 3, 3, |call, args| {
        let numbers = steps(call, args, args.int(0)?, args.int(1)?, args.int(2)?)?;
        call.heap.list(numbers)
    }),
    function("seq", 0, 3, seq),
];

fn fold(
    args: &Args<'_>,
    start: i64,
    from: usize,
    step: fn(i64, i64) -> Option<i64>,
) -> Result<Value, Refusal> {
    let sum = args.from(from).iter().try_fold(start, |sum, value| step(sum, int64(value)));
    result(args, sum)
}

fn result(args: &Args<'_>, number: Option<i64>) -> Result<Value, Refusal> {
    number
        .map(|number| Value::Int(number.into()))
        .ok_or_else(|| args.wrong("the result does not fit in 64 bits"))
}

fn divided(args: &Args<'_>, step: fn(i64, i64) -> Option<i64>) -> Result<Value, Refusal> {
    let by = int64(args.get(1));
    if by == 0 {
        return Err(args.wrong("divides by zero"));
    }
    result(args, step(int64(args.get(0)), by))
}

/// sprig computes in decimals; fifteen digits are what both have.
fn decimal(args: &Args<'_>, from: usize, start: f64, step: fn(f64, f64) -> f64) -> Value {
    let number = args.from(from).iter().fold(start, |sum, value| step(sum, float64(value)));
    let rounded = format!("{number:.14e}").parse().unwrap_or(number);
    Value::Float(rounded)
}

/// What `cast.ToInt64` makes of a value: 0 of what is no number.
pub(super) fn int64(value: &Value) -> i64 {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => i64::try_from(*number).unwrap_or(i64::MAX),
        #[allow(clippy::cast_possible_truncation)]
        Value::Float(number) => *number as i64,
        Value::Text(text) => {
            // A fraction of zeros is none.
            let text = match text.split_once('.') {
                Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
                Some(_) => return 0,
                None => text,
            };
            match crate::gotemplate::literal::number(text) {
                Some(crate::gotemplate::literal::Number::Int(number)) => number,
                _ => 0,
            }
        }
        _ => 0,
    }
}

/// What `cast.ToFloat64` makes of a value.
fn float64(value: &Value) -> f64 {
    match value {
        Value::Bool(flag) => u8::from(*flag).into(),
        #[allow(clippy::cast_precision_loss)]
        Value::Int(number) => *number as f64,
        Value::Float(number) => *number,
        Value::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()).unwrap_or(0.0),
        _ => 0.0,
    }
}

fn round(_: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let places = i32::try_from(args.int(1)?).map_err(|_| args.unfit(1, "a small number"))?;
    let on = match args.len() {
        3 => float64(args.get(2)),
        _ => 0.5,
    };
    let power = 10_f64.powi(places);
    let digit = power * float64(args.get(0));
    let rounded = if digit.fract() >= on { digit.ceil() } else { digit.floor() };
    Ok(Value::Float(rounded / power))
}

/// The numbers from `start` on, without `stop`.
fn steps(
    call: &mut Call<'_>,
    args: &Args<'_>,
    start: i64,
    stop: i64,
    step: i64,
) -> Result<Vec<Value>, Refusal> {
    if step == 0 || (stop < start) != (step < 0) {
        return Ok(Vec::new());
    }
    let length = (i128::from(stop) - i128::from(start)).unsigned_abs();
    let count = usize::try_from(length.div_ceil(i128::from(step).unsigned_abs()));
    let count = count.map_err(|_| args.wrong("makes too many numbers"))?;
    call.heap.charge(count)?;
    let number = |index: usize| {
        Value::Int(i128::from(start) + i128::try_from(index).unwrap_or_default() * i128::from(step))
    };
    Ok((0..count).map(number).collect())
}

/// Numbers in a text, as the program of this name prints them.
fn seq(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let (start, step, end) = match args.len() {
        0 => return call.heap.text(""),
        1 => (1, None, args.int(0)?),
        2 => (args.int(0)?, None, args.int(1)?),
        _ => (args.int(0)?, Some(args.int(1)?), args.int(2)?),
    };
    let towards = if end < start { -1 } else { 1 };
    if towards < 0 && step.is_some_and(|step| step > 0) {
        return call.heap.text("");
    }
    let beyond = end.checked_add(towards).ok_or_else(|| args.wrong("makes too many numbers"))?;
    let numbers = steps(call, args, start, beyond, step.unwrap_or(towards))?;
    let mut text = String::new();
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(&format::plain(call.heap, number)?);
    }
    call.heap.text(text)
}

/// A number as an index of a list of this length.
pub(super) fn index(value: &Value) -> Option<usize> {
    match value {
        Value::Int(number) => usize::try_from(*number).ok(),
        Value::Float(number) => usize::try_from(whole(*number)?).ok(),
        _ => None,
    }
}
