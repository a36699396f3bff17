//! By which name the program was called: its own, or as a plugin of kubectl. Usage, help and messages say the same.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

use clap::{Command, CommandFactory as _};

use super::Cli;

/// How people call the program, and how our texts do.
const OWN: &str = "fleet-operator";
/// The file name that makes it a plugin of kubectl.
const PLUGIN: &str = "kubectl-fleet";
const AS_PLUGIN: &str = "kubectl fleet";

static CALLED: OnceLock<&'static str> = OnceLock::new();

/// The command line as it is called by this name, which all messages use from now on.
pub(super) fn command(program: Option<&Path>) -> Command {
    let is_plugin = program.and_then(Path::file_stem).is_some_and(|name| name == PLUGIN);
    let called = *CALLED.get_or_init(|| if is_plugin { AS_PLUGIN } else { OWN });
    let command = Cli::command();
    if called == OWN { command } else { renamed(command.name(PLUGIN).bin_name(called)) }
}

/// The name of the file that is called.
pub(super) fn file() -> &'static str {
    if name() == OWN { OWN } else { PLUGIN }
}

/// What people type.
pub(super) fn name() -> &'static str {
    CALLED.get().copied().unwrap_or(OWN)
}

/// A text that names commands, with the name by which the program was called.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    let name = name();
    if name == OWN || !text.contains("`fleet-operator ") {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("`fleet-operator ", &format!("`{name} ")))
}

fn renamed(mut command: Command) -> Command {
    if let Some(about) = command.get_about().map(|about| text(&about.to_string()).into_owned()) {
        command = command.about(about);
    }
    if let Some(about) = command.get_long_about().map(|about| text(&about.to_string()).into_owned()) {
        command = command.long_about(about);
    }
    let args = |arg: clap::Arg| {
        let help = arg.get_help().map(|help| text(&help.to_string()).into_owned());
        let long = arg.get_long_help().map(|help| text(&help.to_string()).into_owned());
        let arg = if let Some(help) = help { arg.help(help) } else { arg };
        if let Some(long) = long { arg.long_help(long) } else { arg }
    };
    command.mut_args(args).mut_subcommands(renamed)
}
