//! What becomes of what is applied.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Fixture;
use super::rig::{Rig, id, planned, remember, text, with_text};
use crate::apply::{ApplyRequest, Change, Mode, Outcome};
use crate::policy::{DriftExclusion, JsonPointer, Policy};
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

pub(super) async fn fields_that_are_not_wanted_any_more_go(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let mut inventory = Vec::new();
    for texts in [&[("stays", "1"), ("goes", "1")][..], &[("stays", "2"), ("goes", "2")], &[("stays", "3")]] {
        let object = fixture.object(&name, texts);
        inventory = vec![rig.place(&work, &object, &inventory).await?];
        let found = fixture.read(&id(&object)?).await.or_broken("what is Applied is not there")?;
        for key in ["stays", "goes"] {
            let wanted = texts.iter().find(|(name, _)| *name == key).map(|(_, text)| *text);
            let there = text(&found, key);
            holds!(there == wanted, "after an update {key} is {there:?}, applied was {wanted:?}");
        }
    }
    Ok(())
}

pub(super) async fn what_is_excluded_stays(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().excludes?;
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let paths = vec![JsonPointer::parse("/data/free").or_broken("the kit has no pointer")?];
    let drift_exclusions = vec![DriftExclusion { paths, target: None }];
    let policy = Arc::new(Policy { drift_exclusions, ..Policy::default() });
    let apply = async |texts: &[(&str, &str)], inventory: Vec<_>| {
        let object = fixture.object(&name, texts);
        let asks = rig.asks(&work, std::slice::from_ref(&object))?;
        let asks = ApplyRequest { policy: Arc::clone(&policy), inventory, ..asks };
        let placed = remember(&object, rig.send(asks).await?.remove(0))?;
        let found = fixture.read(&id(&object)?).await.or_broken("what is Applied is not there")?;
        Ok::<_, Finding>((placed, found))
    };
    let (placed, found) = apply(&[("free", "1"), ("ours", "1")], vec![]).await?;
    fixture.put(&with_text(&found, "free", "theirs")).await;
    let (_, found) = apply(&[("free", "2"), ("ours", "2")], vec![placed]).await?;
    let texts = [text(&found, "free"), text(&found, "ours")];
    let right = texts == [Some("theirs"), Some("2")];
    holds!(right, "the excluded and the other text are {texts:?}, not what somebody put there and what was applied");
    Ok(())
}

pub(super) async fn what_is_as_it_should_be_stays_as_it_is(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, object) = (rig.work("a"), fixture.object(&rig.name("a"), &[("text", "1")]));
    let first = rig.place(&work, &object, &[]).await?;
    // The first write after it was made may settle who owns its fields.
    let placed = rig.place(&work, &object, std::slice::from_ref(&first)).await?;
    let before = fixture.read(&id(&object)?).await;
    let again = rig.place(&work, &object, std::slice::from_ref(&placed)).await?;
    let after = fixture.read(&id(&object)?).await;
    holds!(before == after, "applied again without a change it was {before:?}, and is {after:?}");
    let same = again.uid == first.uid && again.print == placed.print;
    holds!(same, "applied again without a change it is said to be {again:?}, and was {placed:?}");
    // Also for one who forgot that it was there: its mark tells.
    let found = rig.place(&work, &object, &[planned(&object)?]).await?;
    holds!(found.uid == first.uid, "what carries the mark was made anew");
    Ok(())
}

pub(super) async fn a_preview_changes_nothing(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let object = fixture.object(&name, &[("text", "1")]);
    let preview = async |object: &serde_json::Value, inventory: Vec<_>| {
        let asks = rig.asks(&work, std::slice::from_ref(object))?;
        Ok::<_, Finding>(rig.send(ApplyRequest { mode: Mode::Preview, inventory, ..asks }).await?.remove(0))
    };
    let would = preview(&object, vec![]).await?;
    holds!(would == Outcome::Would(Change::Create), "the preview of what is not there is {would:?}");
    holds!(fixture.read(&id(&object)?).await.is_none(), "a preview made an object");
    let placed = rig.place(&work, &object, &[]).await?;
    let placed = rig.place(&work, &object, &[placed]).await?;
    let before = fixture.read(&id(&object)?).await;
    let would = preview(&object, vec![placed.clone()]).await?;
    holds!(would == Outcome::Would(Change::Nothing), "the preview of what is as it should be is {would:?}");
    let changed = fixture.object(&name, &[("text", "2")]);
    let would = preview(&changed, vec![placed.clone()]).await?;
    let update = matches!(would, Outcome::Would(Change::Update { .. }));
    holds!(update, "the preview of a change is {would:?}");
    let would = rig.take(&work, std::slice::from_ref(&placed), Mode::Preview).await?.remove(0);
    holds!(would == Outcome::Would(Change::Delete), "the preview of a removal is {would:?}");
    let after = fixture.read(&id(&object)?).await;
    holds!(before == after, "previews changed {before:?} to {after:?}");
    Ok(())
}

pub(super) async fn outcomes_are_in_the_order_of_what_was_asked(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let objects = ["c", "a", "d", "b"].map(|name| fixture.object(&rig.name(name), &[("name", name)]));
    let mut items = Vec::new();
    for object in [&objects[1], &objects[3]] {
        items.push(rig.place(&work, object, &[]).await?);
    }
    let asks = rig.asks(&work, &objects)?;
    let outcomes = rig.send(ApplyRequest { inventory: items.clone(), ..asks }).await?;
    let all: Vec<_> = objects.iter().zip(outcomes).map(|(object, outcome)| remember(object, outcome)).collect::<Result<_, _>>()?;
    for item in &items {
        let known = all.iter().find(|it| it.object == item.object).and_then(|it| it.uid.as_ref());
        holds!(known == item.uid.as_ref(), "the outcome of {} has the UID {known:?}, it was {:?}", item.object, item.uid);
    }
    // Two are somebody else's by now, as far as their UIDs tell.
    let outcomes = rig.take(&work, &all, Mode::Preview).await?;
    let all_would = outcomes.iter().all(|outcome| *outcome == Outcome::Would(Change::Delete));
    holds!(all_would, "the previews of removing four objects are {outcomes:?}");
    fixture.delete(&all[2].object).await;
    let outcomes = rig.take(&work, &all, Mode::Preview).await?;
    let gone: Vec<_> = outcomes.iter().map(|outcome| *outcome == Outcome::Would(Change::Delete)).collect();
    holds!(gone == [true, true, false, true], "the third of four objects is gone, their removals are {outcomes:?}");
    Ok(())
}

pub(super) async fn a_failure_keeps_no_other_from_being_tried(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let refused = fixture.refused(&rig.name("refused"))?;
    let (before, after) = (fixture.object(&rig.name("before"), &[]), fixture.object(&rig.name("later"), &[]));
    let asks = rig.asks(&work, &[before.clone(), refused.clone(), after.clone()])?;
    let outcomes = rig.send(asks).await?;
    let right = matches!(&outcomes[..], [Outcome::Applied(_), Outcome::Rejected { .. }, Outcome::Applied(_)]);
    holds!(right, "of three objects the second is refused: {outcomes:?}");
    for object in [before, after] {
        holds!(fixture.read(&id(&object)?).await.is_some(), "what is Applied is not there");
    }
    Ok(())
}

pub(super) async fn a_conflict_holds_up_the_rest(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let [theirs, ours] = ["a", "b"].map(|name| fixture.object(&rig.name(name), &[]));
    fixture.put(&theirs).await;
    let asks = rig.asks(&work, &[theirs, ours.clone()])?;
    let outcomes = rig.send(asks.clone()).await?;
    let right = matches!(&outcomes[..], [Outcome::Conflict { .. }, Outcome::Waiting { .. }]);
    holds!(right, "the first of two objects is somebody else's: {outcomes:?}");
    holds!(fixture.read(&id(&ours)?).await.is_none(), "what is Waiting was made");
    let policy = Arc::new(Policy { continue_on_conflict: true, ..Policy::default() });
    let outcomes = rig.send(ApplyRequest { policy, ..asks }).await?;
    let right = matches!(&outcomes[..], [Outcome::Conflict { .. }, Outcome::Applied(_)]);
    holds!(right, "the first is somebody else's, and the policy says to go on: {outcomes:?}");
    Ok(())
}

pub(super) async fn it_returns_by_the_deadline(fixture: &impl Fixture) -> Verdict {
    const DEADLINE: Duration = Duration::from_secs(1);
    /// A busy machine is slow to see that time is up.
    const GRACE: Duration = Duration::from_secs(2);
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let placed = rig.place(&work, &fixture.object(&name, &[("text", "1")]), &[]).await?;
    fixture.break_off().await?;
    let changed = fixture.object(&name, &[("text", "2")]);
    let asks = rig.asks(&work, std::slice::from_ref(&changed))?;
    let begun = Instant::now();
    let sent = rig.send(ApplyRequest { deadline: DEADLINE, inventory: vec![placed], ..asks });
    let sent = tokio::time::timeout(DEADLINE + GRACE, sent).await;
    fixture.mend().await;
    let outcome = sent.or_broken(&format!("asked to return within {DEADLINE:?} it did not within {:?}", begun.elapsed()))??.remove(0);
    let right = matches!(outcome, Outcome::Unknown { .. } | Outcome::Retry { .. } | Outcome::Waiting { .. });
    holds!(right, "the cluster is out of reach, and applying came to {outcome:?}");
    Ok(())
}
