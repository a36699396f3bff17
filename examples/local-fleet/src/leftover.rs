//! Finds and ends what a lab that was killed hard left behind.
//!
//! The kernel ends the children together with the lab ([`crate::process`]), so there is hardly ever anything to end.
//! This is the second net, and it must never catch a stranger: a process id is reused, so the record also holds when
//! the process started and in which run of the machine.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

use crate::private;

/// The name of a server's record in its folder.
pub(crate) const PID_FILE: &str = "pid";

/// How long a killed process may take to go; one that waits for a disk cannot be killed at once.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Writes which process runs, so that [`end`] finds it.
pub(crate) fn record(pid_file: &Path, pid: Pid) -> io::Result<()> {
    private::write(pid_file, identity(pid)?.as_bytes())
}

/// Ends the processes recorded in the folders below `dir`, and in the folders in those; says which there were.
pub(crate) async fn end_all(dir: &Path) -> io::Result<Vec<String>> {
    let mut ended = Vec::new();
    for server in folders(dir)? {
        let mut recorded = folders(&server)?;
        recorded.push(server);
        for folder in recorded {
            if end(&folder.join(PID_FILE)).await? {
                ended.push(folder.strip_prefix(dir).unwrap_or(&folder).display().to_string());
            }
        }
    }
    Ok(ended)
}

fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// Ends the recorded process if it still runs; true if it did.
pub(crate) async fn end(pid_file: &Path) -> io::Result<bool> {
    let found = match fs::read_to_string(pid_file) {
        Ok(record) => open_recorded(&record),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if let Some(pidfd) = &found {
        // It may end by itself meanwhile: then the signal fails and the wait succeeds.
        let _ended = pidfd_send_signal(pidfd, Signal::KILL);
        wait_gone(pidfd).await?;
    }
    fs::remove_file(pid_file)?;
    Ok(found.is_some())
}

/// The process a record means, if it is still the same one.
fn open_recorded(record: &str) -> Option<OwnedFd> {
    let pid = record.split(' ').next()?.parse().ok().and_then(Pid::from_raw)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Compared after opening: what the descriptor means cannot change any more. One that has ended keeps its number
    // until somebody asks how it ended.
    let runs = identity(pid).ok()? == record && !is_gone(&pidfd, Duration::ZERO).ok()?;
    runs.then_some(pidfd)
}

async fn wait_gone(pidfd: &OwnedFd) -> io::Result<()> {
    let deadline = Instant::now() + GONE_WITHIN;
    while !is_gone(pidfd, Duration::ZERO)? {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a killed process does not go away"));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Whether a process has ended, or ends within this time, for which the thread is blocked.
pub(crate) fn is_gone(pidfd: &OwnedFd, within: Duration) -> io::Result<bool> {
    let within = Timespec::try_from(within).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&within))? > 0)
}

/// What tells a process from any other that ever had its number.
fn identity(pid: Pid) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let started = stat_field(pid.as_raw_nonzero().get().unsigned_abs(), 19)?;
    Ok(format!("{} {started} {}", pid.as_raw_nonzero(), boot.trim()))
}

/// The state letter of a process: `T` when it is paused.
pub(crate) fn state(pid: u32) -> io::Result<String> {
    stat_field(pid, 0)
}

/// A field of `/proc/PID/stat`, counted from the state, which follows the name in parentheses.
fn stat_field(pid: u32, index: usize) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    stat.rsplit_once(')')
        .and_then(|(_, fields)| fields.split_whitespace().nth(index))
        .map(ToOwned::to_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat has too few fields"))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    #[tokio::test]
    async fn a_recorded_process_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(PID_FILE);
        let (mut child, pid) = sleeper();
        record(&file, pid).unwrap();
        assert!(end(&file).await.unwrap());
        assert!(!child.wait().unwrap().success());
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn a_stranger_with_the_same_number_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(PID_FILE);
        let (mut child, pid) = sleeper();
        let started = stat_field(child.id(), 19).unwrap();
        let record = identity(pid).unwrap().replacen(&started, "1", 1);
        fs::write(&file, record).unwrap();
        assert!(!end(&file).await.unwrap());
        assert!(child.try_wait().unwrap().is_none(), "the stranger was killed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
