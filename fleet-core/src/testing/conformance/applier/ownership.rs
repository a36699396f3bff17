//! Whose an object is.

use std::sync::Arc;

use super::Fixture;
use super::rig::{Rig, id, mark, planned, remember, text, with_text};
use crate::apply::{ApplyRequest, Claim, InventoryItem, Mode, Outcome, Owner};
use crate::policy::Policy;
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

pub(super) async fn what_is_applied_is_there_and_marked(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, object) = (rig.work("a"), fixture.object(&rig.name("a"), &[("text", "1")]));
    rig.place(&work, &object, &[]).await?;
    let found = fixture.read(&id(&object)?).await.or_broken("what is Applied is not there")?;
    holds!(text(&found, "text") == Some("1"), "what is Applied has another text: {found}");
    holds!(mark(&found) == Some(work.hash()), "what is Applied has the mark {:?}", mark(&found));
    Ok(())
}

pub(super) async fn what_somebody_made_is_a_conflict(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let theirs = fixture.object(&name, &[("text", "theirs")]);
    fixture.put(&theirs).await;
    let before = fixture.read(&id(&theirs)?).await.or_broken("the fixture put nothing")?;
    let ours = fixture.object(&name, &[("text", "ours")]);
    let of_another = InventoryItem { uid: Some("no such uid".into()), ..planned(&ours)? };
    for inventory in [vec![], vec![planned(&ours)?], vec![of_another.clone()]] {
        let outcome = rig.apply(&work, &ours, &inventory).await?;
        let conflict = matches!(outcome, Outcome::Conflict { owner: Owner::Other(_) });
        holds!(conflict, "applying what somebody else made came to {outcome:?}");
    }
    for item in [planned(&ours)?, of_another] {
        rig.take(&work, &[item], Mode::Write).await?;
    }
    let after = fixture.read(&id(&theirs)?).await;
    holds!(after.as_ref() == Some(&before), "what somebody else made was {before}, and is {after:?}");
    Ok(())
}

pub(super) async fn what_another_work_has_is_a_conflict(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().hands_over?;
    let rig = Rig::new(fixture).await;
    let (first, second, name) = (rig.work("first"), rig.work("second"), rig.name("a"));
    let object = fixture.object(&name, &[("text", "first")]);
    let placed = rig.place(&first, &object, &[]).await?;
    let before = fixture.read(&id(&object)?).await.or_broken("what is Applied is not there")?;
    let other = fixture.object(&name, &[("text", "second")]);
    for inventory in [vec![], vec![placed.clone()]] {
        let outcome = rig.apply(&second, &other, &inventory).await?;
        let conflict = matches!(&outcome, Outcome::Conflict { owner: Owner::Work(mark) } if **mark == *first.hash());
        holds!(conflict, "applying what another Work has came to {outcome:?}");
    }
    rig.take(&second, &[placed], Mode::Write).await?;
    let after = fixture.read(&id(&object)?).await;
    holds!(after.as_ref() == Some(&before), "what another Work has was {before}, and is {after:?}");
    Ok(())
}

pub(super) async fn what_is_claimed_is_taken(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().hands_over?;
    let rig = Rig::new(fixture).await;
    let (loser, winner, name) = (rig.work("loser"), rig.work("winner"), rig.name("a"));
    let old = fixture.object(&name, &[("old", "1")]);
    let of_loser = rig.place(&loser, &old, &[]).await?;
    let new = fixture.object(&name, &[("new", "1")]);
    let claim = |from: &str| -> Result<Claim, Finding> { Ok(Claim { object: id(&new)?, from: from.into() }) };
    let asks = rig.asks(&winner, std::slice::from_ref(&new))?;
    let stranger = vec![claim(rig.work("third").hash())?];
    let outcome = rig.send(ApplyRequest { claims: stranger, ..asks.clone() }).await?.remove(0);
    let conflict = matches!(outcome, Outcome::Conflict { .. });
    holds!(conflict, "an object claimed from one who does not have it came to {outcome:?}");
    let claims = vec![claim(loser.hash())?];
    let outcome = rig.send(ApplyRequest { claims, ..asks }).await?.remove(0);
    let of_winner = remember(&new, outcome)?;
    holds!(of_winner.uid == of_loser.uid, "an object that was taken is another one");
    let found = fixture.read(&id(&new)?).await.or_broken("an object that was taken is not there")?;
    let (mark, texts) = (mark(&found), [text(&found, "old"), text(&found, "new")]);
    holds!(
        mark == Some(winner.hash()) && texts == [None, Some("1")],
        "an object that was taken has the mark {mark:?} and the old and new texts {texts:?}"
    );
    // The loser comes late.
    let outcome = rig.apply(&loser, &old, std::slice::from_ref(&of_loser)).await?;
    let conflict = matches!(outcome, Outcome::Conflict { .. });
    holds!(conflict, "one who lost an object and applies it came to {outcome:?}");
    rig.take(&loser, &[of_loser], Mode::Write).await?;
    let after = fixture.read(&id(&new)?).await;
    holds!(after == Some(found), "one who lost an object changed it to {after:?}");
    Ok(())
}

pub(super) async fn what_was_adopted_is_given_back(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().adopts?;
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    fixture.put(&fixture.object(&name, &[("theirs", "1")])).await;
    let ours = fixture.object(&name, &[("ours", "1")]);
    let asks = rig.asks(&work, std::slice::from_ref(&ours))?;
    let policy = Arc::new(Policy { adopt: true, ..Policy::default() });
    let outcome = rig.send(ApplyRequest { policy: Arc::clone(&policy), ..asks }).await?.remove(0);
    let placed = remember(&ours, outcome)?;
    holds!(placed.adopted, "an object that was there before is not said to be adopted");
    let found = fixture.read(&id(&ours)?).await.or_broken("an adopted object is not there")?;
    holds!(mark(&found) == Some(work.hash()), "an adopted object has the mark {:?}", mark(&found));
    let outcome = rig.remove(&work, &placed).await?;
    holds!(outcome == Outcome::Gone, "giving back came to {outcome:?}");
    let left = fixture.read(&id(&ours)?).await.or_broken("an adopted object was deleted")?;
    holds!(mark(&left).is_none(), "an object that was given back keeps the mark {:?}", mark(&left));
    holds!(text(&left, "ours") == Some("1"), "an object that was given back lost its values: {left}");
    Ok(())
}

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
    Ok(())
}

pub(super) async fn removal_checks_uid_and_mark(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, object) = (rig.work("a"), fixture.object(&rig.name("a"), &[("text", "ours")]));
    let placed = rig.place(&work, &object, &[]).await?;
    // Somebody made another one in its place.
    fixture.delete(&placed.object).await;
    let theirs = with_text(&object, "text", "theirs");
    fixture.put(&theirs).await;
    rig.take(&work, &[placed], Mode::Write).await?;
    let left = fixture.read(&id(&object)?).await;
    let left = left.or_broken("an object of the same name that somebody else made was deleted")?;
    holds!(text(&left, "text") == Some("theirs"), "an object that somebody else made was changed to {left}");
    Ok(())
}
