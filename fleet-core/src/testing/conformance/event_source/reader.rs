//! Reads a source as the engine does, with a deadline for everything.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;

use super::Fixture;
use crate::position::Position;
use crate::source::{Delivery, EventSource, Live, SourceItem, SourceStatus};
use crate::testing::conformance::{Finding, OrBroken, holds};

/// After something did not come for that long, it is taken not to come. Whoever is slower than that passes unseen; nobody
/// is found at fault who is not.
pub(super) const QUIET: Duration = Duration::from_millis(500);

/// An open stream, and what it told that was not asked for yet.
pub(super) struct Reader {
    items: BoxStream<'static, SourceItem>,
    patience: Duration,
    deliveries: VecDeque<Delivery>,
    pub(super) floors: Vec<Position>,
    statuses: VecDeque<SourceStatus>,
    snapshots: VecDeque<Live>,
    settled: Option<Timestamp>,
}

impl Reader {
    /// Opens the source as a new process does, knowing no floors.
    pub(super) async fn open(fixture: &impl Fixture) -> Result<Self, Finding> {
        Self::open_at(fixture, &*fixture.source().await, Vec::new()).await
    }

    /// Opens a source with the floors that a store has.
    pub(super) async fn open_at(
        fixture: &impl Fixture,
        source: &dyn EventSource,
        floors: Vec<Position>,
    ) -> Result<Self, Finding> {
        let items = source.open(floors).await.or_broken("it could not be opened")?;
        Ok(Self {
            items,
            patience: fixture.patience(),
            deliveries: VecDeque::new(),
            floors: Vec::new(),
            statuses: VecDeque::new(),
            snapshots: VecDeque::new(),
            settled: None,
        })
    }

    /// The floors as a store keeps them: the highest of each domain.
    pub(super) fn stored_floors(&self) -> Vec<Position> {
        let mut stored: Vec<Position> = Vec::new();
        for floor in &self.floors {
            match stored.iter_mut().find(|known| known.domain == floor.domain) {
                Some(known) if floor.is_above(known) => *known = floor.clone(),
                Some(_) => {}
                None => stored.push(floor.clone()),
            }
        }
        stored
    }

    async fn read(&mut self) -> Result<(), Finding> {
        match self.items.next().await.or_broken("the stream ended")? {
            SourceItem::Delivery(delivery) => self.deliveries.push_back(delivery),
            SourceItem::Floor(floor) => self.floors.push(floor),
            SourceItem::Settled(until) => self.settled = Some(until),
            SourceItem::Snapshot(snapshot) => self.snapshots.push_back(snapshot.live),
            SourceItem::Status(status) => self.statuses.push_back(status),
        }
        Ok(())
    }

    /// Reads until something is there.
    async fn until<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Finding> {
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            if let Some(found) = found(self) {
                return Ok(found);
            }
            match tokio::time::timeout_at(deadline, self.read()).await {
                Ok(read) => read?,
                Err(_) => {
                    let told = self.statuses.back().map(|status| status.message.clone());
                    let told = told.map(|told| format!("; it said last: {told}")).unwrap_or_default();
                    return Err(Finding::Broken(format!("no {what} came within {:?}{told}", self.patience)));
                }
            }
        }
    }

    /// The next delivery, whatever it is.
    pub(super) async fn next(&mut self) -> Result<Delivery, Finding> {
        self.until("delivery", |reader| reader.deliveries.pop_front()).await
    }

    /// The next delivery, which has to be of an event with this subject.
    pub(super) async fn delivery(&mut self, subject: &str) -> Result<Delivery, Finding> {
        let what = format!("delivery of {subject}");
        let delivery = self.until(&what, |reader| reader.deliveries.pop_front()).await?;
        let found = subject_of(&delivery)?;
        holds!(found == subject, "a delivery of {found} came where {subject} was expected");
        Ok(delivery)
    }

    /// The next delivery of an event with this subject; others are acknowledged.
    pub(super) async fn delivery_among_others(&mut self, subject: &str) -> Result<Delivery, Finding> {
        let what = format!("delivery of {subject}");
        loop {
            let delivery = self.until(&what, |reader| reader.deliveries.pop_front()).await?;
            if subject_of(&delivery)? == subject {
                return Ok(delivery);
            }
            delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
        }
    }

    /// Reads and acknowledges a delivery of an event with this subject.
    pub(super) async fn acknowledge(&mut self, subject: &str) -> Result<(), Finding> {
        let delivery = self.delivery(subject).await?;
        delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")
    }

    /// Waits until what is published from now on will arrive.
    pub(super) async fn listens(&mut self, fixture: &impl Fixture) -> Result<(), Finding> {
        if fixture.abilities().status.is_err() {
            return Ok(());
        }
        self.until("status that says ready", |reader| {
            let ready = reader.statuses.back().is_some_and(|status| status.ready);
            // What is asked for later has to be told later.
            ready.then(|| reader.statuses.clear())
        })
        .await
    }

    /// Waits for a status that says that no event can arrive.
    pub(super) async fn trouble(&mut self) -> Result<SourceStatus, Finding> {
        self.until("status that says what is the matter", |reader| {
            let at = reader.statuses.iter().position(|status| !status.ready)?;
            reader.statuses.drain(..=at).next_back()
        })
        .await
    }

    /// Waits for a floor at or above a position.
    pub(super) async fn floor_at(&mut self, position: &Position) -> Result<(), Finding> {
        self.until(&format!("floor at {position}"), |reader| {
            let reached = |floor: &Position| floor.domain == position.domain && !position.is_above(floor);
            reader.floors.iter().any(reached).then_some(())
        })
        .await
    }

    /// Waits for the source to say up to when all is settled.
    pub(super) async fn settled(&mut self, source: &dyn EventSource) -> Result<Timestamp, Finding> {
        // What was told before may not hold any more.
        self.settled = None;
        source.report_settled();
        self.until("word of what is settled", |reader| reader.settled.take()).await
    }

    /// Waits for a snapshot.
    pub(super) async fn snapshot(&mut self) -> Result<Live, Finding> {
        self.until("snapshot", |reader| reader.snapshots.pop_front()).await
    }

    /// Whether a snapshot was read and not asked for.
    pub(super) fn has_snapshot(&self) -> bool {
        !self.snapshots.is_empty()
    }

    /// Those that were read are not looked at.
    pub(super) fn forget_snapshots(&mut self) {
        self.snapshots.clear();
    }

    /// Reads for a while, for whatever comes.
    pub(super) async fn read_for(&mut self, time: Duration) -> Result<(), Finding> {
        let deadline = tokio::time::Instant::now() + time;
        while let Ok(read) = tokio::time::timeout_at(deadline, self.read()).await {
            read?;
        }
        Ok(())
    }

    /// What was delivered and not asked for.
    pub(super) fn waiting(&mut self) -> Vec<Delivery> {
        self.deliveries.drain(..).collect()
    }

    /// That nothing is delivered for a while.
    pub(super) async fn nothing_for(&mut self, time: Duration) -> Result<(), Finding> {
        self.read_for(time).await?;
        match self.deliveries.pop_front() {
            None => Ok(()),
            Some(delivery) => {
                let subject = subject_of(&delivery)?;
                Err(Finding::Broken(format!("{subject} was delivered, nothing was expected")))
            }
        }
    }
}

/// The subject of a delivery that has to be of an event.
pub(super) fn subject_of(delivery: &Delivery) -> Result<String, Finding> {
    let event = delivery.event.as_ref().or_broken("an event arrived as none")?;
    Ok(event.subject().or_broken("an event arrived without its subject")?.to_owned())
}
