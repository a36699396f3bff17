//! Regular expressions in [RE2's syntax](https://github.com/google/re2/wiki/Syntax), as Go's `regexp` reads it.
//!
//! They are compiled by Rust's `regex`, which gives the same guarantees and nearly the same syntax. What it reads in
//! another way is written anew for it; what it reads and RE2 does not is refused. `tests/re2` compares with Go.
//!
//! Refused here, though Go takes them: a name of a group that begins with a digit, or that another group has; a half of a
//! surrogate pair (`\x{D800}`); a repetition of what a change of flags hides (`a(?i)*`).

mod class;
mod escape;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use regex::{Regex, RegexBuilder};

/// The highest count of a repetition.
const MOST: u32 = 1000;

/// Compiles a pattern, to `largest` bytes at most.
pub(crate) fn compile(pattern: &str, largest: usize) -> Result<Regex, InvalidPattern> {
    let mut writer = Writer::new(pattern);
    writer.all().map_err(|fault| fault.invalid(pattern))?;
    let Writer { written, origins, .. } = writer;
    let compiled = RegexBuilder::new(&written).size_limit(largest).build();
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            let why = format!("compiled it exceeds the size limit of {largest} bytes");
            InvalidPattern { why: why.into(), at: None }
        }
        error => refused(&written, &error).invalid_at(pattern, &origins),
    })
}

/// Why a text is no regular expression, and where in it. Shows nothing of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern {
    why: Cow<'static, str>,
    /// The character, counted from 1.
    at: Option<usize>,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is no regular expression (RE2): {}", self.why)?;
        match self.at {
            Some(at) => write!(f, ", at character {at}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for InvalidPattern {}

/// What is wrong at a byte of a text.
struct Fault {
    why: Cow<'static, str>,
    at: Option<usize>,
}

impl Fault {
    fn new(at: usize, why: &'static str) -> Self {
        Self { why: why.into(), at: Some(at) }
    }

    fn invalid(self, pattern: &str) -> InvalidPattern {
        let character = |at| pattern.char_indices().take_while(|(begin, _)| *begin < at).count() + 1;
        InvalidPattern { why: self.why, at: self.at.map(character) }
    }

    /// One in what was written; `origins` tell from where in the pattern that is.
    fn invalid_at(self, pattern: &str, origins: &[(usize, usize)]) -> InvalidPattern {
        let origin =
            |at| origins.iter().rev().find(|(written, _)| *written <= at).map_or(0, |(_, origin)| *origin);
        Self { at: self.at.map(origin), ..self }.invalid(pattern)
    }
}

/// Where in what was written the compiler stumbled: it tells so only who asks its parser.
fn refused(written: &str, error: &regex::Error) -> Fault {
    match regex_syntax::parse(written) {
        Err(regex_syntax::Error::Parse(error)) => {
            Fault { why: error.kind().to_string().into(), at: Some(error.span().start.offset) }
        }
        Err(regex_syntax::Error::Translate(error)) => {
            Fault { why: error.kind().to_string().into(), at: Some(error.span().start.offset) }
        }
        _ => {
            // The first line says what it is about, the last what is wrong.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Fault { why: why.into(), at: None }
        }
    }
}

/// Writes a pattern for `regex`.
struct Writer<'a> {
    pattern: &'a str,
    /// How far it was read, in bytes.
    at: usize,
    written: String,
    /// Where something begins in what was written, and where in the pattern.
    origins: Vec<(usize, usize)>,
}

impl<'a> Writer<'a> {
    fn new(pattern: &'a str) -> Self {
        Self { pattern, at: 0, written: String::with_capacity(pattern.len()), origins: Vec::new() }
    }

    fn rest(&self) -> &'a str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    /// Writes a character that means itself.
    fn literal(&mut self, char: char) {
        self.written.push_str(&regex::escape(char.encode_utf8(&mut [0; 4])));
    }

    fn all(&mut self) -> Result<(), Fault> {
        let mut after_repetition = false;
        while let Some(char) = self.rest().chars().next() {
            let begin = self.at;
            self.origins.push((self.written.len(), begin));
            let repetition = match char {
                '*' | '+' | '?' => {
                    self.at += 1;
                    Some(Cow::Owned(char.to_string()))
                }
                '{' => self.count()?,
                _ => None,
            };
            if let Some(repetition) = &repetition {
                if after_repetition {
                    let why = "repeats a repetition (there are no possessive ones); put what is repeated into a group";
                    return Err(Fault::new(begin, why));
                }
                self.written.push_str(repetition);
                if self.eat("?") {
                    self.written.push('?');
                }
            } else {
                self.atom(char)?;
            }
            after_repetition = repetition.is_some();
        }
        Ok(())
    }

    fn atom(&mut self, char: char) -> Result<(), Fault> {
        match char {
            '(' if self.rest().starts_with("(?") => self.group(),
            '[' => self.class(),
            '\\' => self.escape(),
            '{' => {
                self.at += 1;
                self.literal(char);
                Ok(())
            }
            _ => {
                self.at += char.len_utf8();
                self.written.push(char);
                Ok(())
            }
        }
    }

    /// Reads `{n}`, `{n,}` or `{n,m}`; anything else in braces stands for itself.
    fn count(&mut self) -> Result<Option<Cow<'static, str>>, Fault> {
        let Some((inner, _)) = self.rest().strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            return Ok(None);
        };
        let is_number = |text: &str| {
            let is_plain = text == "0" || !text.starts_with('0');
            is_plain && !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
        };
        let (least, most) = inner.split_once(',').map_or((inner, inner), |(least, most)| (least, most));
        if !is_number(least) || !(most.is_empty() || is_number(most)) {
            return Ok(None);
        }
        let number = |text: &str| text.parse().ok().filter(|number: &u32| *number <= MOST);
        let too_many = || Fault::new(self.at, "repeats more than 1000 times");
        let least = number(least).ok_or_else(too_many)?;
        let most = if most.is_empty() { None } else { Some(number(most).ok_or_else(too_many)?) };
        if most.is_some_and(|most| most < least) {
            return Err(Fault::new(self.at, "invalid repetition count range, the start must be <= the end"));
        }
        let repetition = format!("{{{inner}}}");
        self.at += repetition.len();
        Ok(Some(repetition.into()))
    }

    /// Reads what begins with `(?`: a name, or flags.
    fn group(&mut self) -> Result<(), Fault> {
        let begin = self.at;
        if ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|look| self.rest().starts_with(look)) {
            return Err(Fault::new(begin, "look-around is not supported"));
        }
        if self.eat("(?P<") || self.eat("(?<") {
            let Some((name, _)) = self.rest().split_once('>') else {
                return Err(Fault::new(begin, "unclosed name of a group"));
            };
            let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
            if name.is_empty() || !name.chars().all(is_word) {
                let why = "names of groups have letters without accents, digits and _ only";
                return Err(Fault::new(begin, why));
            }
            self.written.push_str("(?P<");
            self.written.push_str(name);
            self.written.push('>');
            self.at += name.len() + 1;
            return Ok(());
        }
        self.at += "(?".len();
        self.flags()
    }

    /// Reads flags, after `(?`. A flag may be named twice, and the last word on it counts.
    fn flags(&mut self) -> Result<(), Fault> {
        let (mut on, mut off) = (String::new(), String::new());
        let (mut negates, mut any) = (false, false);
        loop {
            let at = self.at;
            match self.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    let (to, from) = if negates { (&mut off, &mut on) } else { (&mut on, &mut off) };
                    from.retain(|other| other != flag);
                    if !to.contains(flag) {
                        to.push(flag);
                    }
                    any = true;
                }
                Some('-') if !negates => (negates, any) = (true, false),
                Some(end @ (':' | ')')) if any || !negates => {
                    let flags = if off.is_empty() { on } else { format!("{on}-{off}") };
                    // Nothing is changed by none.
                    if end == ':' || !flags.is_empty() {
                        self.written.push_str("(?");
                        self.written.push_str(&flags);
                        self.written.push(end);
                    }
                    return Ok(());
                }
                Some(_) => return Err(Fault::new(at, "unknown flag; there are i, m, s and U")),
                None => return Err(Fault::new(at, "expected a flag, and it ends")),
            }
        }
    }
}
