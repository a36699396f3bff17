//! Classes of characters: `[…]`.

use super::{Fault, Writer};

/// The names in `[[:alpha:]]`, each of which may have a `^` before it.
const NAMES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

impl Writer<'_> {
    /// Reads a class. There are no operators in it, as `regex` has them: `&&` is twice the same character.
    pub(super) fn class(&mut self) -> Result<(), Fault> {
        let begin = self.at;
        self.at += 1;
        let opens = if self.eat("^") { "[^" } else { "[" };
        self.written.push_str(opens);
        let mut is_first = true;
        loop {
            let Some(next) = self.rest().chars().next() else {
                return Err(Fault::new(begin, "unclosed character class"));
            };
            // One that is empty is not closed yet.
            if next == ']' && !is_first {
                self.at += 1;
                self.written.push(']');
                return Ok(());
            }
            is_first = false;
            self.origins.push((self.written.len(), self.at));
            if !self.posix_class()? && !self.named_class(true)? {
                self.range()?;
            }
        }
    }

    fn posix_class(&mut self) -> Result<bool, Fault> {
        let Some((name, _)) = self.rest().strip_prefix("[:").and_then(|rest| rest.split_once(":]")) else {
            return Ok(false);
        };
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(Fault::new(self.at, "no name of a class of characters, as [:alpha:]"));
        }
        self.at += name.len() + 4;
        self.written.extend(["[:", name, ":]"]);
        Ok(true)
    }

    fn range(&mut self) -> Result<(), Fault> {
        let begin = self.at;
        let first = self.member(begin)?;
        self.literal(first);
        // Before the end a `-` is one.
        if self.rest().starts_with('-') && !self.rest().starts_with("-]") && self.rest() != "-" {
            self.at += 1;
            let last = self.member(begin)?;
            if last < first {
                return Err(Fault::new(begin, "invalid character class range, the start must be <= the end"));
            }
            self.written.push('-');
            self.literal(last);
        }
        Ok(())
    }

    fn member(&mut self, begin: usize) -> Result<char, Fault> {
        if self.rest().starts_with('\\') {
            return self.character();
        }
        self.next().ok_or_else(|| Fault::new(begin, "unclosed character class"))
    }
}
