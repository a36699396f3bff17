//! A process: the tasks of one operator. Killed, none of them is ever polled again, wherever it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet_core::environment::Spawner;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::world::World;

pub(crate) struct Process {
    pub(crate) name: String,
    world: Arc<World>,
    alive: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Process {
    pub(crate) fn new(name: String, world: &Arc<World>) -> Arc<Self> {
        let (alive, tasks) = (AtomicBool::new(true), Mutex::default());
        Arc::new(Self { name, world: Arc::clone(world), alive, tasks })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Ends it as SIGKILL does: nothing is finished, and nothing is given back.
    pub(crate) fn kill(&self, why: &str) {
        if self.alive.swap(false, Ordering::Relaxed) {
            self.world.trace(|| format!("{} is killed {why}", self.name));
            for task in self.tasks.lock().drain(..) {
                task.abort();
            }
        }
    }

    /// A place where the process may die.
    pub(crate) async fn may_die(&self, place: impl FnOnce() -> String) {
        if self.is_alive() && self.world.fault(self.world.faults.kills, 2) {
            self.kill(&place());
        }
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
    }
}

impl Spawner for Process {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if self.is_alive() {
            let task = tokio::spawn(task);
            self.tasks.lock().push(task.abort_handle());
        }
    }
}
