//! The filters of templates. minijinja's own work on values and refuse printed text; those that print structure or
//! quotes, and those that may follow printed text, are ours.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters};

use super::error::{refuse, refuse_value};
use super::print::sink_of;
use super::scalar::text_of;
use super::structure;
use crate::printed::{Quotes, Slot};
use crate::render::TemplateFault;

/// How wide an indentation may be.
const WIDEST: usize = 1_000;

pub(super) fn install(environment: &mut Environment<'static>) {
    // They would print values as text, or show how values are made.
    for name in ["safe", "escape", "e", "pprint"] {
        environment.remove_filter(name);
    }
    for (name, filter) in on_values() {
        environment.add_filter(name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            let undefined = args.first().filter(|value| value.is_undefined());
            if let Some(value) = undefined.filter(|_| !matches!(name, "default" | "d")) {
                return Err(refuse_undefined(value));
            }
            let mut size = 0;
            for arg in &args {
                size += arg.len().unwrap_or(0);
                let printed = arg.is_safe()
                    || arg.is_kwargs()
                        && arg.try_iter()?.any(|key| arg.get_item(&key).is_ok_and(|value| value.is_safe()));
                if printed {
                    return Err(printed_text(name));
                }
            }
            // minijinja charges the filters it installs for what they visit; the functions it exports it does not.
            state.consume_fuel(size as u64 / 8)?;
            filter.call(state, &args)
        });
    }
    environment.add_filter("trim", |text: &Value, chars: Option<String>| trim(text, chars));
    environment.add_filter("indent", indent);
    environment.add_filter("nindent", nindent);
    environment
        .add_filter("quote", |state: &mut State<'_, '_>, value: &Value| quote(state, value, Quotes::Double));
    environment
        .add_filter("squote", |state: &mut State<'_, '_>, value: &Value| quote(state, value, Quotes::Single));
    environment.add_filter("tojson", structure::tojson);
    environment.add_filter("toyaml", structure::toyaml);
}

/// minijinja's filters, as far as they make values of values.
fn on_values() -> Vec<(&'static str, Value)> {
    use Value as V;
    vec![
        ("abs", V::from_function(filters::abs)),
        ("attr", V::from_function(filters::attr)),
        ("b64decode", V::from_function(b64decode)),
        ("b64encode", V::from_function(b64encode)),
        ("batch", V::from_function(filters::batch)),
        ("bool", V::from_function(filters::bool)),
        ("capitalize", V::from_function(filters::capitalize)),
        ("chain", V::from_function(filters::chain)),
        ("count", V::from_function(filters::length)),
        ("d", V::from_function(filters::default)),
        ("default", V::from_function(filters::default)),
        ("dictsort", V::from_function(filters::dictsort)),
        ("first", V::from_function(filters::first)),
        ("float", V::from_function(filters::float)),
        ("format", V::from_function(filters::format)),
        ("groupby", V::from_function(filters::groupby)),
        ("int", V::from_function(filters::int)),
        ("items", V::from_function(filters::items)),
        ("join", V::from_function(filters::join)),
        ("last", V::from_function(filters::last)),
        ("length", V::from_function(filters::length)),
        ("lines", V::from_function(filters::lines)),
        ("list", V::from_function(filters::list)),
        ("lower", V::from_function(filters::lower)),
        ("map", V::from_function(filters::map)),
        ("max", V::from_function(filters::max)),
        ("min", V::from_function(filters::min)),
        ("reject", V::from_function(filters::reject)),
        ("rejectattr", V::from_function(filters::rejectattr)),
        ("replace", V::from_function(filters::replace)),
        ("reverse", V::from_function(filters::reverse)),
        ("round", V::from_function(filters::round)),
        ("select", V::from_function(filters::select)),
        ("selectattr", V::from_function(filters::selectattr)),
        ("slice", V::from_function(filters::slice)),
        ("sort", V::from_function(filters::sort)),
        ("split", V::from_function(filters::split)),
        ("string", V::from_function(filters::string)),
        ("sum", V::from_function(filters::sum)),
        ("title", V::from_function(filters::title)),
        ("unique", V::from_function(filters::unique)),
        ("upper", V::from_function(filters::upper)),
        ("zip", V::from_function(filters::zip)),
    ]
}

fn b64encode(text: &str) -> String {
    STANDARD.encode(text)
}

/// What a Secret holds, as text.
fn b64decode(text: &str) -> Result<String, Error> {
    let wrong =
        |reason: &str| refuse(TemplateFault::Evaluation, format!("b64decode: the text is not {reason}"));
    let bytes = STANDARD.decode(text).map_err(|_| wrong("base64"))?;
    String::from_utf8(bytes).map_err(|_| wrong("UTF-8 text in base64"))
}

pub(super) fn printed_text(filter: &str) -> Error {
    refuse(
        TemplateFault::Structure,
        format!(
            "{filter} cannot work on text that was printed before (by a macro, call, set block, filter block, tojson or \
             toyaml): apply it to the value first"
        ),
    )
}

/// Removes white space, or the characters given, from both ends.
fn trim(text: &Value, chars: Option<String>) -> Result<Value, Error> {
    let whole = words(text, "trim")?;
    let trimmed = match chars {
        Some(chars) => whole.trim_matches(|char| chars.contains(char)),
        None => whole.trim(),
    };
    Ok(if text.is_safe() { Value::from_safe_string(trimmed.to_owned()) } else { trimmed.into() })
}

/// Indents the lines of printed text, the first one only if asked, blank ones only if asked.
fn indent(
    state: &mut State<'_, '_>,
    text: &Value,
    width: Option<usize>,
    first: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let width = match width {
        Some(width) => width,
        None => options.get::<Option<usize>>("width")?.unwrap_or(4),
    };
    let first = match first {
        Some(first) => first,
        None => options.get::<Option<bool>>("first")?.unwrap_or(false),
    };
    let blank = options.get::<Option<bool>>("blank")?.unwrap_or(false);
    options.assert_all_used()?;
    indented(state, text, width, first, blank, "indent").map(Value::from_safe_string)
}

/// Begins a new line and indents all lines of printed text.
fn nindent(state: &mut State<'_, '_>, text: &Value, width: Option<usize>) -> Result<Value, Error> {
    let lines = indented(state, text, width.unwrap_or(4), true, false, "nindent")?;
    Ok(Value::from_safe_string(format!("\n{lines}")))
}

fn indented(
    state: &State<'_, '_>,
    text: &Value,
    width: usize,
    first: bool,
    blank: bool,
    filter: &str,
) -> Result<String, Error> {
    let lines = words(text, filter)?;
    if !text.is_safe() {
        let reason = format!(
            "{filter} is for printed text (of toyaml, a macro or a set block); a value needs none, because it stays in \
             its place wherever it is printed"
        );
        return Err(refuse(TemplateFault::Structure, reason));
    }
    if width > WIDEST {
        return Err(refuse(TemplateFault::Limit, format!("{filter} indents by at most {WIDEST}")));
    }
    let lines = lines.strip_suffix('\n').unwrap_or(lines);
    let count = lines.bytes().filter(|byte| *byte == b'\n').count() + 1;
    state.consume_fuel((lines.len() + count * width) as u64 / 64)?;
    let margin = " ".repeat(width);
    let mut indented = String::with_capacity(lines.len() + count * width);
    for (number, line) in lines.split('\n').enumerate() {
        if number > 0 {
            indented.push('\n');
        }
        if (number > 0 || first) && (blank || !line.is_empty()) {
            indented.push_str(&margin);
        }
        indented.push_str(line);
    }
    Ok(indented)
}

fn quote(state: &mut State<'_, '_>, value: &Value, quotes: Quotes) -> Result<Value, Error> {
    if value.is_safe() {
        return Err(printed_text("quote"));
    }
    let sink = sink_of(state)?;
    let text = text_of(value).map_err(|why| refuse_value(value, why))?;
    sink.whole(&text)?;
    Ok(Value::from_safe_string(sink.put(Slot::Quoted(text.into(), quotes))?.to_string()))
}

fn refuse_undefined(value: &Value) -> Error {
    refuse_value(value, (TemplateFault::Undefined, String::new()))
}

fn words<'v>(text: &'v Value, filter: &str) -> Result<&'v str, Error> {
    match text.as_str() {
        Some(words) if text.kind() == ValueKind::String => Ok(words),
        _ if text.is_undefined() => Err(refuse_undefined(text)),
        _ => Err(refuse(TemplateFault::Evaluation, format!("{filter} needs a text, not a {}", text.kind()))),
    }
}
