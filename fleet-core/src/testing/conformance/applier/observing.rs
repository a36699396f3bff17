//! What is told of objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::Fixture;
use super::rig::{Rig, id, with_text};
use crate::manifest::ObjectRef;
use crate::observe::{Depth, Observation, Seen};
use crate::testing::conformance::{Finding, OrBroken, holds};
use crate::work::WorkId;

type Verdict = Result<(), Finding>;

/// After something was not told for that long, it is taken not to be told.
const QUIET: Duration = Duration::from_millis(500);

/// What is told of the objects of one Work.
struct Watch {
    told: BoxStream<'static, Observation>,
    mark: String,
    patience: Duration,
}

impl Watch {
    fn of(fixture: &impl Fixture, rig: &Rig, work: &WorkId, like: &ObjectRef) -> Self {
        let told = rig.applier.observe(&fixture.cluster().id, &like.gvk, Depth::Metadata);
        Self { told, mark: work.hash().to_owned(), patience: fixture.patience() }
    }

    async fn next(&mut self) -> Result<Observation, Finding> {
        let next = async {
            loop {
                let told = self.told.next().await.or_broken("the stream of what is observed ended")?;
                let others = match &told {
                    Observation::There(seen) => *seen.mark != *self.mark,
                    Observation::Gone { mark, .. } => mark.as_ref().is_some_and(|mark| **mark != *self.mark),
                    _ => false,
                };
                if !others {
                    return Ok(told);
                }
            }
        };
        tokio::time::timeout(self.patience, next).await.or_broken("nothing was told in time")?
    }

    /// What a list that begins now tells.
    async fn list(&mut self) -> Result<BTreeMap<Arc<str>, Seen>, Finding> {
        let first = self.next().await?;
        holds!(matches!(first, Observation::Listing), "the first that is told is {first:?}, not that a list begins");
        let mut listed = BTreeMap::new();
        loop {
            match self.next().await? {
                Observation::There(seen) => drop(listed.insert(Arc::clone(&seen.object.name), seen)),
                Observation::Listed { .. } => return Ok(listed),
                other => return Err(Finding::Broken(format!("a list tells {other:?}"))),
            }
        }
    }

    /// Reads until an object is as it is to be told. A list may come in between.
    async fn until(&mut self, what: &str, is: impl Fn(&Observation) -> bool) -> Verdict {
        let deadline = tokio::time::Instant::now() + self.patience;
        while tokio::time::Instant::now() < deadline {
            if is(&self.next().await.or_broken_with(what)?) {
                return Ok(());
            }
        }
        Err(Finding::Broken(format!("{what} was not told in time")))
    }
}

/// Says what was waited for.
trait OrBrokenWith<T> {
    fn or_broken_with(self, what: &str) -> Result<T, Finding>;
}

impl<T> OrBrokenWith<T> for Result<T, Finding> {
    fn or_broken_with(self, what: &str) -> Result<T, Finding> {
        self.map_err(|finding| match finding {
            Finding::Broken(seen) => Finding::Broken(format!("{what} was not told: {seen}")),
            other => other,
        })
    }
}

pub(super) async fn a_list_comes_first(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().observes?;
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let mut items = Vec::new();
    for name in ["a", "b"] {
        items.push(rig.place(&work, &fixture.object(&rig.name(name), &[("name", name)]), &[]).await?);
    }
    let listed = Watch::of(fixture, &rig, &work, &items[0].object).list().await?;
    for item in items {
        let seen = listed.get(&item.object.name).or_broken("an object that is there is not in the list")?;
        holds!(Some(&seen.uid) == item.uid.as_ref(), "{} was applied with UID {:?}, seen is {}", item.object, item.uid, seen.uid);
        holds!(seen.written_by_us && !seen.going, "an object that was just applied is seen as {seen:?}");
        if let Some(print) = &item.print {
            let shown = seen.owned.print([]);
            holds!(shown == *print, "an object that nobody changed shows another print than when it was applied");
        }
    }
    holds!(listed.len() == 2, "of two objects {} are in the list", listed.len());
    Ok(())
}

pub(super) async fn each_change_is_told(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().observes?;
    let rig = Rig::new(fixture).await;
    let (work, object) = (rig.work("a"), fixture.object(&rig.name("a"), &[("text", "1")]));
    let id = id(&object)?;
    let mut watch = Watch::of(fixture, &rig, &work, &id);
    watch.list().await?;
    let placed = rig.place(&work, &object, &[]).await?;
    let is_there = |told: &Observation| matches!(told, Observation::There(seen) if seen.object.same_object(&id));
    watch.until("an object that was made", is_there).await?;
    let found = fixture.read(&id).await.or_broken("what is Applied is not there")?;
    fixture.put(&with_text(&found, "text", "theirs")).await;
    let changed = |told: &Observation| {
        let Observation::There(seen) = told else { return false };
        let shown = seen.owned.print([]);
        seen.object.same_object(&id) && placed.print.as_ref().is_none_or(|print| shown != *print)
    };
    watch.until("a change that somebody made", changed).await?;
    fixture.delete(&id).await;
    let gone = |told: &Observation| matches!(told, Observation::Gone { object, .. } if object.same_object(&id));
    watch.until("that an object was deleted", gone).await
}

pub(super) async fn observing_goes_on(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().observes?;
    let rig = Rig::new(fixture).await;
    let (work, object) = (rig.work("a"), fixture.object(&rig.name("a"), &[]));
    let mut watch = Watch::of(fixture, &rig, &work, &id(&object)?);
    watch.list().await?;
    let quiet = tokio::time::timeout(QUIET, watch.told.next()).await;
    holds!(!matches!(quiet, Ok(None)), "the stream ended while nothing happened");
    if fixture.break_off().await.is_ok() {
        let broken = tokio::time::timeout(QUIET, async {
            while watch.told.next().await.is_some() {}
        })
        .await;
        fixture.mend().await;
        holds!(broken.is_err(), "the stream ended while the cluster was out of reach");
    }
    rig.place(&work, &object, &[]).await?;
    let name = rig.name("a");
    let is_there = |told: &Observation| matches!(told, Observation::There(seen) if *seen.object.name == *name);
    watch.until("an object that was made after that", is_there).await
}
