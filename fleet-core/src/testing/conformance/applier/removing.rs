//! What becomes of what is removed.

use super::Fixture;
use super::rig::{Rig, id, planned, text};
use crate::apply::{Mode, Outcome};
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

pub(super) async fn removal_takes_what_is_ours(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, object) = (rig.work("a"), fixture.object(&rig.name("a"), &[]));
    let beside = fixture.object(&rig.name("beside"), &[]);
    let placed = rig.place(&work, &object, &[]).await?;
    rig.place(&work, &beside, &[]).await?;
    let outcome = rig.remove(&work, &placed).await?;
    holds!(outcome == Outcome::Gone, "removing what is ours came to {outcome:?}");
    holds!(fixture.read(&id(&object)?).await.is_none(), "what is Gone is still there");
    holds!(fixture.read(&id(&beside)?).await.is_some(), "what nobody asked to remove is gone");
    // Once more, and of what never was.
    let outcome = rig.remove(&work, &placed).await?;
    holds!(outcome == Outcome::Gone, "removing what is gone came to {outcome:?}");
    let never = planned(&fixture.object(&rig.name("never"), &[]))?;
    let outcome = rig.remove(&work, &never).await?;
    holds!(outcome == Outcome::Gone, "removing what never was came to {outcome:?}");
    // Of one whose creation got no answer, nothing but the mark tells.
    rig.place(&work, &object, &[]).await?;
    let outcome = rig.remove(&work, &planned(&object)?).await?;
    holds!(outcome == Outcome::Gone, "removing what was only planned, and is there, came to {outcome:?}");
    holds!(
        fixture.read(&id(&object)?).await.is_none(),
        "what was only planned, and was made, is still there"
    );
    Ok(())
}

pub(super) async fn removal_checks_uid_and_mark(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let object = fixture.object(&name, &[("text", "ours")]);
    let placed = rig.place(&work, &object, &[]).await?;
    // Somebody made another one in its place.
    fixture.delete(&placed.object).await;
    fixture.put(&fixture.object(&name, &[("text", "theirs")])).await;
    let outcome = rig.remove(&work, &placed).await?;
    let left = fixture.read(&id(&object)?).await;
    let left = left.or_broken("an object of the same name that somebody else made was deleted")?;
    let there = text(&left, "text");
    holds!(there == Some("theirs"), "what somebody else made has the text {there:?}");
    holds!(outcome == Outcome::Gone, "what is ours is gone, and removing it came to {outcome:?}");
    Ok(())
}

pub(super) async fn what_others_live_in_is_never_deleted(fixture: &impl Fixture) -> Verdict {
    let object = fixture.lived_in()?;
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let placed = rig.place(&work, &object, &[]).await?;
    let preview = rig.take(&work, std::slice::from_ref(&placed), Mode::Preview).await?;
    let outcome = rig.take(&work, &[placed], Mode::Write).await?;
    let going = match fixture.read(&id(&object)?).await {
        Some(left) => left.pointer("/metadata/deletionTimestamp").is_some(),
        None => true,
    };
    holds!(!going, "what others live in was deleted: {outcome:?}");
    let says = matches!(preview[..], [Outcome::Would(crate::apply::Change::Delete)]);
    holds!(!says, "what others live in is not deleted, and a preview says that it is");
    Ok(())
}

pub(super) async fn what_is_being_deleted_is_waited_for(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let object = fixture.object(&name, &[("text", "1")]);
    let placed = rig.place(&work, &object, &[]).await?;
    fixture.hold(&placed.object).await?;
    let changed = fixture.object(&name, &[("text", "2")]);
    let applied = rig.apply(&work, &changed, std::slice::from_ref(&placed)).await?;
    let removed = rig.take(&work, std::slice::from_ref(&placed), Mode::Write).await?;
    let left = fixture.read(&placed.object).await;
    fixture.let_go(&placed.object).await;
    let waits = matches!(applied, Outcome::Waiting { .. });
    holds!(waits, "an object is being deleted, and applying it came to {applied:?}");
    let waits = matches!(removed[..], [Outcome::Waiting { .. }]);
    holds!(waits, "an object is being deleted, and removing it came to {removed:?}");
    let there = left.as_ref().and_then(|left| text(left, "text"));
    holds!(there == Some("1"), "an object that is being deleted was written to: {left:?}");
    let again = rig.place_in_time(&work, &changed, std::slice::from_ref(&placed)).await?;
    holds!(again.uid != placed.uid, "an object that was deleted came back with the UID it had");
    let outcome = rig.remove(&work, &again).await?;
    holds!(outcome == Outcome::Gone, "removing what came back came to {outcome:?}");
    Ok(())
}
