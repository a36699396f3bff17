//! What the engine takes from the world around it, injected so that it also runs in a simulation.
//!
//! Timers are tokio's, which a test can pause; everything else that is not a function of the inputs is here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use jiff::Timestamp;

/// Clock, randomness and task spawning. [`Environment::default`] is the real world.
#[derive(Clone)]
pub struct Environment {
    /// The wall clock, for what is written down.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for jitter: not for secrets.
    pub entropy: Arc<dyn Entropy>,
    /// Where tasks run.
    pub spawner: Arc<dyn Spawner>,
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Gives random numbers.
pub trait Entropy: Send + Sync + 'static {
    /// The next one.
    fn next(&self) -> u64;
}

/// Runs tasks. The engine counts its tasks itself and waits for them when it stops.
pub trait Spawner: Send + Sync + 'static {
    /// Starts a task. To stop it is the task's own business.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SplitMix::from_time()),
            spawner: Arc::new(Tokio),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

struct Tokio;

impl Spawner for Tokio {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// A small generator that is repeatable from its seed (SplitMix64).
#[derive(Debug)]
pub struct SplitMix(AtomicU64);

impl SplitMix {
    /// A generator that gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn from_time() -> Self {
        let time = Timestamp::now().as_nanosecond();
        Self::new(u64::try_from(time & i128::from(u64::MAX)).unwrap_or_default())
    }
}

impl Entropy for SplitMix {
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
