//! One child process: started so that it cannot outlive the lab.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, kill_process_group, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal,
};
use tokio::process::Command;
use tokio::sync::watch;

use crate::{keeper, leftover};

/// A dropped process is waited for this long.
const DROP_WITHIN: Duration = Duration::from_secs(2);

/// What to start, and where it writes.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) environment: Environment,
    pub(crate) dir: PathBuf,
    /// Standard output and error are appended here.
    pub(crate) log: PathBuf,
    /// Lets a later lab on the same folder find what a killed one left behind.
    pub(crate) pid_file: PathBuf,
}

/// The variables that a child sees.
#[derive(Debug, Clone)]
pub(crate) enum Environment {
    /// Hardly any: etcd takes every `ETCD_…` for a flag, and clients find other clusters in theirs.
    Bare,
    /// The user's own, and these.
    UsersAnd(Vec<(&'static str, OsString)>),
}

/// What a bare environment still has; the last three tune Go programs.
const BARE: [&str; 6] = ["PATH", "HOME", "TMPDIR", "GOGC", "GOMEMLIMIT", "GOMAXPROCS"];

/// A running child, or one that has ended by itself. Dropping it kills it and what it started.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// Names this very process: unlike a number, it can never mean another one.
    pidfd: OwnedFd,
    pid_file: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts the program on the keeper's thread.
    pub(crate) async fn spawn(launch: Launch) -> io::Result<Self> {
        keeper::run(async move { spawn_here(&launch) }).await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// How it ended, if it has.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until it has ended and was reaped. `None`: nobody knows how it ended.
    pub(crate) async fn exited(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        exit.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            // The leader first and by its descriptor: while it is not reaped, its group's number is not reused.
            if self.signal(Signal::KILL).is_ok() {
                let _gone = kill_process_group(self.pid, Signal::KILL);
            }
            // Some milliseconds; without them it would still write to a folder that the caller removes next.
            let _slow = leftover::is_gone(&self.pidfd, DROP_WITHIN);
        }
        let _gone = fs::remove_file(&self.pid_file);
    }
}

fn spawn_here(launch: &Launch) -> io::Result<Process> {
    let log = open_log(&launch.log)?;
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .current_dir(&launch.dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        // Its own group, so that Ctrl-C in a terminal reaches the lab alone, which then stops its children in order.
        .process_group(0);
    match &launch.environment {
        Environment::Bare => {
            let kept = BARE.into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
            command.env_clear().envs(kept);
        }
        Environment::UsersAnd(more) => {
            command.envs(more.iter().map(|(name, value)| (name, value)));
        }
    }
    die_with_this_thread(&mut command);
    let mut child = command.spawn()?;
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the child has no process id"))?;
    // It cannot have been reaped: only the task below does that.
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    leftover::record(&launch.pid_file, pid)?;
    let (ended, exit) = watch::channel(None);
    tokio::spawn(async move {
        let status = child.wait().await;
        // An error here means that the child cannot be waited for; the channel then closes without a status.
        if let Ok(status) = status {
            ended.send_replace(Some(status));
        }
    });
    Ok(Process { pid, pidfd, pid_file: launch.pid_file.clone(), exit })
}

/// Makes the kernel kill the child when the thread that starts it ends, however it ends.
#[allow(unsafe_code)]
fn die_with_this_thread(command: &mut Command) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above.
        if getppid() != Some(parent) {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec. It makes two system calls (prctl, getppid) and
    // neither allocates nor takes a lock nor touches memory that another thread may have left half written.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Opens a log for appending; servers log what only their owner should read.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
