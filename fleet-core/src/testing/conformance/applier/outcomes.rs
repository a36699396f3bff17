//! What is said of each object of a request, and by when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Fixture;
use super::rig::{QUIET, Rig, id, remember, text};
use crate::apply::{ApplyRequest, Change, InventoryItem, Mode, Outcome};
use crate::policy::Policy;
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

/// What is given to a call that gets no answer.
const DEADLINE: Duration = Duration::from_secs(1);

pub(super) async fn outcomes_are_in_the_order_of_what_was_asked(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let objects = ["c", "a", "b"].map(|name| fixture.object(&rig.name(name), &[("name", name)]));
    let known = rig.place(&work, &objects[1], &[]).await?;
    let asks = rig.asks(&work, &objects)?;
    let outcomes = rig.send(ApplyRequest { inventory: vec![known.clone()], ..asks }).await?;
    let all = objects.iter().zip(outcomes).map(|(object, outcome)| remember(object, outcome));
    let all: Vec<InventoryItem> = all.collect::<Result<_, _>>()?;
    let uids: Vec<_> = all.iter().map(|item| item.uid.clone()).collect();
    let same: Vec<_> = uids.iter().map(|uid| *uid == known.uid).collect();
    holds!(
        same == [false, true, false],
        "the second of three objects has the UID {:?}, their outcomes have {uids:?}",
        known.uid
    );
    let last = all.last().or_broken("three objects were applied")?;
    fixture.delete(&last.object).await;
    let outcomes = rig.take(&work, &all, Mode::Preview).await?;
    let gone: Vec<_> = outcomes.iter().map(|outcome| *outcome == Outcome::Would(Change::Delete)).collect();
    holds!(
        gone == [true, true, false],
        "the third of three objects is gone, the previews of their removal are {outcomes:?}"
    );
    Ok(())
}

pub(super) async fn a_failure_keeps_no_other_from_being_tried(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    let refused = fixture.refused(&rig.name("refused"))?;
    let (before, after) = (fixture.object(&rig.name("before"), &[]), fixture.object(&rig.name("later"), &[]));
    let asks = rig.asks(&work, &[before.clone(), refused, after.clone()])?;
    let outcomes = rig.send(asks).await?;
    let right = matches!(&outcomes[..], [Outcome::Applied(_), Outcome::Rejected { .. }, Outcome::Applied(_)]);
    holds!(right, "of three objects the second is refused, and applying them came to {outcomes:?}");
    for object in [before, after] {
        holds!(fixture.read(&id(&object)?).await.is_some(), "what is Applied is not there");
    }
    Ok(())
}

pub(super) async fn a_conflict_holds_up_the_rest(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().holds_up?;
    let rig = Rig::new(fixture).await;
    let work = rig.work("a");
    // Where some go at the same time, those that follow the one in conflict.
    let two = || ["a", "b"].map(|name| fixture.object(&rig.name(name), &[]));
    let [theirs, ours] = fixture.in_order(&rig.name("a")).unwrap_or_else(|_| two());
    fixture.put(&theirs).await;
    let asks = rig.asks(&work, &[theirs, ours.clone()])?;
    let outcomes = rig.send(asks.clone()).await?;
    let right = matches!(&outcomes[..], [Outcome::Conflict { .. }, Outcome::Waiting { .. }]);
    holds!(right, "the first of two objects is somebody else's, and applying them came to {outcomes:?}");
    holds!(fixture.read(&id(&ours)?).await.is_none(), "what is Waiting was made");
    let policy = Arc::new(Policy { continue_on_conflict: true, ..Policy::default() });
    let outcomes = rig.send(ApplyRequest { policy, ..asks }).await?;
    let right = matches!(&outcomes[..], [Outcome::Conflict { .. }, Outcome::Applied(_)]);
    holds!(right, "the first is somebody else's, the policy says to go on, and that came to {outcomes:?}");
    Ok(())
}

pub(super) async fn it_returns_by_the_deadline(fixture: &impl Fixture) -> Verdict {
    /// A busy machine is slow to see that time is up.
    const GRACE: Duration = Duration::from_secs(2);
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let placed = rig.place(&work, &fixture.object(&name, &[("text", "1")]), &[]).await?;
    fixture.break_off().await?;
    let asks = rig.asks(&work, &[fixture.object(&name, &[("text", "2")])])?;
    let begun = Instant::now();
    let asks = ApplyRequest { deadline: DEADLINE, inventory: vec![placed.clone()], ..asks };
    let sent = tokio::time::timeout(DEADLINE + GRACE, rig.send(asks)).await;
    let took = begun.elapsed();
    let begun = Instant::now();
    let items = [placed];
    let removed = rig.take_within(&work, &items, Mode::Write, DEADLINE);
    let removed = tokio::time::timeout(DEADLINE + GRACE, removed).await;
    let removing = begun.elapsed();
    fixture.mend().await;
    sent.or_broken(&format!("asked to apply within {DEADLINE:?} it went on for {took:?}"))??;
    removed.or_broken(&format!("asked to remove within {DEADLINE:?} it went on for {removing:?}"))??;
    Ok(())
}

pub(super) async fn what_is_not_answered_is_unknown(fixture: &impl Fixture) -> Verdict {
    let rig = Rig::new(fixture).await;
    let (work, name) = (rig.work("a"), rig.name("a"));
    let placed = rig.place(&work, &fixture.object(&name, &[("text", "1")]), &[]).await?;
    fixture.break_off().await?;
    let changed = fixture.object(&name, &[("text", "2")]);
    let asks = rig.asks(&work, std::slice::from_ref(&changed))?;
    let asks = ApplyRequest { deadline: DEADLINE, inventory: vec![placed.clone()], ..asks };
    let outcome = rig.send(asks).await?.remove(0);
    fixture.mend().await;
    let open = matches!(outcome, Outcome::Unknown { .. } | Outcome::Retry { .. });
    holds!(open, "what was sent got no answer, and applying came to {outcome:?}");
    if matches!(outcome, Outcome::Retry { .. }) {
        tokio::time::sleep(QUIET).await;
        let there =
            fixture.read(&placed.object).await.or_broken("an object is gone that was only changed")?;
        let there = text(&there, "text");
        holds!(there == Some("1"), "Retry says that it had no effect, and the text is {there:?}");
    }
    // It heals by itself.
    rig.place_in_time(&work, &changed, &[placed]).await.map(drop)
}
