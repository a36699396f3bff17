//! Texts.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

use super::lists::strings;
use super::{Call, Function, MANY, function};
use crate::gotemplate::format;
use crate::gotemplate::value::{Entries, Value};
use crate::printed::Refusal;

pub(super) const FUNCTIONS: &[Function] = &[
    function("upper", 1, 1, |call, args| call.heap.text(args.text(0)?.to_uppercase())),
    function("lower", 1, 1, |call, args| call.heap.text(args.text(0)?.to_lowercase())),
    function("title", 1, 1, |call, args| {
        let mut before = ' ';
        let titled = args.text(0)?.chars().flat_map(|char| {
            let begins = !(before.is_alphanumeric() || before == '_' || before == '\'');
            before = char;
            if begins { char.to_uppercase().collect() } else { String::from(char) }
                .chars()
                .collect::<Vec<_>>()
        });
        let titled: String = titled.collect();
        call.heap.text(titled)
    }),
    function("untitle", 1, 1, |call, args| {
        let mut chars = args.text(0)?.chars();
        let text: String = chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect();
        call.heap.text(text)
    }),
    function("swapcase", 1, 1, |call, args| {
        let swapped = args.text(0)?.chars().map(|char| {
            if char.is_uppercase() {
                char.to_lowercase().to_string()
            } else {
                char.to_uppercase().to_string()
            }
        });
        let swapped: String = swapped.collect();
        call.heap.text(swapped)
    }),
    function("trimAll", 2, 2, |call, args| {
        call.heap.text(args.text(1)?.trim_matches(|char| args.text(0).is_ok_and(|all| all.contains(char))))
    }),
    function("trimall", 2, 2, |call, args| {
        call.heap.text(args.text(1)?.trim_matches(|char| args.text(0).is_ok_and(|all| all.contains(char))))
    }),
    function("trimPrefix", 2, 2, |call, args| {
        let text = args.text(1)?;
        call.heap.text(text.strip_prefix(&**args.text(0)?).unwrap_or(text))
    }),
    function("trimSuffix", 2, 2, |call, args| {
        let text = args.text(1)?;
        call.heap.text(text.strip_suffix(&**args.text(0)?).unwrap_or(text))
    }),
    function("replace", 3, 3, |call, args| {
        let (old, new, text) = (args.text(0)?, args.text(1)?, args.text(2)?);
        let count = text.matches(&**old).count();
        call.heap.charge_text(text.len().saturating_add(count.saturating_mul(new.len())))?;
        Ok(Value::text(&text.replace(&**old, new)))
    }),
    function("contains", 2, 2, |_, args| Ok(Value::Bool(args.text(1)?.contains(&**args.text(0)?))))
        .also_on_written_text(),
    function("hasPrefix", 2, 2, |_, args| Ok(Value::Bool(args.text(1)?.starts_with(&**args.text(0)?)))),
    function("hasSuffix", 2, 2, |_, args| Ok(Value::Bool(args.text(1)?.ends_with(&**args.text(0)?)))),
    function("repeat", 2, 2, |call, args| {
        let (count, text) = (usize::try_from(args.int(0)?), args.text(1)?);
        let count = count.map_err(|_| args.unfit(0, "a number from 0 on"))?;
        call.heap.charge_text(text.len().saturating_mul(count))?;
        Ok(Value::text(&text.repeat(count)))
    }),
    function("nospace", 1, 1, |call, args| {
        let text: String = args.text(0)?.chars().filter(|char| !char.is_whitespace()).collect();
        call.heap.text(text)
    }),
    function("trunc", 2, 2, |call, args| {
        let (count, text) = (args.int(0)?, args.text(1)?);
        let length = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let part = match text.len().checked_sub(length) {
            None => text,
            Some(start) if count < 0 => text.get(boundary(text, start)..).unwrap_or_default(),
            Some(_) => text.get(..boundary(text, length)).unwrap_or_default(),
        };
        call.heap.text(part)
    }),
    function("substr", 3, 3, |call, args| {
        let (start, end, text) = (args.int(0)?, args.int(1)?, args.text(2)?);
        let start = usize::try_from(start).unwrap_or(0);
        let end = usize::try_from(end).unwrap_or(text.len()).min(text.len());
        let part = text.get(boundary(text, start.min(text.len()))..boundary(text, end));
        let part = part.ok_or_else(|| args.wrong("the end is before the start"))?;
        call.heap.text(part)
    }),
    function("abbrev", 2, 2, |call, args| {
        let (width, text) = (usize::try_from(args.int(0)?).unwrap_or(0), args.text(1)?);
        if width < 4 || text.len() <= width {
            return Ok(args.get(1).clone());
        }
        let kept = text.get(..boundary(text, width - 3)).unwrap_or_default();
        call.heap.text(format!("{kept}..."))
    }),
    function("initials", 1, 1, |call, args| {
        let initials: String =
            args.text(0)?.split_whitespace().filter_map(|word| word.chars().next()).collect();
        call.heap.text(initials)
    }),
    function("plural", 3, 3, |_, args| Ok(args.get(if args.int(2)? == 1 { 0 } else { 1 }).clone())),
    function("cat", 0, MANY, |call, args| {
        let mut words = Vec::new();
        for value in args.all().iter().filter(|value| !matches!(value, Value::Nil)) {
            words.push(format::plain(call.heap, value)?);
        }
        call.heap.text(words.join(" "))
    }),
    function("splitList", 2, 2, |call, args| {
        let parts = split(call, args.text(0)?, args.text(1)?, usize::MAX)?;
        strings(call, parts)
    }),
    function("split", 2, 2, |call, args| {
        let parts = split(call, args.text(0)?, args.text(1)?, usize::MAX)?;
        numbered(call, &parts)
    }),
    function("splitn", 3, 3, |call, args| {
        let most = usize::try_from(args.int(1)?).unwrap_or(usize::MAX);
        let parts = if most == 0 { Vec::new() } else { split(call, args.text(0)?, args.text(2)?, most)? };
        numbered(call, &parts)
    }),
    function("toString", 1, 1, |call, args| match args.get(0) {
        text @ Value::Text(_) => Ok(text.clone()),
        other => {
            let text = format::plain(call.heap, other)?;
            call.heap.text(text)
        }
    }),
    function("b64enc", 1, 1, |call, args| call.heap.text(STANDARD.encode(&**args.text(0)?)))
        .also_on_written_text(),
    function("b64dec", 1, 1, |call, args| {
        let bytes = STANDARD.decode(&**args.text(0)?).map_err(|_| args.wrong("the text is not base64"))?;
        let text = String::from_utf8(bytes).map_err(|_| args.wrong("the bytes are not UTF-8 text"))?;
        call.heap.text(text)
    }),
    function("sha256sum", 1, 1, |call, args| {
        let sum = Sha256::digest(args.text(0)?.as_bytes());
        call.heap.text(hexadecimal(&sum))
    })
    .also_on_written_text(),
    function("sha512sum", 1, 1, |call, args| {
        let sum = Sha512::digest(args.text(0)?.as_bytes());
        call.heap.text(hexadecimal(&sum))
    })
    .also_on_written_text(),
    function("snakecase", 1, 1, |call, args| call.heap.text(lower_words(args.text(0)?, '_'))),
    function("kebabcase", 1, 1, |call, args| call.heap.text(lower_words(args.text(0)?, '-'))),
    function("camelcase", 1, 1, |call, args| call.heap.text(pascal(args.text(0)?))),
    function("print", 0, MANY, |call, args| {
        let text = format::print(call.heap, args.all())?;
        call.heap.text(text)
    }),
    function("println", 0, MANY, |call, args| {
        let text = format::print_line(call.heap, args.all())?;
        call.heap.text(text)
    }),
    function("printf", 1, MANY, |call, args| {
        let format = Arc::clone(args.text(0)?);
        let text = format::printf(call.heap, &format, args.from(1))?;
        call.heap.text(text)
    }),
];

/// Go cuts between bytes; a text stays one here: the nearest place before, where a character begins.
fn boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    at
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Go's `strings.SplitN`: nothing splits into characters.
fn split(call: &mut Call<'_>, separator: &str, text: &str, most: usize) -> Result<Vec<String>, Refusal> {
    if !separator.is_empty() {
        call.heap.charge(text.matches(separator).count().min(most))?;
        return Ok(text.splitn(most, separator).map(str::to_owned).collect());
    }
    call.heap.charge(text.len().min(most))?;
    let mut chars = text.chars();
    let mut parts: Vec<String> = chars.by_ref().take(most.saturating_sub(1)).map(String::from).collect();
    let rest = chars.as_str();
    if !rest.is_empty() {
        parts.push(rest.to_owned());
    }
    Ok(parts)
}

/// `_0`, `_1`, …
fn numbered(call: &mut Call<'_>, parts: &[String]) -> Result<Value, Refusal> {
    let mut entries = Entries::new();
    for (index, part) in parts.iter().enumerate() {
        entries.insert(format!("_{index}").into(), call.heap.text(part.as_str())?);
    }
    call.heap.map(entries)
}

fn is_connector(char: char) -> bool {
    char == '-' || char == '_' || char.is_whitespace()
}

/// xstrings' `ToPascalCase`.
fn pascal(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    let mut last = None;
    for char in chars.by_ref() {
        if is_connector(char) {
            out.push(char);
        } else {
            last = Some(char);
            break;
        }
    }
    let Some(first) = last else { return out };
    let upper = |char: char| char.to_uppercase().next().unwrap_or(char);
    let lower = |char: char| char.to_lowercase().next().unwrap_or(char);
    let mut in_upper = first.is_uppercase();
    let mut before = upper(first);
    for char in chars {
        let mut now = char;
        if is_connector(now) && is_connector(before) {
            out.push(before);
            continue;
        }
        if is_connector(before) {
            in_upper = now.is_uppercase();
            now = upper(now);
        } else {
            if in_upper {
                if now.is_uppercase() {
                    now = lower(now);
                } else {
                    in_upper = false;
                }
            }
            out.push(before);
        }
        before = now;
    }
    out.push(before);
    out
}

#[derive(Clone, Copy, PartialEq)]
enum Word {
    None,
    Number,
    Upper,
    Letters,
    Connector,
    Punctuation,
    Other,
}

fn is_punctuation(char: char) -> bool {
    char.is_ascii_punctuation() && !matches!(char, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
}

/// The first word of a text, as xstrings takes texts apart, and the rest.
fn next_word(text: &str) -> (Word, &str, &str) {
    let Some(first) = text.chars().next() else { return (Word::None, "", "") };
    let run = |skip: usize, holds: &dyn Fn(char) -> bool| {
        let rest = text.get(skip..).unwrap_or_default();
        skip + rest.find(|char| !holds(char)).unwrap_or(rest.len())
    };
    let lower = |char: char| char.is_alphabetic() && !char.is_uppercase();
    let (word, length) = if is_connector(first) {
        (Word::Connector, run(0, &is_connector))
    } else if is_punctuation(first) {
        (Word::Punctuation, run(0, &is_punctuation))
    } else if first.is_uppercase() {
        let capitals = run(0, &char::is_uppercase);
        let rest = text.get(capitals..).unwrap_or_default();
        let length = if text.chars().take_while(|char| char.is_uppercase()).count() == 1 {
            run(capitals, &lower)
        } else if rest.starts_with(lower) {
            // `HTTPStatus` is `HTTP` and `Status`.
            let last =
                text.get(..capitals).and_then(|text| text.chars().next_back()).map_or(0, char::len_utf8);
            capitals - last
        } else {
            capitals
        };
        (Word::Upper, length)
    } else if first.is_alphabetic() {
        (Word::Letters, run(0, &lower))
    } else if first.is_numeric() {
        (Word::Number, run(0, &char::is_numeric))
    } else {
        let other = |char: char| {
            !(is_connector(char) || char.is_alphabetic() || char.is_numeric() || is_punctuation(char))
        };
        (Word::Other, run(0, &other))
    };
    let (taken, rest) = text.split_at_checked(length).unwrap_or((text, ""));
    (word, taken, rest)
}

/// xstrings' `ToSnakeCase` and `ToKebabCase`.
fn lower_words(text: &str, connector: char) -> String {
    let mut out = String::new();
    let write = |out: &mut String, word: &str| {
        for char in word.chars() {
            if is_connector(char) { out.push(connector) } else { out.extend(char.to_lowercase()) }
        }
    };
    let joins = |word: Word| !matches!(word, Word::Connector | Word::Punctuation);
    let (mut kind, mut word, mut rest) = next_word(text);
    while !rest.is_empty() {
        if kind != Word::Connector {
            write(&mut out, word);
        }
        let (before, last) = (kind, word);
        (kind, word, rest) = next_word(rest);
        match before {
            Word::Number => {
                while matches!(kind, Word::Letters | Word::Number) {
                    write(&mut out, word);
                    (kind, word, rest) = next_word(rest);
                }
                if kind != Word::None && joins(kind) {
                    out.push(connector);
                }
            }
            Word::Connector => write(&mut out, last),
            Word::Punctuation => {}
            _ if kind != Word::Number => {
                if joins(kind) {
                    out.push(connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word, rest) = next_word(rest);
                if kind != Word::Letters {
                    write(&mut out, number);
                    if joins(kind) {
                        out.push(connector);
                    }
                    continue;
                }
                out.push(connector);
                write(&mut out, number);
                while matches!(kind, Word::Letters | Word::Number) {
                    write(&mut out, word);
                    (kind, word, rest) = next_word(rest);
                }
                if kind != Word::None && joins(kind) {
                    out.push(connector);
                }
            }
        }
    }
    write(&mut out, word);
    out
}
