//! The `helm` program: where it is, which version it is, and one run of it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

/// How long helm may take to tell its version.
const VERSION_WITHIN: Duration = Duration::from_secs(20);
/// So much of what helm says on stderr is read.
const MOST_SAID: u64 = 64 * 1024;
/// So much of what it prints is read.
const MOST_PRINTED: u64 = 64 << 20;

/// How to come by helm, and where it may work.
#[derive(Clone, Debug)]
pub struct HelmSetup {
    /// The program: a path, or a name that is looked for in `PATH`.
    pub program: PathBuf,
    /// A folder of its own: charts that were pulled, helm's caches, what runs need. Made when it is needed.
    pub folder: PathBuf,
    /// How many helm processes run at a time; each takes some 50 MB.
    pub parallel: usize,
}

impl HelmSetup {
    /// The `helm` that `PATH` has, at work in a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { program: "helm".into(), folder: folder.into(), parallel: 4 }
    }
}

/// The program, and the folder that it works in.
pub(super) struct Program {
    options: HelmSetup,
    permits: Semaphore,
    /// The version that was told by the file at a path, as it was then.
    known: Mutex<Option<(PathBuf, SystemTime, Flavour)>>,
}

/// Which options a helm knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Version 3.
    Three,
    /// Version 4.
    Four,
}

/// Why helm did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unrun {
    /// It cannot be used at all.
    #[error("{0}")]
    Unusable(String),
    /// A helm that an earlier process, or another one, has begun is at work on the release.
    #[error("a helm that was begun by another process is still at work on it")]
    Busy,
    /// What it needs could not be put into the folder.
    #[error("the folder {} for helm cannot be used: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// It did not end in time, and was killed.
    #[error("helm did not end within {} s, and was killed", .0.as_secs())]
    Overdue(Duration),
    /// It failed; this is what it said.
    #[error("helm failed")]
    Failed(Said),
}

/// What helm said of a failure. It may quote anything.
pub(super) struct Said(pub(super) String);

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Said(…)")
    }
}

/// One run.
pub(super) struct Run<'a> {
    /// Its arguments. Nothing secret: everybody on the machine sees them.
    pub(super) args: Vec<OsString>,
    /// The files that are there for it alone.
    pub(super) room: &'a Room,
    /// Held open for as long as the process lives, whatever becomes of this one.
    pub(super) held: Option<File>,
    /// Where no proxy is asked for.
    pub(super) no_proxy: Option<&'a str>,
    /// When it is killed.
    pub(super) within: Duration,
}

impl Program {
    pub(super) fn new(options: HelmSetup) -> Self {
        let permits = Semaphore::new(options.parallel.max(1));
        Self { options, permits, known: Mutex::default() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// A folder in the folder, for its owner alone.
    pub(super) fn subfolder(&self, name: &str) -> Result<PathBuf, Unrun> {
        let path = self.options.folder.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| Unrun::Folder { path: path.clone(), source })?;
        Ok(path)
    }

    /// Which helm it is.
    pub(super) async fn flavour(&self) -> Result<Flavour, Unrun> {
        let path = self.find()?;
        let changed = std::fs::metadata(&path).and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, _, flavour)) = known.filter(|(of, at, _)| *of == path && *at == changed) {
            return Ok(flavour);
        }
        let room = Room::new(self)?;
        let args = ["version", "--template", "{{.Version}}"].map(OsString::from).into();
        let run = Run { args, room: &room, held: None, no_proxy: None, within: VERSION_WITHIN };
        let unusable = |why: String| {
            Unrun::Unusable(format!(
                "{} is no helm that can be used ({why}); give the path of helm 4 or 3 with --helm",
                path.display()
            ))
        };
        let version = match self.print(run).await {
            Ok(printed) => String::from_utf8_lossy(&printed).trim().to_owned(),
            Err(Unrun::Failed(_)) => return Err(unusable("asked for its version, it failed".to_owned())),
            Err(other) => return Err(other),
        };
        let flavour = match version.trim_start_matches('v').split('.').next() {
            Some("4") => Flavour::Four,
            Some("3") => Flavour::Three,
            _ => {
                return Err(unusable(format!(
                    "its version is {:?}",
                    version.chars().take(40).collect::<String>()
                )));
            }
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.clone(), changed, flavour));
        Ok(flavour)
    }

    /// The file of the program.
    fn find(&self) -> Result<PathBuf, Unrun> {
        let program = &self.options.program;
        let advice = "install helm 4 or 3, or give its path with --helm; it is looked for again";
        if program.components().count() > 1 {
            return match program.is_file() {
                true => Ok(program.clone()),
                false => Err(Unrun::Unusable(format!(
                    "charts are installed by the program helm, and {} is not there: {advice}",
                    program.display()
                ))),
            };
        }
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file());
        found.ok_or_else(|| {
            Unrun::Unusable(format!(
                "charts are installed by the program {}, which is in no folder of PATH ({}): {advice}",
                program.display(),
                folders.to_string_lossy()
            ))
        })
    }

    /// Runs helm. Cancelled, it is killed.
    pub(super) async fn run(&self, run: Run<'_>) -> Result<(), Unrun> {
        self.start(run, MOST_SAID).await.map(|_| ())
    }

    /// Runs helm, and gives what it printed.
    pub(super) async fn print(&self, run: Run<'_>) -> Result<Vec<u8>, Unrun> {
        self.start(run, MOST_PRINTED).await
    }

    async fn start(&self, run: Run<'_>, most: u64) -> Result<Vec<u8>, Unrun> {
        // Never closed.
        let _permit = self.permits.acquire().await;
        let path = self.find()?;
        let homes = [
            ("HELM_CACHE_HOME", self.subfolder("cache")?),
            ("HELM_CONFIG_HOME", self.subfolder("config")?),
            ("HELM_DATA_HOME", self.subfolder("data")?),
        ];
        let mut command = Command::new(&path);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_meddling(name)) {
            command.env_remove(name);
        }
        if let Some(host) = run.no_proxy {
            for name in ["NO_PROXY", "no_proxy"] {
                let mut hosts = std::env::var_os(name).unwrap_or_default();
                hosts.push(if hosts.is_empty() { "" } else { "," });
                hosts.push(host);
                command.env(name, hosts);
            }
        }
        command
            .args(&run.args)
            .envs(homes)
            .env("TMPDIR", run.room.path())
            .current_dir(run.room.path())
            .stdin(run.held.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| {
            Unrun::Unusable(format!(
                "{} cannot be started: {error}; give the path of helm with --helm",
                path.display()
            ))
        })?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        match tokio::time::timeout(run.within, ended(child, most)).await {
            Ok(Ok((true, printed, _))) => {
                group.let_go();
                Ok(printed)
            }
            Ok(Ok((false, printed, said))) => {
                group.let_go();
                // Some of what is wrong is only printed.
                let said = [said, printed].map(|part| String::from_utf8_lossy(&part).into_owned()).join("\n");
                Err(Unrun::Failed(Said(said)))
            }
            Ok(Err(source)) => Err(Unrun::Folder { path: run.room.path().to_owned(), source }),
            Err(_) => Err(Unrun::Overdue(run.within)),
        }
    }
}

/// What would have helm work elsewhere, or otherwise, than it is told.
fn is_meddling(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("HELM_") || name.starts_with("XDG_") || name == "KUBECONFIG"
}

async fn ended(mut child: Child, most: u64) -> io::Result<(bool, Vec<u8>, Vec<u8>)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (printed, said) = tokio::join!(read(stdout, most), read(stderr, MOST_SAID));
    let status = child.wait().await?;
    Ok((status.success(), printed?, said?))
}

/// Reads the beginning. What comes after it is taken as well, so that it holds nobody up.
async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut begins = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(most).read_to_end(&mut begins).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(begins)
}

/// The processes of a run: killed with it, unless they have ended.
struct Group(Option<Pid>);

impl Group {
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Its leader is not reaped yet, so that the number is not another's.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A folder for one run, gone with it.
pub(super) struct Room(tempfile::TempDir);

impl Room {
    pub(super) fn new(program: &Program) -> Result<Self, Unrun> {
        let parent = program.subfolder("tmp")?;
        let made = tempfile::Builder::new().prefix("run-").tempdir_in(&parent);
        made.map(Self).map_err(|source| Unrun::Folder { path: parent, source })
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file that nobody else may read.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<PathBuf, Unrun> {
        let path = self.path().join(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()));
        written.map_err(|source| Unrun::Folder { path: path.clone(), source })?;
        Ok(path)
    }
}

/// One at a time, by name. What nobody waits for is forgotten.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, std::sync::Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    pub(super) async fn take(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(name).and_then(std::sync::Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    turns.insert(name.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}
