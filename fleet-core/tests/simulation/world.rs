//! What all parts of one history share: its dice, its time, its trace, and which faults it knows.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet_core::environment::Clock;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::dice::Dice;

/// Which kinds of faults a history has. Each has a random choice of them, so that rare ones are not drowned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Processes are killed, and started again.
    pub(crate) kills: bool,
    /// A second operator works on the same store, consumer and clusters.
    pub(crate) second: bool,
    /// Calls of the store fail, hang, come late, or land though they failed.
    pub(crate) store: bool,
    /// Calls to clusters fail or hang, also for a time at all.
    pub(crate) clusters: bool,
    /// Calls to clusters take effect after their caller gave up.
    pub(crate) late: bool,
    /// Messages and acknowledgements are lost on the way.
    pub(crate) network: bool,
    /// The server of the stream restarts and forgets what its consumer had acknowledged.
    pub(crate) server: bool,
    /// The server loses the tail of its stream, or the stream is made anew.
    pub(crate) losses: bool,
    /// Others put objects where ours would be.
    pub(crate) foreign: bool,
    /// Messages come that nothing can be made of.
    pub(crate) poison: bool,
    /// Templates are broken and mended, triggers edited, lists come back partial.
    pub(crate) definitions: bool,
    /// Clusters join, leave, and are relabelled.
    pub(crate) fleet: bool,
}

impl Faults {
    pub(crate) fn choose(dice: &Dice) -> Self {
        let some = |per_mille| dice.chance(per_mille);
        let second = some(250);
        Self {
            // What one of two operators did and had not written down when it was killed, the other does not know.
            kills: some(750) && !second,
            second,
            store: some(500),
            clusters: some(500),
            late: some(500),
            network: some(500),
            server: some(500),
            losses: some(300),
            foreign: some(300),
            poison: some(300),
            definitions: some(300),
            fleet: some(300),
        }
    }

    /// The same, with what it takes for a lie to matter that rarely does.
    pub(crate) fn that_show(self, lie: Lie) -> Self {
        match lie {
            Lie::FloorFromServer => Self { server: true, store: true, network: true, second: false, ..self },
            _ => self,
        }
    }
}

/// In which way a part lies: what the simulation has to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// None does.
    None,
    /// A delivery is acknowledged when it is handed out, before anything is stored.
    AckBeforeStore,
    /// Every delivery has a position above all before it, so that none is ever superseded.
    NothingIsSuperseded,
    /// A Work that is gone everywhere is forgotten at once.
    TombstonesDropEarly,
    /// Floors are what the server says, whatever is still outstanding.
    FloorFromServer,
    /// Nothing lands after its caller gave up, says the Applier.
    NothingLandsLate,
}

/// One history's world.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) faults: Faults,
    pub(crate) lie: Lie,
    began: Instant,
    /// Faults have ended.
    calm: AtomicBool,
    trace: Option<Mutex<Vec<String>>>,
    violations: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(dice: Dice, faults: Faults, lie: Lie, traced: bool) -> Arc<Self> {
        Arc::new(Self {
            dice,
            faults,
            lie,
            began: Instant::now(),
            calm: AtomicBool::new(false),
            trace: traced.then(Mutex::default),
            violations: Mutex::default(),
        })
    }

    /// For how long the history has run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// From now on nothing fails any more.
    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
        self.trace(|| "----- faults end".to_owned());
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Whether a fault of a kind happens now.
    pub(crate) fn fault(&self, kind: bool, per_mille: u64) -> bool {
        kind && !self.is_calm() && self.dice.chance(per_mille)
    }

    /// The time a small thing takes: often none, but others may come first.
    pub(crate) async fn latency(&self) {
        match self.dice.roll(0..8) {
            0..3 => {}
            3..6 => tokio::task::yield_now().await,
            6 => tokio::time::sleep(self.dice.millis(1..20)).await,
            _ => tokio::time::sleep(self.dice.millis(20..300)).await,
        }
    }

    /// Writes a line, if anybody wants to read it.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let time = self.elapsed();
            trace.lock().push(format!("{:4}.{:03}  {}", time.as_secs(), time.subsec_millis(), line()));
        }
    }

    pub(crate) fn traced(&self) -> String {
        self.trace.as_ref().map(|trace| trace.lock().join("\n")).unwrap_or_default()
    }

    /// A short text that differs if anything in the trace does.
    pub(crate) fn fingerprint(&self) -> String {
        let mut text = String::new();
        for byte in Sha256::digest(self.traced()) {
            write!(text, "{byte:02x}").unwrap();
        }
        text
    }

    /// Something happened that never may.
    pub(crate) fn violated(&self, what: String) {
        self.trace(|| format!("VIOLATED: {what}"));
        self.violations.lock().push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }
}

/// A wall clock that goes with the history's time, which is tokio's.
impl Clock for World {
    fn now(&self) -> Timestamp {
        let began = Timestamp::from_second(1_767_225_600).unwrap();
        began.checked_add(SignedDuration::try_from(self.elapsed()).unwrap()).unwrap()
    }
}
