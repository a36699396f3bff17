//! What is told of objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::Fixture;
use super::rig::{QUIET, Rig, id, with_text};
use crate::manifest::ObjectRef;
use crate::observe::{Depth, Observation, Seen};
use crate::testing::conformance::{Finding, NotChecked, OrBroken, holds};

type Verdict = Result<(), Finding>;

/// What is told of the objects of one check.
struct Watch {
    told: BoxStream<'static, Observation>,
    tag: String,
    patience: Duration,
}

impl Watch {
    fn of(fixture: &impl Fixture, rig: &Rig, like: &ObjectRef) -> Self {
        let told = rig.applier.observe(&fixture.cluster().id, &like.gvk, Depth::Metadata);
        Self { told, tag: rig.name(""), patience: fixture.patience() }
    }

    /// The next that is told of the check's own objects.
    async fn next(&mut self) -> Result<Observation, Finding> {
        let next = async {
            loop {
                let told = self.told.next().await.or_broken("the stream of what is observed ended")?;
                let of_others = match &told {
                    Observation::There(Seen { object, .. }) | Observation::Gone { object, .. } => {
                        !object.name.starts_with(&self.tag)
                    }
                    _ => false,
                };
                if !of_others {
                    return Ok(told);
                }
            }
        };
        tokio::time::timeout(self.patience, next).await.or_broken("nothing more was told in time")?
    }

    /// What a list that begins now tells.
    async fn list(&mut self) -> Result<BTreeMap<Arc<str>, Seen>, Finding> {
        let first = self.next().await?;
        holds!(
            matches!(first, Observation::Listing),
            "the first that is told is {first:?}, not that a list begins"
        );
        let mut listed = BTreeMap::new();
        loop {
            match self.next().await? {
                Observation::There(seen) => drop(listed.insert(Arc::clone(&seen.object.name), seen)),
                Observation::Listed { .. } => return Ok(listed),
                other => return Err(Finding::Broken(format!("a list tells {other:?}"))),
            }
        }
    }

    /// That the stream does not end, whatever it tells.
    async fn goes_on(&mut self, meanwhile: &str) -> Verdict {
        let end = async { while self.told.next().await.is_some() {} };
        let ended = tokio::time::timeout(QUIET, end).await.is_ok();
        holds!(!ended, "the stream of what is observed ended {meanwhile}");
        Ok(())
    }

    /// Reads until something is told. A list may come in between.
    async fn until<T>(&mut self, what: &str, told: impl Fn(&Observation) -> Option<T>) -> Result<T, Finding> {
        loop {
            match self.next().await {
                Ok(next) => {
                    if let Some(told) = told(&next) {
                        return Ok(told);
                    }
                }
                Err(Finding::Broken(seen)) => {
                    return Err(Finding::Broken(format!("{what} was not told: {seen}")));
                }
                Err(other) => return Err(other),
            }
        }
    }
}

/// What an object shows, if it is this that is told of.
fn shown(told: &Observation, object: &ObjectRef) -> Option<Arc<str>> {
    match told {
        Observation::There(seen) if seen.object.same_object(object) => Some(seen.owned.print([])),
        _ => None,
    }
}

pub(super) async fn a_list_comes_first(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().observes?;
    let rig = Rig::new(fixture).await;
    let (work, other) = (rig.work("a"), rig.work("b"));
    let mut items = Vec::new();
    for (name, work) in [("a", &work), ("b", &work), ("c", &other)] {
        let object = fixture.object(&rig.name(name), &[("name", name)]);
        items.push((work, rig.place(work, &object, &[]).await?));
    }
    // What nobody marked is nobody's business.
    fixture.put(&fixture.object(&rig.name("d"), &[])).await;
    let listed = Watch::of(fixture, &rig, &id(&fixture.object(&rig.name("a"), &[]))?).list().await?;
    for (work, item) in items {
        let seen = listed.get(&item.object.name).or_broken("an object that is there is not in the list")?;
        let (known, mark) = (item.uid.as_ref(), &seen.mark);
        holds!(Some(&seen.uid) == known, "{} has the UID {known:?}, seen is {}", item.object, seen.uid);
        holds!(**mark == *work.hash(), "{} has the mark {}, seen is {mark}", item.object, work.hash());
        holds!(seen.written_by_us && !seen.going, "an object that was just applied is seen as {seen:?}");
        if let Some(print) = &item.print {
            let shown = seen.owned.print([]);
            holds!(
                shown == *print,
                "an object that nobody changed shows another print than when it was applied"
            );
        }
    }
    holds!(listed.len() == 3, "three objects carry marks, {} are in the list", listed.len());
    Ok(())
}

pub(super) async fn each_change_is_told(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().observes?;
    let rig = Rig::new(fixture).await;
    let (work, object) = (rig.work("a"), fixture.object(&rig.name("a"), &[("text", "1")]));
    let id = id(&object)?;
    let mut watch = Watch::of(fixture, &rig, &id);
    watch.list().await?;
    rig.place(&work, &object, &[]).await?;
    let before = watch.until("an object that was made", |told| shown(told, &id)).await?;
    let found = fixture.read(&id).await.or_broken("what is Applied is not there")?;
    fixture.put(&with_text(&found, "text", "theirs")).await;
    let changed = |told: &Observation| shown(told, &id).filter(|now| *now != before);
    watch.until("a change that somebody made", changed).await?;
    fixture.delete(&id).await;
    let gone = |told: &Observation| match told {
        Observation::Gone { object, .. } if object.same_object(&id) => Some(()),
        _ => None,
    };
    watch.until("that an object was deleted", gone).await
}

pub(super) async fn observing_goes_on(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().observes?;
    let rig = Rig::new(fixture).await;
    let (work, object) = (rig.work("a"), fixture.object(&rig.name("a"), &[]));
    let mut watch = Watch::of(fixture, &rig, &id(&object)?);
    watch.list().await?;
    watch.goes_on("while nothing happened").await?;
    if fixture.break_off().await.is_ok() {
        let goes_on = watch.goes_on("while the cluster was out of reach").await;
        fixture.mend().await;
        goes_on?;
    }
    rig.place_in_time(&work, &object, &[]).await?;
    let id = id(&object)?;
    watch.until("an object that was made after that", |told| shown(told, &id)).await.map(drop)
}

pub(super) async fn what_happened_out_of_reach_is_told(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().observes?;
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let [goes, changes] = ["goes", "changes"].map(|name| fixture.object(&rig.name(name), &[("text", "1")]));
    let goes = rig.place(&work, &goes, &[]).await?;
    let changes = rig.place(&work, &changes, &[]).await?;
    let mut watch = Watch::of(fixture, &rig, &goes.object);
    let prints = |listed: BTreeMap<Arc<str>, Seen>| -> BTreeMap<Arc<str>, Arc<str>> {
        listed.into_iter().map(|(name, seen)| (name, seen.owned.print([]))).collect()
    };
    let mut there = prints(watch.list().await?);
    let before = there.get(&changes.object.name).cloned();
    let before = before.or_broken("an object that is there is not in the list")?;
    fixture.break_off().await?;
    fixture.delete(&goes.object).await;
    let found = fixture.read(&changes.object).await.or_broken("what is Applied is not there")?;
    fixture.put(&with_text(&found, "text", "theirs")).await;
    fixture.mend().await;
    let mut listing = None;
    loop {
        let gone = !there.contains_key(&goes.object.name);
        let changed = there.get(&changes.object.name).is_some_and(|print| *print != before);
        if gone && changed {
            return Ok(());
        }
        match watch.next().await {
            Ok(Observation::Listing) => listing = Some(BTreeMap::new()),
            Ok(Observation::There(seen)) => {
                let print = seen.owned.print([]);
                listing.as_mut().unwrap_or(&mut there).insert(seen.object.name, print);
            }
            Ok(Observation::Gone { object, .. }) => {
                listing.as_mut().unwrap_or(&mut there).remove(&object.name);
            }
            Ok(Observation::Listed { .. }) => there = listing.take().unwrap_or(there),
            Err(Finding::Broken(seen)) => {
                return Err(Finding::Broken(format!(
                    "while the cluster was out of reach one object was deleted and one changed; told is \
                     {} and {}, then: {seen}",
                    if gone { "that" } else { "not that" },
                    if changed { "this" } else { "not this" },
                )));
            }
            Err(other) => return Err(other),
        }
    }
}

pub(super) async fn one_that_cannot_watch_tells_nothing(fixture: &impl Fixture) -> Verdict {
    if fixture.abilities().observes.is_ok() {
        return Err(NotChecked::because("it can watch").into());
    }
    let rig = Rig::new(fixture).await;
    let like = id(&fixture.object(&rig.name("a"), &[]))?;
    let mut told = rig.applier.observe(&fixture.cluster().id, &like.gvk, Depth::Whole);
    let first = tokio::time::timeout(fixture.patience(), told.next()).await;
    let first = first.or_broken("the stream of one that cannot watch does not end")?;
    holds!(first.is_none(), "one that cannot watch tells {first:?}");
    Ok(())
}
