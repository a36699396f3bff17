//! Go's literals: strings, characters, numbers.

/// How long the quoted text is at the beginning of a text, quotes included.
pub(super) fn length(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            '\n' if quote != '`' => return None,
            _ if char == quote => return Some(index + char.len_utf8()),
            _ => {}
        }
    }
    None
}

/// The text of a `"…"` or `` `…` ``.
pub(super) fn string(written: &str) -> Result<String, String> {
    let inner = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
    if written.starts_with('`') {
        return Ok(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match if char == '\\' { escape(&mut chars, '"')? } else { Unit::Char(char) } {
            Unit::Char(char) => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(byte) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| "a string is not UTF-8 text once its escapes are resolved".to_owned())
}

/// The number of a `'c'`.
pub(super) fn char(written: &str) -> Result<i64, String> {
    let mut chars = written.get(1..written.len().saturating_sub(1)).unwrap_or_default().chars();
    let unit = match chars.next() {
        Some('\\') => escape(&mut chars, '\'')?,
        Some(char) => Unit::Char(char),
        None => return Err("a character constant is empty".to_owned()),
    };
    if chars.next().is_some() {
        return Err("'…' holds one character; a text is written \"…\"".to_owned());
    }
    Ok(match unit {
        Unit::Char(char) => u32::from(char).into(),
        Unit::Byte(byte) => byte.into(),
    })
}

enum Unit {
    Char(char),
    Byte(u8),
}

/// What stands behind a backslash.
fn escape(chars: &mut std::str::Chars<'_>, quote: char) -> Result<Unit, String> {
    let unknown = || "a string has an escape that Go does not know".to_owned();
    let byte = |value: u32| u8::try_from(value).map(Unit::Byte).map_err(|_| unknown());
    let char = |value: u32| char::from_u32(value).map(Unit::Char).ok_or_else(unknown);
    match chars.next() {
        Some('a') => Ok(Unit::Char('\u{7}')),
        Some('b') => Ok(Unit::Char('\u{8}')),
        Some('f') => Ok(Unit::Char('\u{c}')),
        Some('n') => Ok(Unit::Char('\n')),
        Some('r') => Ok(Unit::Char('\r')),
        Some('t') => Ok(Unit::Char('\t')),
        Some('v') => Ok(Unit::Char('\u{b}')),
        Some('\\') => Ok(Unit::Char('\\')),
        Some(other) if other == quote => Ok(Unit::Char(quote)),
        Some('x') => byte(number_of(chars, None, 2, 16).ok_or_else(unknown)?),
        Some('u') => char(number_of(chars, None, 4, 16).ok_or_else(unknown)?),
        Some('U') => char(number_of(chars, None, 8, 16).ok_or_else(unknown)?),
        Some(first @ '0'..='7') => byte(number_of(chars, Some(first), 3, 8).ok_or_else(unknown)?),
        _ => Err(unknown()),
    }
}

fn number_of(chars: &mut std::str::Chars<'_>, first: Option<char>, count: usize, radix: u32) -> Option<u32> {
    let mut first = first;
    let mut value = 0_u32;
    for _ in 0..count {
        let digit = first.take().or_else(|| chars.next())?.to_digit(radix)?;
        value = value.checked_mul(radix)?.checked_add(digit)?;
    }
    Some(value)
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

/// How much of a text is a number.
pub(super) fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let based = bytes.get(at) == Some(&b'0')
        && matches!(bytes.get(at + 1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B'));
    let hexadecimal = based && matches!(bytes.get(at + 1), Some(b'x' | b'X'));
    if based {
        at += 2;
    }
    while let Some(byte) = bytes.get(at) {
        let exponent = if hexadecimal { matches!(byte, b'p' | b'P') } else { matches!(byte, b'e' | b'E') };
        match byte {
            b'0'..=b'9' | b'_' | b'.' => at += 1,
            b'a'..=b'f' | b'A'..=b'F' if hexadecimal => at += 1,
            _ if exponent => {
                at += 1;
                at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            }
            _ => break,
        }
    }
    at
}

/// Go's `strconv.ParseInt(text, 0, 64)`, else a float.
pub(super) fn number(written: &str) -> Option<Number> {
    let (negative, digits) = match written.as_bytes().first()? {
        b'-' => (true, written.get(1..)?),
        b'+' => (false, written.get(1..)?),
        _ => (false, written),
    };
    let lawful_underscores = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    if !lawful_underscores {
        return None;
    }
    let plain = digits.replace('_', "");
    let (radix, rest) = match plain.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, plain.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, plain.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, plain.get(2..)?),
        [b'0', _, ..] if plain.bytes().all(|byte| byte.is_ascii_digit()) => (8, plain.get(1..)?),
        _ => (10, plain.as_str()),
    };
    if rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && let Ok(magnitude) = i128::from_str_radix(rest, radix)
    {
        let value = if negative { -magnitude } else { magnitude };
        return i64::try_from(value).ok().map(Number::Int);
    }
    if radix != 10 || digits.contains('_') {
        return None;
    }
    let number: f64 = plain.parse().ok().filter(|number: &f64| number.is_finite())?;
    Some(Number::Float(if negative { -number } else { number }))
}
