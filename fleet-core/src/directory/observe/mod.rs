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

use self::files::Files;
use self::notes::{Interest, Watched};
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
            let (notes, mut files) = (Arc::clone(&self.notes), self.files.clone());
            let listed = self.listed;
            let looking = tokio::task::spawn_blocking(move || {
                // Notes first, so that none is missed after the look.
                let watched = notes.watch();
                if !listed {
                    files.forget();
                }
                let told = files.look();
                (watched, files, told)
            });
            let Ok((watched, files, told)) = looking.await else {
                return None;
            };
            self.watched = watched;
            self.take(files, told);
        }
    }

    fn take(&mut self, files: Files, told: io::Result<Vec<Observation>>) {
        let told = match told {
            Ok(told) => told,
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
        if std::mem::replace(&mut self.listed, true) {
            self.told.extend(told);
        } else {
            self.told.push_back(Observation::Listing);
            self.told.extend(told);
            self.told.push_back(Observation::Listed { version: None });
        }
    }
}

#[cfg(test)]
mod tests;
