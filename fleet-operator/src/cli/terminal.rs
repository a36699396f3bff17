//! What goes to people: messages on stderr, and colours where somebody looks.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;

use super::called;

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Whether what goes to stdout is.
    pub(super) fn is_wanted(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => std::io::stdout().is_terminal() && may_colour(),
        }
    }
}

/// Whether stderr may be coloured.
pub(super) fn colours_errors() -> bool {
    std::io::stderr().is_terminal() && may_colour()
}

/// Set to anything but nothing it forbids (no-color.org).
fn may_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a line to stdout. A reader that went away (`| head`) is no reason to fail.
pub(super) fn print(text: &str) {
    let _ = is_printed(text);
}

/// The same; false if the reader went away, for who would go on.
#[must_use]
pub(super) fn is_printed(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_ok()
}

/// What went wrong.
pub(super) fn error(text: &str) {
    say("31", "error", text);
}

/// What a person should know besides; it never mixes with what is printed.
pub(super) fn note(text: &str) {
    say("33", "note", text);
}

fn say(colour: &str, what: &str, text: &str) {
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = match colours_errors() {
        true => write!(line, "\u{1b}[1;{colour}m{what}:\u{1b}[0m {}", called::text(text)),
        false => write!(line, "{what}: {}", called::text(text)),
    };
    eprintln!("{line}");
}
