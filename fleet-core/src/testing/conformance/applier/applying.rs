//! What becomes of what is applied.

use std::sync::Arc;

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
    holds!(
        right,
        "the excluded and the other text are {texts:?}, not what somebody put there and what was applied"
    );
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
    let never = planned(&fixture.object(&rig.name("never"), &[]))?;
    let would = rig.take(&work, &[never], Mode::Preview).await?.remove(0);
    holds!(would == Outcome::Would(Change::Nothing), "the preview of removing what never was is {would:?}");
    let after = fixture.read(&id(&object)?).await;
    holds!(before == after, "previews changed {before:?} to {after:?}");
    // What a write would not do, a preview does not promise.
    let theirs = fixture.object(&rig.name("theirs"), &[]);
    fixture.put(&theirs).await;
    let would = preview(&theirs, vec![]).await?;
    let conflict = matches!(would, Outcome::Conflict { .. });
    holds!(conflict, "the preview of what somebody else made is {would:?}");
    Ok(())
}

pub(super) async fn what_others_need_goes_first(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let [first, second] = fixture.in_order(&rig.name("a"))?;
    let policy = Arc::new(Policy { skip_namespace_creation: true, ..Policy::default() });
    let asks = rig.asks(&work, &[second, first])?;
    let outcomes = rig.send(ApplyRequest { policy, ..asks }).await?;
    let right = matches!(&outcomes[..], [Outcome::Applied(_), Outcome::Applied(_)]);
    holds!(right, "an object, and then what it needs, came to {outcomes:?}");
    Ok(())
}
