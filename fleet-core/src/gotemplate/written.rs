//! Values as JSON and YAML text, where no places are needed: as Go's `encoding/json` and `sigs.k8s.io/yaml` write them.

use serde_json::Value as Json;

use crate::printed::Tree;
use crate::yaml;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format {
    Json,
    /// Without escapes for HTML.
    RawJson,
    PrettyJson,
    Yaml,
}

/// The text of a value, without a line break at the end.
pub(super) fn write(tree: &Tree, format: Format) -> String {
    let mut out = String::new();
    match format {
        Format::Yaml => block(tree, 0, true, &mut out),
        Format::PrettyJson => json(tree, Some(0), &mut out),
        Format::Json | Format::RawJson => json(tree, None, &mut out),
    }
    match format {
        Format::Json | Format::PrettyJson => escape(&out),
        Format::RawJson | Format::Yaml => out,
    }
}

/// What Go's JSON escapes, so that it can stand in HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `depth` is where the lines of pretty JSON are indented to.
fn json(tree: &Tree, depth: Option<usize>, out: &mut String) {
    let inner = depth.map(|depth| depth + 1);
    let line = |depth: Option<usize>, out: &mut String| {
        if let Some(depth) = depth {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    };
    match tree {
        Tree::Leaf(leaf) => out.push_str(&leaf.to_string()),
        Tree::List(items) if items.is_empty() => out.push_str("[]"),
        Tree::Map(entries) if entries.is_empty() => out.push_str("{}"),
        Tree::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(inner, out);
                json(item, inner, out);
            }
            line(depth, out);
            out.push(']');
        }
        Tree::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(inner, out);
                out.push_str(&Json::from(key.as_str()).to_string());
                out.push_str(if depth.is_some() { ": " } else { ":" });
                json(value, inner, out);
            }
            line(depth, out);
            out.push('}');
        }
    }
}

/// `here` says that the value begins where a line, or a list item's dash, has just been written.
fn block(tree: &Tree, depth: usize, here: bool, out: &mut String) {
    let line = |out: &mut String, first: bool| {
        if !(here && first) {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    };
    let same_line = |out: &mut String, text: &str| {
        if !here {
            out.push(' ');
        }
        out.push_str(text);
    };
    match tree {
        Tree::Leaf(Json::String(text)) => same_line(out, &scalar(text)),
        Tree::Leaf(leaf) => same_line(out, &leaf.to_string()),
        Tree::List(items) if items.is_empty() => same_line(out, "[]"),
        Tree::Map(entries) if entries.is_empty() => same_line(out, "{}"),
        Tree::List(items) => {
            for (index, item) in items.iter().enumerate() {
                line(out, index == 0);
                out.push_str("- ");
                block(item, depth + 1, true, out);
            }
        }
        Tree::Map(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                line(out, index == 0);
                out.push_str(&scalar(key));
                out.push(':');
                // The items of a list stand under its key.
                let deeper = if matches!(value, Tree::List(_)) { depth } else { depth + 1 };
                block(value, deeper, false, out);
            }
        }
    }
}

/// A string, in quotes where it would be something else without.
fn scalar(text: &str) -> String {
    let mut chars = text.chars();
    let begins = match (chars.next(), chars.next()) {
        (Some('-' | '?' | ':'), second) => second.is_some_and(|char| !char.is_whitespace()),
        (Some(first), _) => !first.is_whitespace() && !",[]{}#&*!|>'\"%@`".contains(first),
        (None, _) => false,
    };
    let ends = !text.ends_with([' ', ':']) && !text.contains(": ") && !text.contains(" #");
    let printable = !text.chars().any(|char| {
        char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    });
    let is_marker = text.starts_with("---") || text.starts_with("...");
    match yaml::is_string(text) && printable && !text.is_empty() {
        true if begins && ends && !is_marker => text.to_owned(),
        true => format!("'{}'", text.replace('\'', "''")),
        false => Json::from(text).to_string(),
    }
}
