//! When all is to be told anew: somebody asks for it, or a delivery came back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::source::{SettleError, Settler};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What comes back again and again is told ever more seldom.
const LONGEST: Duration = Duration::from_secs(300);
/// After so long without any, the next one that comes back is the first.
const QUIET: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Again {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    due: Option<Instant>,
    /// How often in a row something came back, and when it did last.
    returns: u32,
    last: Option<Instant>,
}

impl Again {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At once.
    pub(super) fn now(&self) {
        self.lock().due = Some(Instant::now());
        self.changed.notify_one();
    }

    /// A delivery came back.
    fn after(&self, delay: Duration) {
        let mut state = self.lock();
        if state.due.is_some() {
            return;
        }
        let now = Instant::now();
        if state.last.is_some_and(|last| now.duration_since(last) > QUIET) {
            state.returns = 0;
        }
        let pause = delay.max(Duration::from_secs(1)).saturating_mul(1 << state.returns.min(16)).min(LONGEST);
        state.returns = state.returns.saturating_add(1);
        state.last = Some(now);
        state.due = Some(now + pause);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until it is time. Cancel safe.
    pub(super) async fn due(&self) {
        loop {
            let due = self.lock().due;
            match due {
                Some(due) if due <= Instant::now() => {
                    self.lock().due = None;
                    return;
                }
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }
}

/// Settles one delivery. What comes back is told anew together with everything else: it may be another by then.
pub(super) struct Return(pub(super) Option<Arc<Again>>);

#[async_trait]
impl Settler for Return {
    async fn ack(mut self: Box<Self>) -> Result<(), SettleError> {
        self.0 = None;
        Ok(())
    }
    async fn give_back(mut self: Box<Self>, delay: Duration) -> Result<(), SettleError> {
        if let Some(again) = self.0.take() {
            again.after(delay);
        }
        Ok(())
    }
    async fn terminate(mut self: Box<Self>, _reason: &str) -> Result<(), SettleError> {
        self.0 = None;
        Ok(())
    }
    async fn progress(&self) -> Result<(), SettleError> {
        Ok(())
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        if let Some(again) = self.0.take() {
            again.after(Duration::ZERO);
        }
    }
}
