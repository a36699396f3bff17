//! What becomes of files: they are read once, and again when the system tells that something happened to them.
//!
//! Also from time to time without being told: some file systems tell nothing of what other machines change.

mod files;
mod notes;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::{sleep, timeout};

use self::files::{Files, Looked};
use self::notes::{Interest, Noted, Watched};
use crate::cluster::ClusterId;
use crate::manifest::Gvk;
use crate::observe::Observation;

pub(super) use self::notes::Notes;

/// How long is waited after the first note: editors write in many steps.
const QUIET: Duration = Duration::from_millis(50);
/// How soon a file is looked at again that may change without looking different.
const UNSETTLED: Duration = Duration::from_secs(1);
/// How often files are looked at that notes come for.
const SELDOM: Duration = Duration::from_secs(30);
/// How often, if none come.
const OFTEN: Duration = Duration::from_secs(1);

pub(super) fn observe(
    root: Arc<PathBuf>,
    notes: Arc<Notes>,
    cluster: &ClusterId,
    kind: &Gvk,
) -> BoxStream<'static, Observation> {
    let observer = Observer {
        interest: notes.interest(cluster, kind),
        files: Files::new(root, cluster.clone(), kind.clone()),
        notes,
        watched: None,
        noted: Noted::default(),
        told: VecDeque::new(),
        next_look: Some(Duration::ZERO),
        listed: false,
    };
    futures::stream::unfold(observer, |mut observer| async move {
        let told = observer.next().await?;
        Some((told, observer))
    })
    .boxed()
}

struct Observer {
    files: Files,
    notes: Arc<Notes>,
    interest: Arc<Interest>,
    /// Keeps the notes coming.
    watched: Option<Arc<Watched>>,
    /// What has not been looked at yet.
    noted: Noted,
    told: VecDeque<Observation>,
    /// When to look again, even if nothing is noted.
    next_look: Option<Duration>,
    listed: bool,
}

impl Observer {
    async fn next(&mut self) -> Option<Observation> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            let wait = self.next_look.unwrap_or(SELDOM);
            if timeout(wait, self.interest.noted()).await.is_ok() {
                sleep(QUIET).await;
            }
            // Should this be cancelled, the next look finds the same.
            self.noted.add(self.interest.take());
            let (notes, mut files) = (Arc::clone(&self.notes), self.files.clone());
            let (noted, listed) = (self.noted.clone(), self.listed);
            let looking = tokio::task::spawn_blocking(move || {
                // Notes first, so that none is missed after the look.
                let watched = notes.watch();
                let looked = look(&mut files, &noted, listed);
                (watched, files, looked)
            });
            let Ok((watched, files, looked)) = looking.await else {
                return None;
            };
            self.watched = watched;
            self.take(files, looked);
        }
    }

    fn take(&mut self, files: Files, looked: io::Result<(Vec<Observation>, bool)>) {
        let (told, is_all) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                if self.listed {
                    tracing::warn!("{files} cannot be looked at: {error}; what was seen last holds");
                }
                // Whoever comes back has to show everything.
                self.listed = false;
                self.next_look = Some(OFTEN);
                return;
            }
        };
        self.next_look = match &self.watched {
            None => Some(OFTEN),
            Some(_) => files.unsettled().then_some(UNSETTLED),
        };
        self.files = files;
        self.noted = Noted::default();
        self.listed = true;
        if is_all {
            self.told.push_back(Observation::Listing);
            self.told.extend(told);
            self.told.push_back(Observation::Listed { version: None });
        } else {
            self.told.extend(told);
        }
    }
}

/// What changed; or all there is, the second value says. Blocks.
fn look(files: &mut Files, noted: &Noted, listed: bool) -> io::Result<(Vec<Observation>, bool)> {
    if listed && !noted.incomplete {
        match files.look(&noted.paths)? {
            Looked::Changes(told) => return Ok((told, false)),
            Looked::Incomplete => {}
        }
    }
    files.forget();
    files.all().map(|told| (told, true))
}

#[cfg(test)]
mod tests;
