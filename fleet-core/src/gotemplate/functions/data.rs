//! Values as JSON, YAML and quoted text, and back; and what ends a rendering.

use std::sync::Arc;

use super::{Args, Call, Function, MANY, function};
use crate::gotemplate::format;
use crate::gotemplate::value::{Printed, Value, json_scalar};
use crate::gotemplate::written;
use crate::printed::{LONGEST, Planes, Quotes, Refusal, Slot};
use crate::render::TemplateFault;
use crate::yaml;

/// How wide an indentation may be.
const WIDEST: i64 = 1_000;

pub(super) const FUNCTIONS: &[Function] = &[
    function("toYaml", 1, 1, |call, args| structure(call, args, written::Format::Yaml)),
    function("mustToYaml", 1, 1, |call, args| structure(call, args, written::Format::Yaml)),
    function("toJson", 1, 1, |call, args| structure(call, args, written::Format::Json)),
    function("mustToJson", 1, 1, |call, args| structure(call, args, written::Format::Json)),
    function("toRawJson", 1, 1, |call, args| structure(call, args, written::Format::RawJson)),
    function("mustToRawJson", 1, 1, |call, args| structure(call, args, written::Format::RawJson)),
    function("toPrettyJson", 1, 1, |call, args| structure(call, args, written::Format::PrettyJson)),
    function("mustToPrettyJson", 1, 1, |call, args| structure(call, args, written::Format::PrettyJson)),
    function("fromYaml", 1, 1, |call, args| read_yaml(call, args, Some("map"))).also_on_written_text(),
    function("fromYamlArray", 1, 1, |call, args| read_yaml(call, args, Some("slice"))).also_on_written_text(),
    function("fromJson", 1, 1, read_json).also_on_written_text(),
    function("mustFromJson", 1, 1, read_json).also_on_written_text(),
    function("fromJsonArray", 1, 1, read_json).also_on_written_text(),
    function("quote", 0, MANY, |call, args| quote(call, args, Quotes::Double)).also_on_written_text(),
    function("squote", 0, MANY, |call, args| quote(call, args, Quotes::Single)).also_on_written_text(),
    function("trim", 1, 1, trim).also_on_printed_text(),
    function("indent", 2, 2, |call, args| indent(call, args, "")).also_on_printed_text(),
    function("nindent", 2, 2, |call, args| indent(call, args, "\n")).also_on_printed_text(),
    function("fail", 1, 1, |_, args| {
        Err(args.wrong(
            "the template ends itself; its message is not shown, since it may \
                                                      hold values",
        ))
    }),
    function("required", 2, 2, |_, args| match args.get(1) {
        Value::Nil => Err(args.wrong("a value is missing")),
        Value::Text(text) if text.is_empty() => Err(args.wrong("a value is empty")),
        value => Ok(value.clone()),
    }),
];

fn structure(call: &mut Call<'_>, args: &Args<'_>, format: written::Format) -> Result<Value, Refusal> {
    let tree = call.heap.tree(args.get(0))?;
    let plain = written::write(&tree, format);
    call.heap.charge_text(plain.len())?;
    let Some(sink) = call.sink else {
        return Ok(Value::Text(plain.into()));
    };
    let text = if format == written::Format::Yaml { tree.yaml(sink)? } else { tree.json(sink)? };
    call.heap.charge_text(text.len())?;
    Ok(Value::Printed(Printed { text: text.into(), plain: Some(plain.into()) }))
}

fn read_yaml(call: &mut Call<'_>, args: &Args<'_>, kind: Option<&str>) -> Result<Value, Refusal> {
    let text = args.text(0)?;
    call.heap.charge(text.len() / 8)?;
    let mut documents = yaml::documents(text).into_iter();
    let value = match documents.next() {
        None => serde_json::Value::Null,
        // The reason could quote the text.
        Some(document) => {
            document.map_err(|error| args.wrong(format!("line {} is not YAML", error.line)))?.value
        }
    };
    if documents.next().is_some() {
        return Err(args.wrong("the text holds several documents"));
    }
    let value = take_in(call, value)?;
    match kind {
        Some(kind) if value.kind() != kind && !matches!(value, Value::Nil) => {
            Err(args.wrong(format!("the text holds {}", value.what())))
        }
        _ => Ok(value),
    }
}

fn read_json(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let text = args.text(0)?;
    call.heap.charge(text.len() / 8)?;
    let value = serde_json::from_str(text).map_err(|error| {
        args.wrong(format!("line {}, column {} is not JSON", error.line(), error.column()))
    })?;
    take_in(call, value)
}

fn take_in(call: &mut Call<'_>, value: serde_json::Value) -> Result<Value, Refusal> {
    fn values(value: &serde_json::Value) -> usize {
        1 + match value {
            serde_json::Value::Array(items) => items.iter().map(values).sum(),
            serde_json::Value::Object(entries) => entries.values().map(values).sum(),
            _ => 0,
        }
    }
    // Aliases of YAML make many values of a short text.
    call.heap.charge(values(&value))?;
    // Which characters occur no longer matters: values are never looked through again.
    Ok(call.heap.take_in(value, &mut Planes::default()))
}

/// One character for each value, which stands for it with its quotes.
fn quote(call: &mut Call<'_>, args: &Args<'_>, quotes: Quotes) -> Result<Value, Refusal> {
    let mut text = String::new();
    for value in args.all().iter().filter(|value| !matches!(value, Value::Nil)) {
        if !text.is_empty() {
            text.push(' ');
        }
        let plain = match value {
            Value::List(_) | Value::Map(_) if call.sink.is_some() => {
                let reason = format!("quoting {} gives no useful text; use toJson before", value.what());
                return Err(args.wrong(reason));
            }
            Value::List(_) | Value::Map(_) => format::plain(call.heap, value)?,
            scalar => match json_scalar(scalar)? {
                serde_json::Value::String(text) => text,
                _ if call.sink.is_none() => format::plain(call.heap, scalar)?,
                other => other.to_string(),
            },
        };
        match (call.sink, quotes) {
            (Some(sink), _) => {
                sink.whole(&plain)?;
                text.push(sink.put(Slot::Quoted(plain.into(), quotes))?);
            }
            (None, Quotes::Double) => text.push_str(&format::quoted(&plain)),
            (None, Quotes::Single) => {
                text.push('\'');
                text.push_str(&plain);
                text.push('\'');
            }
        }
        call.heap.charge_text(text.len())?;
    }
    Ok(match call.sink {
        Some(_) => Value::Printed(Printed { text: text.into(), plain: None }),
        None => Value::Text(text.into()),
    })
}

fn trim(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    match args.get(0) {
        Value::Printed(printed) => Ok(Value::Printed(Printed {
            text: printed.text.trim().into(),
            plain: printed.plain.as_ref().map(|plain| plain.trim().into()),
        })),
        _ => call.heap.text(args.text(0)?.trim()),
    }
}

/// Indents every line. A value becomes one character behind the indentation: the lines in it are indented where it is
/// filled in, because that is what its place in the YAML means.
fn indent(call: &mut Call<'_>, args: &Args<'_>, before: &str) -> Result<Value, Refusal> {
    let width = match args.int(0)? {
        width @ 0..=WIDEST => usize::try_from(width).unwrap_or_default(),
        _ => {
            let reason = format!("{} indents by 0 to {WIDEST}", args.name);
            return Err(Refusal::new(TemplateFault::Limit, reason));
        }
    };
    let margin = " ".repeat(width);
    let mut indented = |text: &str| {
        let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let length = text.len().saturating_add(lines.saturating_mul(width));
        if length > LONGEST {
            return call.heap.charge_text(length).map(|()| String::new());
        }
        call.heap.charge_text(length)?;
        Ok(format!("{before}{margin}{}", text.replace('\n', &format!("\n{margin}"))))
    };
    match (args.get(1), call.sink) {
        (Value::Printed(printed), _) => Ok(Value::Printed(Printed {
            text: indented(&printed.text)?.into(),
            plain: match &printed.plain {
                Some(plain) => Some(indented(plain)?.into()),
                None => None,
            },
        })),
        (_, None) => Ok(Value::Text(indented(args.text(1)?)?.into())),
        (_, Some(sink)) => {
            let value = args.text(1)?;
            sink.whole(value)?;
            let plain = indented(value)?;
            let place = sink.put(Slot::Text(Arc::clone(value)))?;
            let text = format!("{before}{margin}{place}");
            Ok(Value::Printed(Printed { text: text.into(), plain: Some(plain.into()) }))
        }
    }
}
