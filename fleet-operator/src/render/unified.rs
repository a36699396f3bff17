//! Unified diffs as people read them.

use std::fmt::Write as _;

/// A text of unified diffs.
#[derive(Debug, Default)]
pub struct Unified {
    text: String,
    colour: bool,
}

impl Unified {
    /// One without diffs, whose lines are coloured or not.
    pub fn new(colour: bool) -> Self {
        Self { text: String::new(), colour }
    }

    /// Adds how one thing differs; each line begins as unified diffs have it.
    pub fn difference(&mut self, before: &str, after: &str, lines: &str) {
        self.line("1", &format!("--- {before}"));
        self.line("1", &format!("+++ {after}"));
        for line in lines.lines() {
            let colour = match line.chars().next() {
                Some('-') => "31",
                Some('+') => "32",
                Some('@') => "36",
                _ => "",
            };
            self.line(colour, line);
        }
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, colour: &str, line: &str) {
        // What is compared must not reach the terminal as anything but text.
        let line = line.replace(|c: char| c.is_control() && c != '\t', " ");
        // Writing to a String cannot fail.
        let _ = match self.colour && !colour.is_empty() {
            true => writeln!(self.text, "\u{1b}[{colour}m{line}\u{1b}[0m"),
            false => writeln!(self.text, "{line}"),
        };
    }
}
