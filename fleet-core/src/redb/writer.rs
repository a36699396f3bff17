//! The one thread that writes: takes what has arrived, writes it in one transaction, and answers once that is on disk.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::database::Database;
use super::tables::Tables;
use super::unavailable;
use crate::store::StoreError;

/// How many writes may wait. A writer that finds no place waits: back-pressure, not growth.
const QUEUE: usize = 1024;
/// How many writes go into one commit at most, so that none waits long for the others.
const BATCH: usize = 256;

/// Runs inside a transaction, and returns what is to be done once the transaction has ended.
type Write = Box<dyn FnOnce(&mut Tables<'_>) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A handle to the thread. Dropping it waits until what was taken is written, so that the file can be opened again.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<Write>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // If it panicked it has said so.
            let _ = thread.join();
        }
    }
}

impl Writer {
    pub(super) fn start(database: Arc<Database>) -> std::io::Result<Self> {
        let (queue, writes) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("fleet-store".to_owned());
        // The database goes with the thread: once that has ended, only readers are left.
        let thread = thread.spawn(move || run(&database, writes))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Writes, and waits until it is on disk. Cancelled, it may or may not be written.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Tables<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let write: Write = Box::new(move |tables| {
            let result = write(tables);
            Box::new(move |committed| {
                // Whoever asked may have gone.
                let _ = answer.send(committed.and(result));
            })
        });
        let stopped = || StoreError::Unavailable("its writer has stopped".to_owned());
        self.queue.as_ref().ok_or_else(stopped)?.send(write).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

fn run(database: &Database, mut writes: mpsc::Receiver<Write>) {
    let mut batch = Vec::with_capacity(BATCH);
    while writes.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut finishes = Vec::with_capacity(batch.len());
        let committed = commit(database, &mut batch, &mut finishes);
        if let Err(error) = &committed {
            tracing::error!("the database cannot be written: {error}");
            database.close();
        }
        // What was not reached is answered by its sender being dropped.
        batch.clear();
        for finish in finishes {
            finish(match &committed {
                Ok(()) => Ok(()),
                Err(reason) => Err(StoreError::Unavailable(reason.clone())),
            });
        }
    }
}

fn commit(database: &Database, batch: &mut Vec<Write>, finishes: &mut Vec<Finish>) -> Result<(), String> {
    let fault = |error: StoreError| error.to_string();
    let opened = database.opened().map_err(fault)?;
    let transaction =
        opened.get().map_err(fault)?.begin_write().map_err(|error| fault(unavailable(error)))?;
    {
        let mut tables = Tables::open(&transaction).map_err(fault)?;
        for write in batch.drain(..) {
            finishes.push(write(&mut tables));
            if let Some(error) = tables.broken.take() {
                // The database itself failed: nothing of this batch counts.
                return Err(error);
            }
        }
    }
    transaction.commit().map_err(|error| fault(unavailable(error)))
}
