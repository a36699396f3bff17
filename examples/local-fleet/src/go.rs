//! Builds programs with the `go` client, as the user has configured it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::process::{Environment, Launch, Process};
use crate::program::{Recipe, Source};
use crate::server::log_tail;
use crate::{LabError, Program, Progress, Result, private};

/// The Go module beside this crate's sources, carried inside this program: an installed one needs no source tree.
const MODULE: [(&str, &str); 4] = [
    ("go.mod", include_str!("../programs/go.mod")),
    ("go.sum", include_str!("../programs/go.sum")),
    ("etcd/main.go", include_str!("../programs/etcd/main.go")),
    ("kubernetes/main.go", include_str!("../programs/kubernetes/main.go")),
];

const TELL_EVERY: Duration = Duration::from_secs(5);
/// On two slow cores Kubernetes takes a quarter of an hour; a build that takes this long hangs.
const BUILT_WITHIN: Duration = Duration::from_secs(2 * 60 * 60);

/// Builds what yields `program` into `folder`. The caller holds the lock for it.
pub(crate) async fn build(program: Program, folder: &Path, progress: &Progress) -> Result<()> {
    let recipe = program.recipe();
    check_go(program).await?;
    // What an interrupted build left is thrown away; the compiler's own cache keeps what it had done.
    let work = folder.with_file_name(format!(".{}-v{}", recipe.name, recipe.version));
    remove(&work)?;
    let output = work.join("out");
    private::create_dir(&output).map_err(LabError::file("create", &output))?;
    run_go(program, recipe, &work, &output, progress).await?;
    name_programs(recipe, &output)?;
    remove(folder)?;
    fs::rename(&output, folder).map_err(LabError::file("create", folder))?;
    remove(&work)
}

async fn check_go(program: Program) -> Result<()> {
    let version = Command::new("go").arg("version").stdin(Stdio::null()).kill_on_drop(true).output();
    let reason = match timeout(Duration::from_secs(30), version).await {
        Ok(Ok(output)) if output.status.success() => return Ok(()),
        Ok(Ok(output)) => format!("`go version` failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Ok(Err(_)) => "there is no `go` on PATH to build it with".to_owned(),
        Err(_) => "`go version` does not answer".to_owned(),
    };
    Err(LabError::ProgramMissing { program, reason })
}

async fn run_go(
    program: Program,
    recipe: Recipe,
    work: &Path,
    output: &Path,
    progress: &Progress,
) -> Result<()> {
    let stamps: String =
        recipe.stamps.iter().map(|variable| format!(" -X {variable}=v{}", recipe.version)).collect();
    let mut args = vec![
        // Free of this machine's paths, so that the compiler's cache serves every folder.
        "-trimpath".to_owned(),
        "-buildvcs=false".to_owned(),
        format!("-ldflags=-s -w{stamps}"),
    ];
    let mut env: Vec<(&'static str, OsString)> = vec![
        // No C compiler needed, and programs that run on any Linux.
        ("CGO_ENABLED", "0".into()),
        // A workspace around the cache folder is none of ours.
        ("GOWORK", "off".into()),
    ];
    match recipe.source {
        Source::Here { folder } => {
            write_module(work)?;
            args.splice(0..0, ["build".to_owned(), "-mod=readonly".to_owned()]);
            args.extend([format!("-o={}", output.join(recipe.name).display()), format!("./{folder}")]);
        }
        Source::Published { package } => {
            args.splice(0..0, ["install".to_owned()]);
            args.push(format!("{package}@v{}", recipe.version));
            env.push(("GOBIN", output.into()));
        }
    }
    let log = work.join("log");
    let process = Process::spawn(Launch {
        program: PathBuf::from("go"),
        args: args.iter().map(OsString::from).collect(),
        environment: Environment::UsersAnd(env),
        dir: work.to_path_buf(),
        log: log.clone(),
        pid_file: work.join("pid"),
    })
    .await
    .map_err(|source| LabError::Spawn {
        server: "the build".to_owned(),
        program: "go".into(),
        source,
    })?;
    let failed = |said: String| LabError::BuildFailed {
        program,
        command: format!("go {}", args.join(" ")),
        output: said,
    };
    match timeout(BUILT_WITHIN, watch(&process, recipe, progress)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(failed(log_tail(&log, 0))),
        Err(_) => Err(failed(format!("nothing for {} minutes", BUILT_WITHIN.as_secs() / 60))),
    }
}

/// Tells how long the build takes, until it has ended; true if it succeeded.
async fn watch(process: &Process, recipe: Recipe, progress: &Progress) -> bool {
    let names: Vec<_> = recipe.programs.iter().map(|program| program.name()).collect();
    let what = format!("{} {}", names.join(", "), recipe.version);
    let begun = Instant::now();
    progress.say(format!("building {what} with go, once; this takes up to some minutes"));
    loop {
        tokio::select! {
            status = process.exited() => {
                let done = status.is_some_and(|status| status.success());
                let end = if done { "built" } else { "failed to build" };
                progress.say(format!("{end} {what} in {} s", begun.elapsed().as_secs()));
                return done;
            }
            () = sleep(TELL_EVERY) => {
                progress.say(format!("building {what}: {} s", begun.elapsed().as_secs()));
            }
        }
    }
}

fn write_module(work: &Path) -> Result<()> {
    for (name, content) in MODULE {
        let file = work.join(name);
        if let Some(folder) = file.parent() {
            private::create_dir(folder).map_err(LabError::file("create", folder))?;
        }
        fs::write(&file, content).map_err(LabError::file("write", &file))?;
    }
    Ok(())
}

/// Gives what was built the names of its programs.
fn name_programs(recipe: Recipe, output: &Path) -> Result<()> {
    let built = output.join(recipe.name);
    if let Source::Published { package } = recipe.source {
        // `go install` names a program after the last part of its path that is not a version.
        let name = package.rsplit('/').find(|part| !part.starts_with('v')).unwrap_or(recipe.name);
        let named = output.join(name);
        if named != built {
            fs::rename(&named, &built).map_err(LabError::file("rename", &named))?;
        }
    }
    for program in recipe.programs.iter().filter(|program| program.name() != recipe.name) {
        let link = output.join(program.name());
        symlink(recipe.name, &link).map_err(LabError::file("create", &link))?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(LabError::file("remove", folder))?;
    }
    Ok(())
}
