//! Whose an object is.

use std::sync::Arc;

use super::Fixture;
use super::rig::{Rig, id, mark, planned, remember, text, without_mark};
use crate::apply::{ApplyRequest, Change, Claim, InventoryItem, Mode, Outcome, Owner};
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
    let rig = Rig::new(fixture).await;
    let (first, second, name) = (rig.work("first"), rig.work("second"), rig.name("a"));
    let object = fixture.object(&name, &[("text", "first")]);
    let placed = rig.place(&first, &object, &[]).await?;
    let before = fixture.read(&id(&object)?).await.or_broken("what is Applied is not there")?;
    let other = fixture.object(&name, &[("text", "second")]);
    // Had it once: what the object was like after its own last write, nobody knows any more.
    let placed = InventoryItem { version: None, ..placed };
    for inventory in [vec![], vec![placed.clone()]] {
        let outcome = rig.apply(&second, &other, &inventory).await?;
        let conflict =
            matches!(&outcome, Outcome::Conflict { owner: Owner::Work(mark) } if **mark == *first.hash());
        holds!(conflict, "applying what another Work has came to {outcome:?}");
    }
    rig.take(&second, &[placed], Mode::Write).await?;
    let after = fixture.read(&id(&object)?).await;
    holds!(after.as_ref() == Some(&before), "what another Work has was {before}, and is {after:?}");
    Ok(())
}

pub(super) async fn what_is_claimed_is_taken(fixture: &impl Fixture) -> Verdict {
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
    let same = of_winner.uid == of_loser.uid || fixture.abilities().keeps_uids.is_err();
    holds!(same, "an object that was taken is another one");
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

pub(super) async fn what_lost_its_mark_is_ours_by_the_inventory(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().knows_by_uid?;
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let placed = rig.place(&work, &fixture.object(&name, &[("text", "1")]), &[]).await?;
    let found = fixture.read(&placed.object).await.or_broken("what is Applied is not there")?;
    fixture.put(&without_mark(&found)).await;
    let changed = fixture.object(&name, &[("text", "2")]);
    let again = rig.place(&work, &changed, std::slice::from_ref(&placed)).await?;
    let same = again.uid == placed.uid || fixture.abilities().keeps_uids.is_err();
    holds!(same, "what is in the inventory was made anew");
    let found = fixture.read(&placed.object).await.or_broken("what is Applied is not there")?;
    let (mark, there) = (mark(&found), text(&found, "text"));
    let right = mark == Some(work.hash()) && there == Some("2");
    holds!(right, "applied again, what lost its mark has the mark {mark:?} and the text {there:?}");
    Ok(())
}

fn adopting() -> Arc<Policy> {
    Arc::new(Policy { adopt: true, ..Policy::default() })
}

pub(super) async fn what_is_taken_over_has_no_mark(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().adopts?;
    let rig = Rig::new(fixture).await;
    let (first, second, name) = (rig.work("first"), rig.work("second"), rig.name("a"));
    let object = fixture.object(&name, &[("theirs", "1")]);
    fixture.put(&object).await;
    let ours = fixture.object(&name, &[("ours", "1")]);
    let asks = |work| rig.asks(work, std::slice::from_ref(&ours));
    let outcome = rig.send(ApplyRequest { policy: adopting(), ..asks(&first)? }).await?.remove(0);
    let placed = remember(&ours, outcome)?;
    holds!(placed.adopted, "an object that was there before is not said to be adopted");
    let found = fixture.read(&placed.object).await.or_broken("an adopted object is not there")?;
    let (mark, there) = (mark(&found), text(&found, "ours"));
    let right = mark == Some(first.hash()) && there == Some("1");
    holds!(right, "an adopted object has the mark {mark:?} and the text {there:?}");
    let outcome = rig.send(ApplyRequest { policy: adopting(), ..asks(&second)? }).await?.remove(0);
    let conflict =
        matches!(&outcome, Outcome::Conflict { owner: Owner::Work(mark) } if **mark == *first.hash());
    holds!(conflict, "taking over what another Work has came to {outcome:?}");
    Ok(())
}

pub(super) async fn what_was_adopted_is_given_back(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().adopts?;
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    fixture.put(&fixture.object(&name, &[("theirs", "1")])).await;
    let ours = fixture.object(&name, &[("ours", "1")]);
    let asks = rig.asks(&work, std::slice::from_ref(&ours))?;
    let outcome = rig.send(ApplyRequest { policy: adopting(), ..asks }).await?.remove(0);
    let placed = remember(&ours, outcome)?;
    // It stays adopted, whatever the policy says later.
    let changed = fixture.object(&name, &[("ours", "2")]);
    let placed = rig.place(&work, &changed, &[placed]).await?;
    holds!(placed.adopted, "an adopted object that was applied again is not said to be adopted any more");
    let would = rig.take(&work, std::slice::from_ref(&placed), Mode::Preview).await?.remove(0);
    let give_back = would == Outcome::Would(Change::GiveBack);
    holds!(give_back, "the preview of removing an adopted object is {would:?}");
    let outcome = rig.remove(&work, &placed).await?;
    holds!(outcome == Outcome::Gone, "giving back came to {outcome:?}");
    let left = fixture.read(&placed.object).await.or_broken("an adopted object was deleted")?;
    holds!(mark(&left).is_none(), "an object that was given back keeps the mark {:?}", mark(&left));
    let there = text(&left, "ours");
    holds!(there == Some("2"), "an object that was given back has the text {there:?}");
    // It is theirs again.
    let outcome = rig.apply(&work, &ours, &[]).await?;
    let conflict = matches!(outcome, Outcome::Conflict { .. });
    holds!(conflict, "applying what was given back came to {outcome:?}");
    Ok(())
}
