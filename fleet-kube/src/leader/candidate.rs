//! What a candidate knows, and what it does next. Pure: time, chance and answers are handed in.
//!
//! The rules are client-go's. A Lease is free if nobody holds it, or if its record has not changed for as long as it
//! says, by this candidate's own monotonic clock, counted from when this candidate first saw it: what is written in the
//! record about time is never looked at. Whoever leads counts from when it *sent* what renewed the Lease, which is before
//! anybody could see it; and it stops at the renew deadline, which is before the lease is over.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Lost;
use super::lease::{Lease, Record, written};
use super::timing::Timing;

pub(super) struct Candidate {
    namespace: String,
    name: String,
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    /// When what made or kept this the leader was sent.
    renewed: Option<Instant>,
    next: Next,
    /// Whether somebody else was faster in this attempt.
    raced: bool,
    /// Why the last attempt failed.
    trouble: Option<String>,
    lost: Option<Lost>,
}

/// The Lease as it was last seen, and since when its record is what it is.
struct Seen {
    lease: Lease,
    record: Record,
    since: Instant,
}

/// Where an attempt stands.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Read,
    Write,
    Pause,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask the API server, and tell the answer.
    Ask(Ask),
    /// Wait.
    Pause(Duration),
    /// It does not lead any more, for good.
    Stop(Lost),
}

/// A request.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Read,
    Create(Lease),
    /// Only if it is still of the version that this one is of.
    Update(Lease),
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It was read, or written: this is what the API server has.
    Is(Lease),
    /// There is none.
    Absent,
    /// Somebody else wrote it meanwhile, made it, or deleted it.
    Raced,
    /// The request failed, or its outcome is not known.
    Failed(String),
}

impl Candidate {
    pub(super) fn new(namespace: &str, name: &str, identity: &str, timing: Timing) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            timing,
            seen: None,
            renewed: None,
            next: Next::Read,
            raced: false,
            trouble: None,
            lost: None,
        }
    }

    /// What to do now. `wall` is written down for people; `entropy` is for jitter.
    pub(super) fn step(&mut self, now: Instant, wall: Timestamp, entropy: u64) -> Step {
        self.notice_time(now);
        if let Some(lost) = &self.lost {
            return Step::Stop(lost.clone());
        }
        match self.next {
            Next::Read => Step::Ask(Ask::Read),
            Next::Write => Step::Ask(self.write(wall)),
            Next::Pause => {
                self.raced = false;
                // Who leads knows the Lease, as a rule; who does not looks first.
                self.next = if self.renewed.is_some() { Next::Write } else { Next::Read };
                Step::Pause(self.pause(now, entropy))
            }
        }
    }

    /// By when a request that is sent now must be over.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let most = now + self.timing.request();
        self.leads_until().map_or(most, |until| until.min(most))
    }

    /// Takes in the answer to what the last step asked, which was sent at `sent`.
    pub(super) fn answered(&mut self, ask: &Ask, sent: Instant, now: Instant, answer: Answer) {
        self.notice_time(now);
        match (ask, answer) {
            (Ask::Read, Answer::Is(lease)) => self.saw(lease, now),
            (Ask::Read, Answer::Absent) => {
                self.seen = None;
                self.next = Next::Write;
            }
            (_, Answer::Is(lease)) => self.wrote(lease, sent, now),
            (_, Answer::Absent | Answer::Raced) => self.next = self.after_race(),
            (_, Answer::Failed(trouble)) => {
                self.trouble = Some(trouble);
                self.next = Next::Pause;
            }
        }
    }

    /// Is a candidate like any other again.
    pub(super) fn start_over(&mut self) {
        (self.renewed, self.lost, self.next) = (None, None, Next::Read);
    }

    /// Until when it leads, if it does and nothing more succeeds. Never later again once it is over.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        match self.lost {
            None => self.renewed.map(|renewed| renewed + self.timing.renew()),
            Some(_) => None,
        }
    }

    /// Who holds the Lease, as it was last seen; empty if nobody.
    pub(super) fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|seen| seen.record.holder.as_str())
    }

    /// Why the last attempt failed, if it did.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The Lease without a holder, for whoever comes next; `None` if it is somebody else's already.
    pub(super) fn parting(&self, wall: Timestamp) -> Option<Ask> {
        let seen = self.seen.as_ref().filter(|seen| seen.record.holder == self.identity)?;
        let record = Record {
            holder: String::new(),
            duration: Duration::from_secs(1),
            acquired: written(wall),
            renewed: written(wall),
            transitions: seen.record.transitions,
        };
        Some(Ask::Update(seen.lease.with(&record)))
    }

    /// A leader whose time is over has stopped leading, whatever comes later: somebody else may have seen it so.
    fn notice_time(&mut self, now: Instant) {
        if self.leads_until().is_some_and(|until| now >= until) {
            self.lose(Lost::NotRenewed { within: self.timing.renew(), trouble: self.trouble.clone() });
        }
    }

    fn lose(&mut self, lost: Lost) {
        self.lost = Some(lost);
    }

    fn saw(&mut self, lease: Lease, now: Instant) {
        self.trouble = None;
        let record = lease.record();
        let since = self.seen.as_ref().filter(|seen| seen.record == record).map_or(now, |seen| seen.since);
        let ours = record.holder == self.identity;
        let free = record.holder.is_empty() || now >= since + self.holds_for(&record);
        if self.renewed.is_some() && !ours {
            self.lose(match record.holder.as_str() {
                "" => Lost::Emptied,
                holder => Lost::Taken { holder: holder.to_owned() },
            });
        }
        // Ours, but not leading: a write without an answer had its effect after all.
        self.next = if ours || free { Next::Write } else { Next::Pause };
        self.seen = Some(Seen { lease, record, since });
    }

    fn wrote(&mut self, lease: Lease, sent: Instant, now: Instant) {
        let record = lease.record();
        self.seen = Some(Seen { lease, record, since: now });
        self.trouble = None;
        // An answer that took longer than that makes nobody a leader.
        let in_time = now < sent + self.timing.renew();
        if self.lost.is_none() && in_time {
            self.renewed = Some(sent);
        }
        self.next = if in_time { Next::Pause } else { Next::Read };
    }

    /// A leader looks at once who was faster; everybody else has time. Twice in one attempt is no accident.
    fn after_race(&mut self) -> Next {
        let again = self.renewed.is_some() && !self.raced;
        self.raced = true;
        if again { Next::Read } else { Next::Pause }
    }

    fn write(&self, wall: Timestamp) -> Ask {
        let now = written(wall);
        let mut record = Record {
            holder: self.identity.clone(),
            duration: self.timing.lease(),
            acquired: now.clone(),
            renewed: now,
            transitions: 0,
        };
        let Some(Seen { lease, record: old, .. }) = &self.seen else {
            return Ask::Create(Lease::new(&self.namespace, &self.name).with(&record));
        };
        if old.holder == self.identity {
            record.acquired.clone_from(&old.acquired);
            record.transitions = old.transitions;
        } else {
            record.transitions = old.transitions.saturating_add(1);
        }
        Ask::Update(lease.with(&record))
    }

    /// As the holder says, who may have been told other times than this candidate.
    fn holds_for(&self, record: &Record) -> Duration {
        if record.duration.is_zero() { self.timing.lease() } else { record.duration }
    }

    fn pause(&self, now: Instant, entropy: u64) -> Duration {
        let retry = self.timing.retry();
        match (&self.seen, self.leads_until()) {
            (_, Some(until)) => retry.min(until.saturating_duration_since(now)),
            // Not in step with the other candidates; but not later than when the holder counts as dead.
            (Some(seen), None) if !seen.record.holder.is_empty() && self.trouble.is_none() => {
                let over = seen.since + self.holds_for(&seen.record);
                match over.saturating_duration_since(now) {
                    Duration::ZERO => jittered(retry, entropy),
                    left => jittered(retry, entropy).min(left),
                }
            }
            _ => jittered(retry, entropy),
        }
    }
}

/// As client-go: up to 1.2 times longer.
fn jittered(pause: Duration, entropy: u64) -> Duration {
    pause + pause.mul_f64(1.2 * (entropy % 1024) as f64 / 1024.0)
}
