//! The minijinja environment that all templates share: what exists in it, and what it allows itself.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::{filters, print};

/// The name of every template within its environment. Errors name templates by what their source is called.
pub(super) const NAME: &str = "template";

/// What a rendering may cost: one instruction, or 64 bytes produced.
const FUEL: u64 = 1_000_000;
/// How deep macros may call each other.
const RECURSION: usize = 100;

/// Auto-escaping of our own: with none at all, text captured by a macro would not be marked as printed.
pub(super) const AUTO_ESCAPE: &str = "fleet";

/// An environment without a template.
pub(super) fn environment() -> Environment<'static> {
    static EMPTY: LazyLock<Environment<'static>> = LazyLock::new(|| {
        let mut environment = Environment::new();
        // Names the variable in errors about undefined values.
        environment.set_debug(true);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.set_auto_escape_callback(|_| AutoEscape::Custom(AUTO_ESCAPE.into()));
        environment.set_formatter(print::print);
        // A template that ends in a block scalar keeps its last line break.
        if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        // It prints the whole context.
        environment.remove_global("debug");
        filters::install(&mut environment);
        environment
    });
    EMPTY.clone()
}
