//! `completion`: what a shell has to know to complete our command lines.

use clap::Args;
use clap_complete::{Shell, generate};

use super::{Failure, called};

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
    let script = String::from_utf8(script).map_err(|error| Failure::because(&error))?;
    super::print(script.trim_end());
    Ok(())
}
