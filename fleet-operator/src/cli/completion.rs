//! `completion`: what a shell has to know to complete our command lines.

use clap::Args;
use clap_complete::{Shell, generate};

use super::{Failure, called, print};

#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// The shell.
    shell: Shell,
}

pub(super) fn completion(args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    // The file is what a shell completes, also where it is a plugin.
    let mut command = called::command(None).bin_name(called::file());
    generate(args.shell, &mut command, called::file(), &mut script);
    let mut script = String::from_utf8(script).map_err(|error| Failure::because(&error))?;
    if args.shell == Shell::Bash {
        script = with_one_name(&script, called::file());
    }
    print(script.trim_end());
    Ok(())
}

/// In bash, clap_complete 4.6 spells a name with a dash in two ways, and then finds no subcommand.
fn with_one_name(script: &str, file: &str) -> String {
    let spelt = |dash: &str| format!("{}__subcmd__", file.replace('-', dash));
    script.replace(&spelt("__subcmd__"), &spelt("__"))
}
