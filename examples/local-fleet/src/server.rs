//! One server process of the lab, and all that can be done to it.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::http::Endpoint;
use crate::process::{Environment, Launch, Process};
use crate::{LabError, Result, leftover, private};

/// A slow machine that starts thirty clusters at once needs its time.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Servers that were asked to stop, and have not, are killed after this.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// A signal that cannot be ignored takes effect within this.
const SIGNAL_WITHIN: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How often other ports are tried when other programs take them first.
const PORT_ATTEMPTS: u32 = 5;

/// How to start a server, and where to ask whether it is ready.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Where it listens for its clients.
    pub(crate) address: SocketAddr,
    /// Answers 200 at `ready_path` once the server is ready.
    pub(crate) health: Endpoint,
    pub(crate) ready_path: &'static str,
}

/// A server process: etcd, an API server, a controller manager or a nats-server.
///
/// It keeps its port and its data for as long as the lab lives, however often it is stopped and started. All methods
/// return only when what they say is true. Dropping it kills the process.
pub struct Server {
    name: String,
    dir: PathBuf,
    recipe: Recipe,
    process: Mutex<Option<Process>>,
}

impl Server {
    /// Starts a server for which a port must be chosen; `recipe` is asked again when another program took the port.
    pub(crate) async fn start_new<F>(
        name: &str,
        dir: &Path,
        mut recipe: impl FnMut(bool) -> F,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Recipe>>,
    {
        private::create_dir(dir).map_err(LabError::file("create", dir))?;
        let pid_file = dir.join(leftover::PID_FILE);
        leftover::end(&pid_file).await.map_err(LabError::file("end the process recorded in", &pid_file))?;
        let mut attempt = 1;
        loop {
            let server = Server {
                name: name.to_owned(),
                dir: dir.to_path_buf(),
                recipe: recipe(attempt > 1).await?,
                process: Mutex::new(None),
            };
            match server.start().await {
                Err(LabError::EndedEarly { tail, .. })
                    if attempt < PORT_ATTEMPTS && tail.contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    /// What the lab calls it, for example `cluster1/kube-apiserver`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens for its clients.
    pub fn address(&self) -> SocketAddr {
        self.recipe.address
    }

    /// The file that holds what it printed, since the folder was first used.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Its process id, while it runs.
    pub async fn pid(&self) -> Option<u32> {
        let process = self.process.lock().await;
        process.as_ref().filter(|process| process.exit_status().is_none()).map(Process::pid)
    }

    /// Bytes of memory that it has for itself now: without its program's file, which the servers share.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn own_memory(&self) -> Result<u64> {
        let pid = self.pid().await.ok_or_else(|| self.not_running())?;
        let path = PathBuf::from(format!("/proc/{pid}/status"));
        let status = std::fs::read_to_string(&path).map_err(LabError::file("read", &path))?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Ok(kibibytes.unwrap_or_default().saturating_mul(1024))
    }

    /// Starts it again, at the same port and with the same data, and waits until it is ready.
    ///
    /// # Errors
    /// If it runs already, ends, or is not ready in time; then it does not run.
    pub async fn start(&self) -> Result<()> {
        let mut slot = self.process.lock().await;
        if slot.as_ref().is_some_and(|process| process.exit_status().is_none()) {
            return Err(LabError::Running { server: self.name.clone() });
        }
        *slot = None;
        let log = self.log_file();
        let logged = std::fs::metadata(&log).map(|meta| meta.len()).unwrap_or_default();
        let launch = Launch {
            program: self.recipe.program.clone(),
            args: self.recipe.args.clone(),
            environment: Environment::Bare,
            dir: self.dir.clone(),
            log,
            pid_file: self.dir.join(leftover::PID_FILE),
        };
        let process = Process::spawn(launch).await.map_err(|source| LabError::Spawn {
            server: self.name.clone(),
            program: self.recipe.program.clone(),
            source,
        })?;
        self.until_ready(&process, logged).await?;
        *slot = Some(process);
        Ok(())
    }

    /// Asks it to stop (SIGTERM), and kills it if it has not after five seconds. Nothing happens if it does not run.
    ///
    /// # Errors
    /// If it survives even that.
    pub async fn stop(&self) -> Result<()> {
        let mut slot = self.process.lock().await;
        if let Some(process) = slot.take() {
            // A paused process would take notice only when resumed. Either fails if it has just ended.
            let _ended = process.signal(Signal::TERM);
            let _ended = process.signal(Signal::CONT);
            if timeout(STOP_WITHIN, process.exited()).await.is_err() {
                self.end(&process).await?;
            }
        }
        Ok(())
    }

    /// Kills it (SIGKILL): it has no chance to tidy up. Nothing happens if it does not run.
    ///
    /// # Errors
    /// If it survives even that.
    pub async fn kill(&self) -> Result<()> {
        let mut slot = self.process.lock().await;
        match slot.take() {
            Some(process) => self.end(&process).await,
            None => Ok(()),
        }
    }

    /// Freezes it (SIGSTOP): connections stay open, and nothing is answered until [`Server::resume`].
    ///
    /// # Errors
    /// If it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.signal_until(Signal::STOP, "paused", |state| state == "T").await
    }

    /// Lets it go on (SIGCONT) after [`Server::pause`].
    ///
    /// # Errors
    /// If it does not run.
    pub async fn resume(&self) -> Result<()> {
        self.signal_until(Signal::CONT, "resumed", |state| state != "T").await
    }

    /// Stops it and starts it again, at the same port and with the same data.
    ///
    /// # Errors
    /// As for [`Server::stop`] and [`Server::start`].
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// Waits until it answers that it is ready, for example after [`Server::resume`].
    ///
    /// # Errors
    /// If it does not run, ends, or is not ready in time.
    pub async fn wait_ready(&self) -> Result<()> {
        let slot = self.process.lock().await;
        let process = slot.as_ref().ok_or_else(|| self.not_running())?;
        self.until_ready(process, 0).await
    }

    /// Where the lab asks for health.
    pub(crate) fn health(&self) -> &Endpoint {
        &self.recipe.health
    }

    async fn until_ready(&self, process: &Process, logged: u64) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut last = String::from("not asked yet");
        while Instant::now() < deadline {
            if let Some(status) = process.exit_status() {
                return Err(LabError::EndedEarly {
                    server: self.name.clone(),
                    status: status.to_string(),
                    log: self.log_file(),
                    tail: log_tail(&self.log_file(), logged),
                });
            }
            match self.recipe.health.request("GET", self.recipe.ready_path, "").await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => last = format!("{} answers {}", self.recipe.ready_path, answer.status),
                Err(error) => last = error.to_string(),
            }
            sleep(POLL_EVERY).await;
        }
        Err(LabError::NotReady {
            server: self.name.clone(),
            waited: READY_WITHIN,
            last,
            log: self.log_file(),
            tail: log_tail(&self.log_file(), logged),
        })
    }

    async fn end(&self, process: &Process) -> Result<()> {
        let _ended = process.signal(Signal::KILL);
        match timeout(SIGNAL_WITHIN, process.exited()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.no_effect("killed", "it is still there".to_owned())),
        }
    }

    async fn signal_until(
        &self,
        signal: Signal,
        action: &'static str,
        reached: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let slot = self.process.lock().await;
        let process = slot.as_ref().ok_or_else(|| self.not_running())?;
        process.signal(signal).map_err(|error| self.no_effect(action, error.to_string()))?;
        let deadline = Instant::now() + SIGNAL_WITHIN;
        loop {
            let state = leftover::state(process.pid()).map_err(|e| self.no_effect(action, e.to_string()))?;
            if reached(&state) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.no_effect(action, format!("its state is still {state}")));
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn not_running(&self) -> LabError {
        LabError::NotRunning { server: self.name.clone() }
    }

    fn no_effect(&self, action: &'static str, reason: String) -> LabError {
        LabError::Signal { server: self.name.clone(), action, reason }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The recipe holds paths and flags only, but nobody wants two screens of them.
        f.debug_struct("Server").field("name", &self.name).field("address", &self.recipe.address).finish()
    }
}

/// The last lines of a log, for errors; only what was written after the first `skip` bytes.
pub(crate) fn log_tail(log: &Path, skip: u64) -> String {
    const KEEP: u64 = 4096;
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(skip.max(length.saturating_sub(KEEP)).min(length)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    match read() {
        Ok(tail) if tail.is_empty() => "(it is empty)".to_owned(),
        Ok(tail) => tail,
        Err(error) => format!("(it cannot be read: {error})"),
    }
}
