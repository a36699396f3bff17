//! Order per key: deliveries of one key take turns, in the order in which they arrived; keys do not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::work::WorkId;

const SHARDS: usize = 64;

/// Who is waiting for a key, and that somebody has it: a key with an entry is taken.
type Queues = HashMap<WorkId, VecDeque<oneshot::Sender<()>>>;

/// Hands out turns. As many wait as there are deliveries in flight, which are bounded.
#[derive(Debug)]
pub(super) struct Turns {
    shards: Vec<Mutex<Queues>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Turns {
    fn shard(&self, id: &WorkId) -> &Mutex<Queues> {
        // There are SHARDS of them.
        #[allow(clippy::indexing_slicing)]
        &self.shards[id.shard(SHARDS)]
    }

    /// Takes a place in the key's queue. The order of calls is the order of turns.
    pub(super) fn queue(self: &Arc<Self>, id: &WorkId) -> Turn {
        let mut queues = self.shard(id).lock();
        let came = match queues.get_mut(id) {
            Some(queue) => {
                let (sender, receiver) = oneshot::channel();
                queue.push_back(sender);
                Some(receiver)
            }
            None => {
                queues.insert(id.clone(), VecDeque::new());
                None
            }
        };
        Turn { turns: Arc::clone(self), id: id.clone(), came }
    }

    fn pass_on(&self, id: &WorkId) {
        let mut queues = self.shard(id).lock();
        while let Some(queue) = queues.get_mut(id) {
            let Some(next) = queue.pop_front() else {
                queues.remove(id);
                return;
            };
            // One that was dropped while it waited is skipped.
            if next.send(()).is_ok() {
                return;
            }
        }
    }
}

/// A place in a key's queue; dropped, it passes the turn on.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    id: WorkId,
    /// Tells that the turn has come; `None` once it has.
    came: Option<oneshot::Receiver<()>>,
}

impl Turn {
    /// Waits for the turn. Cancel safe.
    pub(super) async fn come(&mut self) {
        if let Some(came) = &mut self.came {
            // A sender is only dropped with its message sent.
            let _ = came.await;
            self.came = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let has_turn = match &mut self.came {
            None => true,
            Some(came) => {
                came.close();
                came.try_recv().is_ok()
            }
        };
        if has_turn {
            self.turns.pass_on(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_key_is_served_in_order_and_others_do_not_wait() {
        let turns = Arc::new(Turns::default());
        let (a, b) = (WorkId::of_parts("t", &["a"]), WorkId::of_parts("t", &["b"]));
        let mut first = turns.queue(&a);
        let mut second = turns.queue(&a);
        let third = turns.queue(&a);
        let mut fourth = turns.queue(&a);
        let mut other = turns.queue(&b);
        first.come().await;
        other.come().await;
        assert!(second.come().now_or_never().is_none());
        drop(third);
        drop(first);
        second.come().await;
        assert!(fourth.come().now_or_never().is_none());
        drop(second);
        fourth.come().await;
        drop(fourth);
        drop(other);
        assert!(turns.shards.iter().all(|shard| shard.lock().is_empty()), "an idle key takes no memory");
    }

    #[tokio::test]
    async fn a_turn_that_came_unnoticed_is_passed_on() {
        let turns = Arc::new(Turns::default());
        let key = WorkId::of_parts("t", &["a"]);
        let first = turns.queue(&key);
        let second = turns.queue(&key);
        let mut third = turns.queue(&key);
        drop(first);
        drop(second);
        third.come().now_or_never().unwrap();
    }
}
