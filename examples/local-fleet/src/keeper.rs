//! The thread that owns all children and proxies, for as long as this program lives.
//!
//! Linux sends a child's "parent died" signal when the *thread* that started it ends. A test's own runtime, and its
//! threads, end with the test, while a shared cluster must stay. So children are started, and proxies run, on one
//! thread that never ends.

use std::future::{Future, pending};
use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle};

static KEEPER: OnceLock<Result<Handle, io::ErrorKind>> = OnceLock::new();

fn start() -> Result<Handle, io::ErrorKind> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.kind())?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("lab-keeper".into())
        .spawn(move || runtime.block_on(pending::<()>()))
        .map_err(|e| e.kind())?;
    Ok(handle)
}

/// The runtime of the thread that never ends.
pub(crate) fn handle() -> io::Result<&'static Handle> {
    KEEPER.get_or_init(start).as_ref().map_err(|kind| io::Error::from(*kind))
}

/// Runs a future on the thread that never ends, also if the caller stops waiting.
pub(crate) async fn run<T: Send + 'static>(
    future: impl Future<Output = io::Result<T>> + Send + 'static,
) -> io::Result<T> {
    handle()?.spawn(future).await.map_err(io::Error::other)?
}
