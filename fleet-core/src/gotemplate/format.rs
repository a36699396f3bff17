//! Values as the text that Go's `fmt` makes of them.

use std::fmt::Write;

use super::value::{Heap, Printed, Value};
use crate::printed::Refusal;
use crate::render::TemplateFault;
use crate::yaml;

/// How wide `printf` may pad.
const WIDEST: usize = 10_000;

/// `%v`.
pub(super) fn plain(heap: &mut Heap, value: &Value) -> Result<String, Refusal> {
    let mut text = String::new();
    write_plain(heap, value, &mut text, 0)?;
    Ok(text)
}

fn write_plain(heap: &mut Heap, value: &Value, out: &mut String, depth: usize) -> Result<(), Refusal> {
    if depth > yaml::MAX_DEPTH {
        let reason = format!("a value nests deeper than {} levels", yaml::MAX_DEPTH);
        return Err(Refusal::new(TemplateFault::Limit, reason));
    }
    heap.charge(1)?;
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Text(text) | Value::Printed(Printed { text, .. }) => {
            heap.charge_text(out.len() + text.len())?;
            out.push_str(text);
        }
        Value::List(list) => {
            out.push('[');
            for (index, item) in heap.items(*list).to_vec().iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write_plain(heap, item, out, depth + 1)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push_str("map[");
            for (index, (key, item)) in heap.entries(*map).clone().iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write_plain(heap, item, out, depth + 1)?;
            }
            out.push(']');
        }
    }
    Ok(())
}

/// `print`: spaces between operands of which neither is a string.
pub(super) fn print(heap: &mut Heap, values: &[Value]) -> Result<String, Refusal> {
    let mut text = String::new();
    let mut was_text = true;
    for (index, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if index > 0 && !is_text && !was_text {
            text.push(' ');
        }
        write_plain(heap, value, &mut text, 0)?;
        was_text = is_text;
    }
    Ok(text)
}

/// `println`: spaces between all operands, and a line break.
pub(super) fn print_line(heap: &mut Heap, values: &[Value]) -> Result<String, Refusal> {
    let mut text = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        write_plain(heap, value, &mut text, 0)?;
    }
    text.push('\n');
    Ok(text)
}

/// A float as `%v` has it: the shortest digits, with an exponent from a million on and below 0.0001.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let exponent = scientific.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    match exponent {
        Some(exponent) if !(-4..6).contains(&exponent) && number != 0.0 => go_exponent(&scientific),
        _ => format!("{number}"),
    }
}

/// Go's exponents have a sign and two digits at least.
fn go_exponent(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A text as a Go string literal: `%q`.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            ' '..='~' => quoted.push(char),
            _ if char < ' ' || char == '\u{7f}' => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(char));
            }
            _ if !is_printable(char) => {
                let code = u32::from(char);
                let _ = if code < 0x1_0000 {
                    write!(quoted, "\\u{code:04x}")
                } else {
                    write!(quoted, "\\U{code:08x}")
                };
            }
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// As far as Rust's own escaping knows it too; white space other than a blank is not.
fn is_printable(char: char) -> bool {
    !char.is_whitespace() && !char.is_control() && char.escape_debug().len() == 1
}

#[derive(Clone, Copy, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `printf`.
pub(super) fn printf(heap: &mut Heap, format: &str, values: &[Value]) -> Result<String, Refusal> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                '#' => flags.sharp = true,
                _ => break,
            }
            chars.next();
        }
        flags.width = size(&mut chars, &mut values)?;
        if chars.peek() == Some(&'.') {
            chars.next();
            flags.precision = Some(size(&mut chars, &mut values)?.unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some('[') => return Err(unsupported("explicit argument indexes")),
            Some(verb) => match values.next() {
                Some(value) => one(heap, &mut out, verb, value, flags)?,
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
            },
        }
        heap.charge_text(out.len())?;
    }
    let extra: Vec<Value> = values.cloned().collect();
    if !extra.is_empty() {
        out.push_str("%!(EXTRA ");
        for (index, value) in extra.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            match value {
                Value::Nil => out.push_str("<nil>"),
                _ => {
                    out.push_str(go_type(value));
                    out.push('=');
                    write_plain(heap, value, &mut out, 0)?;
                }
            }
        }
        out.push(')');
    }
    heap.charge_text(out.len())?;
    Ok(out)
}

/// A width or precision: digits, or `*` for the next argument.
fn size(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &mut std::slice::Iter<'_, Value>,
) -> Result<Option<usize>, Refusal> {
    if chars.peek() == Some(&'*') {
        chars.next();
        return match values.next() {
            Some(Value::Int(width)) => Ok(Some(bounded(usize::try_from(*width).ok())?)),
            _ => Err(unsupported("a width that is no number")),
        };
    }
    let mut width = None;
    while let Some(digit) = chars.peek().and_then(|char| char.to_digit(10)) {
        chars.next();
        let so_far: usize = width.unwrap_or(0);
        width = Some(bounded(Some(so_far.saturating_mul(10).saturating_add(digit as usize)))?);
    }
    Ok(width)
}

fn bounded(width: Option<usize>) -> Result<usize, Refusal> {
    width
        .filter(|width| *width <= WIDEST)
        .ok_or_else(|| Refusal::new(TemplateFault::Limit, format!("printf takes a width of 0 to {WIDEST}")))
}

fn unsupported(what: &str) -> Refusal {
    Refusal::new(TemplateFault::Evaluation, format!("printf does not know {what}"))
}

fn one(heap: &mut Heap, out: &mut String, verb: char, value: &Value, flags: Flags) -> Result<(), Refusal> {
    if verb == 'T' {
        out.push_str(&pad(go_type(value).to_owned(), flags));
        return Ok(());
    }
    let text = match (verb, value) {
        ('v' | 's' | 'q' | 'x' | 'X' | 'd', Value::List(list)) => {
            let items = heap.items(*list).to_vec();
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                one(heap, out, verb, item, flags)?;
            }
            out.push(']');
            return Ok(());
        }
        ('v' | 's', Value::Map(_)) => Some(plain(heap, value)?),
        ('v', Value::Nil) => Some("<nil>".to_owned()),
        (_, Value::Nil) => {
            let _ = write!(out, "%!{verb}(<nil>)");
            return Ok(());
        }
        ('v' | 't', Value::Bool(flag)) => Some(flag.to_string()),
        ('v' | 's', Value::Text(text)) => {
            Some(text.chars().take(flags.precision.unwrap_or(usize::MAX)).collect())
        }
        ('q', Value::Text(text)) => {
            let text: String = text.chars().take(flags.precision.unwrap_or(usize::MAX)).collect();
            Some(if flags.sharp && !text.contains('`') { format!("`{text}`") } else { quoted(&text) })
        }
        ('x', Value::Text(text)) => Some(text.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ('X', Value::Text(text)) => Some(text.bytes().map(|byte| format!("{byte:02X}")).collect()),
        (_, Value::Int(number)) => integer(verb, *number, flags),
        // A whole JSON number: as Go has it, where all of them are floats, and as people mean it.
        ('d', Value::Float(number)) => {
            super::value::whole(*number).and_then(|number| integer(verb, number.into(), flags))
        }
        (_, Value::Float(number)) => floating(verb, *number, flags),
        _ => None,
    };
    match text {
        Some(text)
            if matches!(value, Value::Int(_) | Value::Float(_))
                && verb != 'c'
                && verb != 'q'
                && verb != 'U' =>
        {
            out.push_str(&pad_number(text, flags));
        }
        Some(text) => out.push_str(&pad(text, flags)),
        None => {
            let _ = write!(out, "%!{verb}({}=", go_type(value));
            write_plain(heap, value, out, 0)?;
            out.push(')');
        }
    }
    Ok(())
}

fn integer(verb: char, number: i128, flags: Flags) -> Option<String> {
    let magnitude = number.unsigned_abs();
    let digits = match verb {
        'v' | 'd' => magnitude.to_string(),
        'x' => format!("{}{magnitude:x}", if flags.sharp { "0x" } else { "" }),
        'X' => format!("{}{magnitude:X}", if flags.sharp { "0X" } else { "" }),
        'o' => format!("{}{magnitude:o}", if flags.sharp { "0" } else { "" }),
        'b' => format!("{magnitude:b}"),
        'c' => {
            let char = u32::try_from(number).ok().and_then(char::from_u32);
            return Some(char.unwrap_or(char::REPLACEMENT_CHARACTER).to_string());
        }
        'q' => {
            let char = u32::try_from(number).ok().and_then(char::from_u32)?;
            return Some(format!("'{char}'"));
        }
        'U' => return Some(format!("U+{magnitude:04X}")),
        // A whole number of JSON is a float in Go.
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            #[allow(clippy::cast_precision_loss)]
            return floating(verb, number as f64, flags);
        }
        _ => return None,
    };
    let digits = match flags.precision {
        Some(precision) => format!("{digits:0>precision$}"),
        None => digits,
    };
    Some(format!("{}{digits}", sign(number < 0, flags)))
}

fn floating(verb: char, number: f64, flags: Flags) -> Option<String> {
    let magnitude = number.abs();
    let text = match (verb, flags.precision) {
        ('v', None) => float(magnitude),
        ('f' | 'F', precision) => format!("{magnitude:.*}", precision.unwrap_or(6)),
        ('e', precision) => go_exponent(&format!("{magnitude:.*e}", precision.unwrap_or(6))),
        ('E', precision) => go_exponent(&format!("{magnitude:.*e}", precision.unwrap_or(6))).to_uppercase(),
        ('g' | 'v', precision) => general(magnitude, precision),
        ('G', precision) => general(magnitude, precision).to_uppercase(),
        _ => return None,
    };
    Some(format!("{}{text}", sign(number.is_sign_negative(), flags)))
}

/// `%g`: the shortest digits, or so many significant ones.
fn general(number: f64, precision: Option<usize>) -> String {
    let Some(precision) = precision else {
        return float(number);
    };
    let significant = precision.max(1);
    let scientific = format!("{number:.*e}", significant - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if exponent >= -4 && usize::try_from(exponent).map_or(true, |it| it < significant) => {
            let decimals = i32::try_from(significant).unwrap_or(i32::MAX) - 1 - exponent;
            trim(&format!("{number:.*}", usize::try_from(decimals).unwrap_or(0)))
        }
        _ => go_exponent(&format!("{}e{exponent}", trim(mantissa))),
    }
}

fn sign(negative: bool, flags: Flags) -> &'static str {
    match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

fn pad_number(text: String, flags: Flags) -> String {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if !flags.zero || flags.minus || missing == 0 {
        return pad(text, flags);
    }
    let digits = text.trim_start_matches(['-', '+', ' ']);
    let sign = text.get(..text.len() - digits.len()).unwrap_or_default();
    format!("{sign}{}{digits}", "0".repeat(missing))
}

fn pad(text: String, flags: Flags) -> String {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if flags.minus {
        text + &" ".repeat(missing)
    } else {
        let with = if flags.zero { "0" } else { " " };
        with.repeat(missing) + &text
    }
}

/// The type that Go has for it.
pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) | Value::Printed(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}
