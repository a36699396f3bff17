//! What can go wrong in the lab.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Program;

/// A result of the lab.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// What the lab could not do, why, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A file or folder of the lab could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb: "read", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program is neither installed nor can it be built.
    #[error("{program} is needed, but {reason}. {}", program.how_to_get())]
    ProgramMissing {
        /// The program that is missing.
        program: Program,
        /// Why it could not be built either.
        reason: String,
    },
    /// The `go` client failed to build a program.
    #[error("building {program} failed: `{command}` said:\n{output}\n{}", program.how_to_get())]
    BuildFailed {
        /// The program that was to be built.
        program: Program,
        /// The command that failed.
        command: String,
        /// The end of what it printed.
        output: String,
    },
    /// A program could not be started at all.
    #[error("cannot start {server} ({})", program.display())]
    Spawn {
        /// The server that was to be started.
        server: String,
        /// Its program file.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A server ended before it was ready.
    #[error("{server} ended before it was ready ({status}); the end of {}:\n{tail}", log.display())]
    EndedEarly {
        /// The server.
        server: String,
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The end of its log file.
        tail: String,
    },
    /// A server runs but does not get ready.
    #[error("{server} is not ready after {}s ({last}); the end of {}:\n{tail}", waited.as_secs(), log.display())]
    NotReady {
        /// The server.
        server: String,
        /// How long was waited.
        waited: Duration,
        /// What the last look at it gave.
        last: String,
        /// Its log file.
        log: PathBuf,
        /// The end of its log file.
        tail: String,
    },
    /// A server that should be stopped, paused or resumed does not run.
    #[error("{server} does not run; start it first")]
    NotRunning {
        /// The server.
        server: String,
    },
    /// A server that should be started runs already.
    #[error("{server} runs already; stop it first")]
    Running {
        /// The server.
        server: String,
    },
    /// A signal had no effect in time, or could not be sent.
    #[error("{server} could not be {action}: {reason}")]
    Signal {
        /// The server.
        server: String,
        /// What was to happen to it: "stopped", "paused".
        action: &'static str,
        /// Why it did not.
        reason: String,
    },
    /// Another lab uses the folder.
    #[error("{} is in use by another lab; stop that one or choose another folder", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// No port is free.
    #[error("no free TCP port on 127.0.0.1 between {from} and {to}")]
    NoPort {
        /// The first port tried.
        from: u16,
        /// The last port tried.
        to: u16,
    },
    /// A certificate or key could not be made.
    #[error("cannot make {what}: {reason}")]
    Credential {
        /// What was to be made.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// A server answered a request of the lab itself with an error.
    #[error("{server} refused {request}: {answer}")]
    Refused {
        /// The server.
        server: String,
        /// The request.
        request: String,
        /// What it answered, or why there was no answer.
        answer: String,
    },
}

impl LabError {
    /// For `map_err`: a file that could not be read or written.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| LabError::File { action, path, source }
    }
}
