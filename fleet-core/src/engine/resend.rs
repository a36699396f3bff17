//! Sending dead letters again, and trying stalled Works again or giving them up: what a person asks for by hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dead_letter::{DeadLetter, DeadLetterBox};
use crate::engine::accept::{Accepted, Outcome};
use crate::engine::judge::{Refusal, Verdict, judge};
use crate::engine::tombstones::forgotten_by;
use crate::engine::{Handle, Shared};
use crate::position::{Domain, Position, Positions};
use crate::source::{Delivery, Settle};
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, EventKey, Intent, Work, WorkId};

/// How many Works are read at a time.
const PAGE: usize = 256;

/// What became of a dead letter that was sent again. In all cases but [`RefusedAgain`](Self::RefusedAgain) it is not
/// kept any more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resent {
    /// It is Work now, for so many triggers.
    Stored(usize),
    /// Something newer of its key was processed meanwhile, which stays.
    Superseded,
    /// No trigger that listens to its source wants it any more.
    Unwanted,
    /// It was refused again, and is kept with the new reason.
    RefusedAgain {
        /// One CamelCase word.
        reason: String,
        /// What is wrong and what to do.
        detail: String,
    },
}

/// Why a dead letter cannot be sent again. It is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResendError {
    /// There is no such letter.
    #[error("there is no dead letter {0}")]
    NoSuchLetter(String),
    /// Its source is not read now, so nobody knows how to read its message.
    #[error("EventSource {0} is not read now; a dead letter goes only to the source that refused it")]
    SourceMissing(String),
    /// Whether something newer of its key was processed cannot be told any more.
    #[error(
        "nothing is known of its key any more, so something newer may have been processed and ended since; to have it processed as the newest all the same, send it again as new"
    )]
    Forgotten,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Handle {
    /// Where dead letters are kept: the store first, then the places that sources say.
    pub fn dead_letter_boxes(&self) -> Vec<Arc<dyn DeadLetterBox>> {
        let mut boxes = vec![Arc::clone(&self.shared.letters)];
        for letters in self.shared.feeds.letters() {
            if !boxes.iter().any(|known| Arc::ptr_eq(known, &letters)) {
                boxes.push(letters);
            }
        }
        boxes
    }

    /// Sends a dead letter again, only to the source and trigger that refused it, and at its original place: what is
    /// newer stays. `as_new` makes it the newest instead. Cancel safe: the letter is kept until it is Work.
    ///
    /// # Errors
    /// See [`ResendError`]; the letter is kept.
    pub async fn resend(&self, id: &str, as_new: bool) -> Result<Resent, ResendError> {
        for letters in self.dead_letter_boxes() {
            if let Some(letter) = letters.get(id).await? {
                let resent = resend(&self.shared, &letter, as_new).await?;
                match resent {
                    Outcomes::Refused(letter, refusal) => {
                        letters.add(letter).await?;
                        let Refusal { reason, detail, .. } = refusal;
                        return Ok(Resent::RefusedAgain { reason: reason.to_owned(), detail });
                    }
                    Outcomes::Done(resent) => {
                        letters.remove(id).await?;
                        return Ok(resent);
                    }
                }
            }
        }
        Err(ResendError::NoSuchLetter(id.to_owned()))
    }

    /// Drops a dead letter; whether there was one.
    ///
    /// # Errors
    /// When a place where dead letters are kept cannot be reached.
    pub async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        for letters in self.dead_letter_boxes() {
            if letters.remove(id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tries a Work again now in every cluster where it is stalled; in how many that is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn retry(&self, work: &WorkId) -> Result<usize, StoreError> {
        let stored = self.shared.store.work(work).await?;
        let work = &stored.map_or_else(|| work.clone(), |stored| self.shared.rendered_as(&stored.value));
        let applied = self.shared.applied_of(work).await?;
        let is_stalled = |applied: &AppliedWork| matches!(applied.state, AppliedState::Stalled { .. });
        let mut clusters = BTreeSet::new();
        for applied in applied.iter().map(|it| &*it.value).filter(|it| is_stalled(it)) {
            self.shared.enqueue(&applied.work, &applied.cluster);
            clusters.insert(applied.for_cluster());
        }
        Ok(clusters.len())
    }

    /// Gives a Work up, as if a Delete event had come: what it has put into clusters is taken away. Events that come
    /// later count as ever. Returns whether there was such a Work. Where a trigger renders all its keys together, what
    /// they have is given up by giving up each of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn give_up(&self, work: &WorkId) -> Result<bool, StoreError> {
        loop {
            let Some(stored) = self.shared.store.work(work).await? else { return Ok(false) };
            let old = &stored.value;
            if old.intent == Intent::Delete {
                self.shared.look_at(old, Some(old)).await;
                return Ok(false);
            }
            match old.key {
                EventKey::All => return self.give_up_keys(&old.trigger).await,
                // It would be made again at once: what is always on ends with its definition.
                EventKey::Always => return Ok(false),
                EventKey::About { .. } | EventKey::Text(_) => {}
            }
            if self.shared.end(&stored).await? {
                return Ok(true);
            }
        }
    }

    async fn give_up_keys(&self, trigger: &str) -> Result<bool, StoreError> {
        let mut after: Option<WorkId> = None;
        let mut found = false;
        loop {
            let page = self.shared.store.works(Some(trigger), after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.value.id.clone());
            for stored in page.iter().filter(|stored| stored.value.key != EventKey::All) {
                found |= Box::pin(self.give_up(&stored.value.id)).await?;
            }
        }
    }
}

impl Shared {
    /// Stores that a Work is to be gone, positions kept, and has that looked at; `false` if somebody wrote it meanwhile.
    pub(super) async fn end(self: &Arc<Self>, stored: &Stored<Arc<Work>>) -> Result<bool, StoreError> {
        self.end_with(stored, stored.value.positions.clone()).await
    }

    /// The same, at a place: what lies below it does not come back.
    pub(super) async fn end_at(
        self: &Arc<Self>,
        stored: &Stored<Arc<Work>>,
        place: &Position,
    ) -> Result<bool, StoreError> {
        let mut positions = stored.value.positions.clone();
        positions.record(place.clone());
        self.end_with(stored, positions).await
    }

    async fn end_with(
        self: &Arc<Self>,
        stored: &Stored<Arc<Work>>,
        positions: Positions,
    ) -> Result<bool, StoreError> {
        let old = &stored.value;
        let generation = old.generation + 1;
        let gone = Arc::new(Work { intent: Intent::Delete, generation, positions, ..(**old).clone() });
        match self.store.put_work(Arc::clone(&gone), Some(stored.revision.clone()), Vec::new()).await {
            Ok(_) => {
                self.note_live(old.intent == Intent::Create, false);
                self.look_at(&gone, Some(old)).await;
                Ok(true)
            }
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

enum Outcomes {
    Done(Resent),
    /// The letter as it is to be kept now.
    Refused(Arc<DeadLetter>, Refusal),
}

async fn resend(shared: &Arc<Shared>, letter: &DeadLetter, as_new: bool) -> Result<Outcomes, ResendError> {
    let missing = || ResendError::SourceMissing(letter.source.clone());
    let reading = shared.feeds.any_of(&letter.source).ok_or_else(missing)?;
    let definitions = shared.definitions.load_full();
    let source = Arc::clone(definitions.sources.get(letter.source.as_str()).ok_or_else(missing)?);
    let message = Arc::new(letter.message.clone());
    let delivery = Delivery {
        event: reading.decode(&message, &letter.raw),
        origin: letter.origin.clone(),
        message: Arc::clone(&message),
        raw: letter.raw.clone(),
        position: letter.position.clone(),
        published: None,
        settle: Settle::nothing(),
    };
    let (origin, intentions) =
        match judge(&source, &delivery, letter.trigger.as_deref(), &definitions, &shared.clusters) {
            Verdict::Unwanted => return Ok(Outcomes::Done(Resent::Unwanted)),
            Verdict::Refused(refusal) => return Ok(kept(letter, refusal)),
            Verdict::Wanted { origin, intentions } => (origin, intentions),
        };
    let Ok(event) = delivery.event.map(Arc::new) else {
        return Ok(Outcomes::Done(Resent::Unwanted));
    };
    let original = letter.position.clone().filter(|_| !as_new);
    let received = shared.now();
    let accepted = Accepted {
        source,
        origin,
        position: original.clone().unwrap_or_else(|| shared.next_position()),
        published: received,
        received,
        floors: None,
        refused: (!as_new).then_some(letter.time),
    };
    let mut stored = 0;
    let mut refusals = Vec::new();
    for intention in intentions {
        let intention = match intention {
            Ok(intention) => intention,
            Err(refusal) => {
                refusals.push(refusal);
                continue;
            }
        };
        let mut turn = shared.turns.queue(&intention.id);
        turn.come().await;
        if let Some(position) = &original
            && shared.store.work(&intention.id).await?.is_none()
            && is_forgotten(shared, &intention.trigger.def.name, position).await?
        {
            return Err(ResendError::Forgotten);
        }
        if accepted.store(shared, &intention, &event, &message).await? == Outcome::Stored {
            stored += 1;
        }
    }
    let several = refusals.len() > 1;
    Ok(match refusals.into_iter().next() {
        // For those that took it, it is a duplicate the next time.
        Some(refusal) if several => kept(letter, Refusal { trigger: None, ..refusal }),
        Some(refusal) => kept(letter, refusal),
        None if stored > 0 => Outcomes::Done(Resent::Stored(stored)),
        None => Outcomes::Done(Resent::Superseded),
    })
}

/// Whether keys of the trigger were forgotten whose last event lay at or above this place: then a key without Work may
/// have had a newer event.
async fn is_forgotten(shared: &Shared, trigger: &str, position: &Position) -> Result<bool, StoreError> {
    if position.domain == Domain::operator() {
        // What an earlier process forgot is not known.
        return Ok(position.epoch != shared.epoch() || shared.tombstones.has_forgotten(trigger, position));
    }
    let floors = shared.store.floors(&forgotten_by(trigger, &position.domain)).await?;
    Ok(floors.iter().any(|floor| !position.is_above(floor)))
}

fn kept(letter: &DeadLetter, refusal: Refusal) -> Outcomes {
    let letter = DeadLetter {
        trigger: refusal.trigger.as_deref().map(str::to_owned).or_else(|| letter.trigger.clone()),
        reason: refusal.reason.to_owned(),
        detail: refusal.detail.clone(),
        ..letter.clone()
    };
    Outcomes::Refused(Arc::new(letter), refusal)
}
