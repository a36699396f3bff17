//! `convert`: manifests of another system, written anew as ours.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, print};
use crate::convert;

#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Sveltos' EventSource, EventTrigger, ClusterProfile and SveltosCluster, and the templates that they refer to. Prints
    /// manifests of our kinds, with templates in minijinja; tells on stderr, with file and line, what has no translation,
    /// and fails then. (They need not be converted: `run` takes them as they are.)
    Sveltos {
        /// Files, or folders of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
}

pub(super) async fn convert(args: ConvertArgs) -> Result<(), Failure> {
    let From::Sveltos { paths } = args.from;
    let converted = tokio::task::spawn_blocking(move || convert::sveltos(&paths)).await;
    let converted = converted.map_err(|error| Failure::because(&error))?;
    print(converted.yaml.trim_end());
    for one in &converted.untranslated {
        eprintln!("{one}");
    }
    match converted.untranslated.len() {
        0 => Ok(()),
        number => Err(Failure::new(format!("{number} of it has no translation, and stands there as it was"))),
    }
}
