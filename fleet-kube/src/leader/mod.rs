//! Leader election by a Lease (`coordination.k8s.io/v1`), as client-go does it: of all candidates one leads, the others
//! wait.
//!
//! A candidate judges by its own monotonic clock whether the leader is dead: by when it last saw the Lease change,
//! never by the timestamps in it. A leader counts from when it sent what renewed the Lease, and stops leading at the
//! renew deadline, before anybody may take over. Nothing can be taken back that a leader sent before that: what must not
//! be done twice needs a precondition of its own (a resourceVersion, a UID). Whoever deletes the Lease while somebody leads
//! makes two lead for up to a retry period.
//!
//! It takes the permission to get, create and update `leases` of the group `coordination.k8s.io` in the namespace.
//!
//! ```no_run
//! # async fn example(client: fleet_kube::client::ClusterClient) -> Result<(), Box<dyn std::error::Error>> {
//! use fleet_kube::leader::{Election, Timing};
//!
//! let election = Election::new(client, "fleet-events", "fleet-operator", "pod-1_8f3a", Timing::default())?;
//! let leadership = election.acquire().await;
//! tokio::select! {
//!     () = async { /* what only the leader may do */ } => leadership.release().await?,
//!     lost = leadership.lost() => eprintln!("not the leader any more: {lost}"),
//! }
//! # Ok(())
//! # }
//! ```

mod api;
mod candidate;
mod lease;
mod timing;

use std::time::Duration;

use fleet_core::environment::Environment;
use fleet_core::manifest::names;
use futures::FutureExt;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use timing::{Timing, TimingError};

use self::api::{Leases, OnServer};
use self::candidate::{Answer, Ask, Candidate, Step};
use crate::client::ClusterClient;

/// How long giving up a Lease may take; after that it runs out by itself.
const RELEASE: Duration = Duration::from_secs(3);
/// How often giving up is tried again because the Lease was written meanwhile.
const RELEASE_ATTEMPTS: usize = 3;

/// A candidate that does not lead yet.
pub struct Election {
    race: Race<OnServer>,
}

/// What a candidate knows of the election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet.
    #[default]
    Unknown,
    /// Somebody else leads.
    Waiting {
        /// Whoever the Lease names; nobody knows whether it is alive.
        holder: String,
    },
    /// The Lease cannot be had now.
    Trouble {
        /// Why, and what to do.
        reason: String,
    },
    /// This candidate leads.
    Leading,
}

/// A Lease has a name that cannot be, or a candidate has none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {why}")]
pub struct NameError {
    what: &'static str,
    value: String,
    why: &'static str,
}

/// Why somebody who led leads no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The Lease could not be renewed in time.
    #[error(
        "it could not be renewed within {} s{}", within.as_secs_f32(),
        trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default()
    )]
    NotRenewed {
        /// The renew deadline.
        within: Duration,
        /// Why the last attempt failed, if one did; else this process did not run in time.
        trouble: Option<String>,
    },
    /// Somebody else has it.
    #[error("{holder} has it now")]
    Taken {
        /// Who.
        holder: String,
    },
    /// Somebody took the holder out of it.
    #[error("somebody else took its holder out of it")]
    Emptied,
    /// Whoever led gave it up.
    #[error("it was given up")]
    GivenUp,
}

/// The Lease was not given up; whoever waits for it waits until it runs out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Lease was not given up, so it runs out by itself: {0}")]
pub struct ReleaseError(String);

impl Election {
    /// A candidate for a Lease, which is made if it is not there. `identity` must be this candidate's alone: two that
    /// share one would both lead.
    ///
    /// # Errors
    /// When namespace or name cannot be an object's, or the identity is empty.
    pub fn new(
        client: ClusterClient,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
    ) -> Result<Self, NameError> {
        let refuse = |what, value: &str| {
            let value = value.to_owned();
            move |why| NameError { what, value, why }
        };
        names::dns_label(namespace).map_err(refuse("the Lease's namespace", namespace))?;
        names::dns_subdomain(name).map_err(refuse("the Lease's name", name))?;
        if identity.is_empty() {
            return Err(refuse("the candidate's identity", identity)("is empty"));
        }
        let leases = OnServer::new(client, namespace, name);
        let candidate = Candidate::new(namespace, name, identity, timing);
        Ok(Self { race: Race::new(leases, candidate, Environment::default()) })
    }

    /// What this candidate knows, also later when it leads.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.race.standing.subscribe()
    }

    /// Waits until this candidate leads, for as long as it takes: troubles on the way are told by
    /// [`standing`](Self::standing).
    ///
    /// Cancelled while it writes the Lease, it may have become the leader; then the Lease runs out by itself.
    pub async fn acquire(self) -> Leadership {
        self.race.acquire().await
    }
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election").field("standing", &*self.race.standing.borrow()).finish_non_exhaustive()
    }
}

/// Being the leader. A task renews the Lease in the background. Dropped, it is over at once, and the Lease runs out.
#[derive(Debug)]
pub struct Leadership {
    tenure: Tenure,
    /// Ends the tenure when it is dropped.
    over: DropGuard,
    release: oneshot::Sender<Released>,
}

/// Where the task that renews tells how giving up went.
type Released = oneshot::Sender<Result<(), ReleaseError>>;

impl Leadership {
    /// Waits until it is lost, and says why. Cancel safe.
    ///
    /// It is lost at the renew deadline at the latest, and so before anybody else may lead. Stop at once then: what is
    /// still sent later meets the next leader.
    pub async fn lost(&self) -> Lost {
        self.tenure.lost().await
    }

    /// For whoever has to know, before each act, whether it still holds.
    pub fn tenure(&self) -> Tenure {
        self.tenure.clone()
    }

    /// Gives the Lease up, so that the next leader need not wait for it to run out. Call it last: what only the leader
    /// may do must be over.
    ///
    /// # Errors
    /// When it was lost before, or the API server did not take it in a few seconds. Cancelled, it may have been given
    /// up.
    pub async fn release(self) -> Result<(), ReleaseError> {
        let Self { tenure: _, over, release } = self;
        let (reply, told) = oneshot::channel();
        let asked = release.send(reply);
        drop(over);
        match asked {
            Ok(()) => told.await.unwrap_or_else(|_| Err(ReleaseError("it was lost before".to_owned()))),
            Err(_) => Err(ReleaseError("it was lost before".to_owned())),
        }
    }
}

/// Whether the leadership it was taken from holds. Cheap to clone, and to ask before each act.
#[derive(Clone, Debug)]
pub struct Tenure {
    term: watch::Receiver<Term>,
    over: CancellationToken,
}

/// How long a leadership holds, as far as is known.
#[derive(Clone, Debug, PartialEq)]
enum Term {
    Until(Instant),
    Over(Lost),
}

impl Tenure {
    /// Whether it holds now. Once it does not, it never does again. A process that was frozen finds out by this before
    /// anybody tells it.
    pub fn holds(&self) -> bool {
        !self.over.is_cancelled()
            && matches!(*self.term.borrow(), Term::Until(until) if Instant::now() < until)
    }

    /// As [`Leadership::lost`].
    pub async fn lost(&self) -> Lost {
        let mut term = self.term.clone();
        let over = term.wait_for(|term| matches!(term, Term::Over(_)));
        match over.await.as_deref() {
            Ok(Term::Over(lost)) => lost.clone(),
            // The task that renews is gone.
            _ => Lost::GivenUp,
        }
    }
}

/// A candidate, the API server it talks to, and who is told.
struct Race<L> {
    leases: L,
    candidate: Candidate,
    environment: Environment,
    standing: watch::Sender<Standing>,
}

impl<L: Leases> Race<L> {
    fn new(leases: L, candidate: Candidate, environment: Environment) -> Self {
        Self { leases, candidate, environment, standing: watch::Sender::default() }
    }

    /// Races until it leads.
    async fn acquire(mut self) -> Leadership {
        loop {
            if self.step().await.is_some() {
                // The answer that made it the leader came too late to be of use.
                self.candidate.start_over();
            }
            if let Some(until) = self.candidate.leads_until() {
                return self.lead(until);
            }
        }
    }

    fn lead(self, until: Instant) -> Leadership {
        let over = CancellationToken::new();
        let (term, watched) = watch::channel(Term::Until(until));
        let (release, wanted) = oneshot::channel();
        let spawner = self.environment.spawner.clone();
        // Ends when the Leadership is dropped, or lost.
        spawner.spawn(self.keep(term, over.clone(), wanted).boxed());
        let tenure = Tenure { term: watched, over: over.clone() };
        Leadership { tenure, over: over.drop_guard(), release }
    }

    /// Renews until it is over.
    async fn keep(
        mut self,
        term: watch::Sender<Term>,
        over: CancellationToken,
        mut release: oneshot::Receiver<Released>,
    ) {
        loop {
            let lost = tokio::select! {
                biased;
                () = over.cancelled() => break,
                lost = self.step() => lost,
            };
            if let Some(lost) = lost {
                term.send_replace(Term::Over(lost));
                return;
            }
            if let Some(until) = self.candidate.leads_until() {
                term.send_replace(Term::Until(until));
            }
        }
        term.send_replace(Term::Over(Lost::GivenUp));
        if let Ok(released) = release.try_recv() {
            let _ = released.send(self.give_up().await);
        }
    }

    /// Does one thing; says so if the leadership is over by it.
    async fn step(&mut self) -> Option<Lost> {
        let wall = self.environment.clock.now();
        match self.candidate.step(Instant::now(), wall, self.environment.entropy.next()) {
            Step::Pause(pause) => tokio::time::sleep(pause).await,
            Step::Ask(ask) => self.ask(&ask, self.candidate.deadline(Instant::now())).await,
            Step::Stop(lost) => return Some(lost),
        }
        None
    }

    async fn ask(&mut self, ask: &Ask, deadline: Instant) {
        let sent = Instant::now();
        let answer = self.leases.ask(ask, deadline).await;
        self.candidate.answered(ask, sent, Instant::now(), answer);
        self.tell();
    }

    fn tell(&self) {
        let standing = match (self.candidate.leads_until(), self.candidate.trouble(), self.candidate.holder())
        {
            (Some(_), None, _) => Standing::Leading,
            (_, Some(reason), _) => Standing::Trouble { reason: reason.to_owned() },
            (None, None, Some(holder)) => Standing::Waiting { holder: holder.to_owned() },
            (None, None, None) => return,
        };
        self.standing.send_if_modified(|told| {
            let differs = *told != standing;
            *told = standing;
            differs
        });
    }

    /// Takes the holder out of the Lease. A renewal that was under way may be faster: then once more.
    async fn give_up(&mut self) -> Result<(), ReleaseError> {
        let deadline = Instant::now() + RELEASE;
        for _ in 0..RELEASE_ATTEMPTS {
            let Some(parting) = self.candidate.parting(self.environment.clock.now()) else {
                return Ok(());
            };
            match self.leases.ask(&parting, deadline).await {
                Answer::Is(_) => return Ok(()),
                Answer::Failed(reason) => return Err(ReleaseError(reason)),
                Answer::Absent | Answer::Raced => self.ask(&Ask::Read, deadline).await,
            }
        }
        Err(ReleaseError("somebody else keeps writing it".to_owned()))
    }
}

#[cfg(test)]
mod tests;
