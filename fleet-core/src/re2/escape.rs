//! What begins with a backslash.

use super::{Fault, Writer};

/// What Perl's classes hold: ASCII only.
const DIGITS: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\x0c\r ";

impl Writer<'_> {
    /// Reads an escape outside of a class.
    pub(super) fn escape(&mut self) -> Result<(), Fault> {
        // What knows more than ASCII to `regex`.
        for (escape, written) in [(r"\A", r"\A"), (r"\z", r"\z"), (r"\b", r"(?-u:\b)"), (r"\B", r"(?-u:\B)")]
        {
            if self.eat(escape) {
                self.written.push_str(written);
                return Ok(());
            }
        }
        if self.rest().starts_with(r"\C") {
            return Err(Fault::new(self.at, r"a single byte (\C) is not supported"));
        }
        if self.eat(r"\Q") {
            while !self.rest().is_empty() && !self.eat(r"\E") {
                self.origins.push((self.written.len(), self.at));
                if let Some(char) = self.next() {
                    self.literal(char);
                }
            }
            return Ok(());
        }
        if !self.named_class(false)? {
            let char = self.character()?;
            self.literal(char);
        }
        Ok(())
    }

    /// Reads `\pN`, `\p{Greek}`, `\d` and their like, if that is what comes.
    pub(super) fn named_class(&mut self, within_class: bool) -> Result<bool, Fault> {
        let begin = self.at;
        for (letter, negated, members) in [
            (r"\d", false, DIGITS),
            (r"\D", true, DIGITS),
            (r"\w", false, WORD),
            (r"\W", true, WORD),
            (r"\s", false, SPACE),
            (r"\S", true, SPACE),
        ] {
            if !self.eat(letter) {
                continue;
            }
            match (negated, within_class) {
                (false, true) => self.written.push_str(members),
                (false, false) => self.written.extend(["[", members, "]"]),
                (true, _) => self.written.extend(["[^", members, "]"]),
            }
            return Ok(true);
        }
        let mut negated = match () {
            () if self.eat(r"\p") => false,
            () if self.eat(r"\P") => true,
            () => return Ok(false),
        };
        let name = if self.eat("{") {
            let Some((name, _)) = self.rest().split_once('}') else {
                return Err(Fault::new(begin, "unclosed name of a class of characters"));
            };
            self.at += name.len() + 1;
            name
        } else {
            let name = self.rest();
            let end = self.next().map_or(0, char::len_utf8);
            name.get(..end).unwrap_or_default()
        };
        let name = name.strip_prefix('^').inspect(|_| negated = !negated).unwrap_or(name);
        // Others have names that `regex` knows and RE2 does not.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(Fault::new(begin, r"no name of a class of characters, as \pN or \p{Greek}"));
        }
        self.written.extend([if negated { r"\P{" } else { r"\p{" }, name, "}"]);
        Ok(true)
    }

    /// Reads an escape that stands for one character.
    pub(super) fn character(&mut self) -> Result<char, Fault> {
        let begin = self.at;
        self.at += 1;
        let Some(escaped) = self.next() else {
            return Err(Fault::new(begin, "incomplete escape sequence: the pattern ends"));
        };
        let unknown = || Fault::new(begin, "unrecognized escape sequence");
        let code = match escaped {
            'a' => 0x07,
            'f' => 0x0c,
            'n' => 0x0a,
            'r' => 0x0d,
            't' => 0x09,
            'v' => 0x0b,
            'x' => self.hexadecimal().ok_or_else(unknown)?,
            '0'..='7' => match self.octal(escaped) {
                Some(code) => code,
                None => return Err(Fault::new(begin, "backreferences are not supported")),
            },
            char if char.is_ascii() && !char.is_ascii_alphanumeric() => return Ok(char),
            _ => return Err(unknown()),
        };
        char::from_u32(code).ok_or_else(|| Fault::new(begin, "no character has this number"))
    }

    /// Three digits at most; one alone that is not 0 would be a backreference.
    fn octal(&mut self, first: char) -> Option<u32> {
        let digits = self.rest().bytes().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        if first != '0' && digits == 0 {
            return None;
        }
        let more = self.rest().get(..digits)?;
        self.at += digits;
        u32::from_str_radix(&format!("{first}{more}"), 8).ok()
    }

    /// Two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let digits = match self.rest().strip_prefix('{') {
            Some(rest) => rest.split_once('}')?.0,
            None => self.rest().get(..2)?,
        };
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.at += digits.len() + if self.rest().starts_with('{') { 2 } else { 0 };
        u32::from_str_radix(digits.trim_start_matches('0'), 16)
            .ok()
            .or(digits.bytes().all(|it| it == b'0').then_some(0))
    }
}
