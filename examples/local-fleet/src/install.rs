//! Finds the lab's programs, and builds the ones that are missing.

use std::collections::BTreeMap;
use std::env;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::program::Recipe;
use crate::{LabError, Program, Progress, Result, go, private};

/// The folder that is searched first, as Kubernetes' own test environment does.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// Overrides where built programs are kept.
const CACHE: &str = "FLEET_LAB_CACHE";
/// Programs answer a question for their version within this.
const VERSION_WITHIN: Duration = Duration::from_secs(20);
/// How often a wait is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

static FOUND: LazyLock<Mutex<BTreeMap<Program, PathBuf>>> = LazyLock::new(Mutex::default);

/// The file of a program: from `KUBEBUILDER_ASSETS`, `PATH` (if its version will do), or the cache; if it is in none
/// of them, it is built into the cache with the `go` client. That takes minutes, once; several processes that want
/// the same program wait for one of them.
///
/// # Errors
/// If the program is nowhere and cannot be built; the error says what to install.
pub async fn find(program: Program, progress: &Progress) -> Result<PathBuf> {
    let known = FOUND.lock().unwrap_or_else(PoisonError::into_inner).get(&program).cloned();
    if let Some(path) = known.filter(|path| path.exists()) {
        return Ok(path);
    }
    let path = look(program, progress).await?;
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(program, path.clone());
    Ok(path)
}

async fn look(program: Program, progress: &Progress) -> Result<PathBuf> {
    // Chosen by the user for this very purpose, so taken as it is.
    if let Some(folder) = env::var_os(ASSETS)
        && let path = Path::new(&folder).join(program.name())
        && path.is_file()
    {
        return Ok(path);
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    for folder in env::split_paths(&folders) {
        let path = folder.join(program.name());
        if path.is_file() && is_acceptable(program, &path).await {
            return Ok(path);
        }
    }
    from_cache(program, progress).await
}

async fn from_cache(program: Program, progress: &Progress) -> Result<PathBuf> {
    let recipe = program.recipe();
    let cache = cache(program)?;
    let built = format!("{}-v{}", recipe.name, recipe.version);
    let folder = cache.join(&built);
    let path = folder.join(program.name());
    if path.is_file() {
        return Ok(path);
    }
    private::create_dir(&cache).map_err(LabError::file("create", &cache))?;
    let _lock = lock(&cache.join(format!("{built}.lock")), recipe, progress).await?;
    // Another process may have built it while this one waited.
    if !path.is_file() {
        go::build(program, &folder, progress).await?;
    }
    Ok(path)
}

fn cache(program: Program) -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(CACHE)
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("fleet-lab")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/fleet-lab")))
        .ok_or_else(|| LabError::ProgramMissing {
            program,
            reason: format!("there is no folder to build it into: set HOME or {CACHE}"),
        })
}

/// Waits until no other process builds this. The kernel gives the lock back however a process ends.
async fn lock(path: &Path, recipe: Recipe, progress: &Progress) -> Result<File> {
    let file = File::create(path).map_err(LabError::file("create", path))?;
    let begun = Instant::now();
    let mut told = begun;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(LabError::file("lock", path)(source)),
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let Recipe { name, version, .. } = recipe;
            let waited = begun.elapsed().as_secs();
            progress.say(format!("waiting for another process that builds {name} {version}: {waited} s"));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Whether a program that happens to be installed is at least the version that the lab is made for.
async fn is_acceptable(program: Program, path: &Path) -> bool {
    let output =
        Command::new(path).args(program.version_arguments()).stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(Ok(output)) = timeout(VERSION_WITHIN, output).await else {
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match (version_in(&said), version_in(program.version())) {
        (Some((major, minor)), Some((needed_major, needed_minor))) => {
            major == needed_major && minor >= needed_minor
        }
        _ => false,
    }
}

/// Major and minor of the first `x.y.z` in a text.
fn version_in(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut numbers = word.split('.');
        let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        numbers.next()?.parse::<u32>().ok()?;
        Some((major, minor))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        for (said, version) in [
            ("Kubernetes v1.36.3", Some((1, 36))),
            ("Client Version: v1.36.3\nKustomize Version: v5.8.1", Some((1, 36))),
            ("etcd Version: 3.6.8\nGit SHA: x", Some((3, 6))),
            ("nats-server: v2.15.2", Some((2, 15))),
            ("v4.3.1+g1234567", Some((4, 3))),
            ("flag provided but not defined: -version", None),
        ] {
            assert_eq!(version_in(said), version, "{said}");
        }
    }
}
