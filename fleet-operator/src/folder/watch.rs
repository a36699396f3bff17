//! When a folder changes: by the system's notifications, and by looking from time to time.

use std::path::PathBuf;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// How long a folder must be quiet until it is read: editors and git write in many steps.
const QUIET: Duration = Duration::from_millis(50);
/// How long it is waited for quiet at most.
const LONGEST: Duration = Duration::from_secs(1);
/// How often a folder is looked at that notifications come for, as some are lost (network file systems).
const SELDOM: Duration = Duration::from_secs(30);
/// How often it is looked at while none come.
const OFTEN: Duration = Duration::from_secs(1);

/// Tells when it is time to read a folder again.
pub(super) struct Changes {
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    sender: mpsc::Sender<()>,
    notes: mpsc::Receiver<()>,
    warned: bool,
}

impl Changes {
    pub(super) fn of(root: PathBuf) -> Self {
        // One note that something happened is as good as many.
        let (sender, notes) = mpsc::channel(1);
        let mut changes = Self { root, watcher: None, sender, notes, warned: false };
        changes.begin();
        changes
    }

    /// Waits until something may have changed. Cancel safe.
    pub(super) async fn next(&mut self) {
        if !self.root.exists() {
            // Notifications would end with the folder they are for.
            self.watcher = None;
        }
        if self.watcher.is_none() {
            sleep(OFTEN).await;
            self.begin();
            return;
        }
        if timeout(SELDOM, self.notes.recv()).await.is_err() {
            return;
        }
        let quiet = async { while timeout(QUIET, self.notes.recv()).await.is_ok() {} };
        let _ = timeout(LONGEST, quiet).await;
    }

    fn begin(&mut self) {
        if !self.root.exists() {
            return;
        }
        let sender = self.sender.clone();
        let note = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            // Full: it is known already that something happened.
            let _ = sender.try_send(());
        };
        let watcher = notify::recommended_watcher(note).and_then(|mut watcher| {
            watcher.watch(&self.root, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                debug!(folder = %self.root.display(), "watching");
            }
            Err(error) if !self.warned => {
                warn!(
                    "{} cannot be watched: {error}; it is read every {} s instead",
                    self.root.display(),
                    OFTEN.as_secs()
                );
                self.warned = true;
            }
            Err(_) => {}
        }
    }
}
