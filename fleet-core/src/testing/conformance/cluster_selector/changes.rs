//! What a feed tells of changes.

use super::Fixture;
use super::follower::{Follower, QUIET, env, labels};
use crate::cluster::{Cluster, ClusterChange, ClusterId};
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

/// How often a feed is opened while something changes.
const ROUNDS: usize = 20;

fn joined(change: &ClusterChange, id: &ClusterId, label: &str) -> bool {
    matches!(change, ClusterChange::Joined(it) if it.id == *id && env(it) == Some(label))
}

pub(super) async fn nothing_falls_between_snapshot_and_changes(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    fixture.put(&c1, labels("before")).await;
    Follower::new(fixture).await?.until_there(1).await?;
    for round in 0..ROUNDS {
        let label = format!("round-{round}");
        let put = fixture.put(&c1, labels(&label));
        // In turns, either begins first.
        let mut follower = match round % 2 {
            0 => futures::join!(Follower::new(fixture), put).0?,
            _ => futures::join!(put, Follower::new(fixture)).1?,
        };
        let what = format!("a change to {c1} while the feed was opened");
        follower.until(&what, |it| it.known.get(&c1).and_then(|it| env(it)) == Some(&label)).await?;
    }
    Ok(())
}

pub(super) async fn each_change_is_told_once(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, _] = fixture.clusters();
    let mut follower = Follower::new(fixture).await?;
    for cluster in [&c1, &c2] {
        fixture.put(cluster, labels("one")).await;
        let change = follower.change().await?;
        holds!(joined(&change, cluster, "one"), "{cluster} was added, told is {change:?}");
    }
    for label in ["two", "three"] {
        fixture.put(&c1, labels(label)).await;
        let change = follower.change().await?;
        let right = matches!(&change, ClusterChange::Relabelled(it) if it.id == c1 && env(it) == Some(label));
        holds!(right, "{c1} was given the label {label}, told is {change:?}");
    }
    fixture.remove(&c1).await;
    let change = follower.change().await?;
    holds!(change == ClusterChange::Left(c1.clone()), "{c1} was removed, told is {change:?}");
    fixture.put(&c1, labels("four")).await;
    let change = follower.change().await?;
    holds!(joined(&change, &c1, "four"), "{c1} was added again, told is {change:?}");
    let more = follower.told_for(QUIET).await?;
    holds!(more.is_empty(), "nothing happened, told is {more:?}");
    Ok(())
}

pub(super) async fn changes_are_told_in_order(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, c3] = fixture.clusters();
    let mut follower = Follower::new(fixture).await?;
    let order = [&c2, &c3, &c1];
    // Nobody reads meanwhile.
    for cluster in order {
        fixture.put(cluster, labels("production")).await;
    }
    for cluster in order {
        let change = follower.change().await?;
        let right = joined(&change, cluster, "production");
        holds!(right, "{order:?} were added in that order, told is {change:?} where {cluster} was expected");
    }
    Ok(())
}

pub(super) async fn one_that_left_and_came_back_is_told_as_such(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, c3] = fixture.clusters();
    for cluster in [&c1, &c2] {
        fixture.put(cluster, labels("one")).await;
    }
    let mut follower = Follower::new(fixture).await?;
    follower.until_there(2).await?;
    // Nobody reads meanwhile.
    for label in ["two", "three"] {
        fixture.put(&c1, labels(label)).await;
    }
    fixture.remove(&c2).await;
    fixture.put(&c2, labels("one")).await;
    fixture.put(&c3, labels("one")).await;
    fixture.remove(&c3).await;
    let mut told = Vec::new();
    loop {
        let more = follower.told_for(QUIET).await?;
        if more.is_empty() && !told.is_empty() {
            break;
        }
        told.extend(more);
    }
    let label = |id| follower.known.get(id).and_then(|it| env(it));
    let sum = (label(&c1), label(&c2), label(&c3));
    holds!(sum == (Some("three"), Some("one"), None), "told is {told:?}, which comes to other clusters");
    let of_c2 = |change: &&ClusterChange| match change {
        ClusterChange::Joined(it) | ClusterChange::Relabelled(it) => it.id == c2,
        ClusterChange::Left(id) => *id == c2,
        _ => false,
    };
    let of_c2: Vec<_> = told.iter().filter(of_c2).collect();
    let both = matches!(of_c2[..], [ClusterChange::Left(_), ClusterChange::Joined(_)]);
    holds!(both, "{c2} left and came back, which is another cluster of that name; told of it is {of_c2:?}");
    Ok(())
}

pub(super) async fn an_unreached_cluster_does_not_leave(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let reach = async |ready: bool| {
        fixture.reach(&Cluster { ready, ..Cluster::new(c1.clone(), labels("production")) }).await
    };
    fixture.put(&c1, labels("production")).await;
    reach(true).await?;
    let mut follower = Follower::new(fixture).await?;
    let is = |it: &Follower, ready: bool| it.known.get(&c1).is_some_and(|it| it.ready == ready);
    follower.until(&format!("that {c1} is reached"), |it| is(it, true)).await?;
    reach(false).await?;
    follower.until(&format!("that {c1} is not reached"), |it| !is(it, true)).await?;
    holds!(is(&follower, false), "{c1} could not be reached, told is that it left");
    let mut later = Follower::new(fixture).await?;
    let found = later.known.get(&c1).or_broken("a cluster that cannot be reached is not in the snapshot")?;
    holds!(!found.ready, "{c1} cannot be reached, and is ready in the snapshot");
    reach(true).await?;
    for follower in [&mut follower, &mut later] {
        follower.until(&format!("that {c1} is reached again"), |it| is(it, true)).await?;
        let more = follower.told_for(QUIET).await?;
        holds!(more.is_empty(), "{c1} could not be reached for a while, told is {more:?}");
    }
    Ok(())
}

pub(super) async fn a_failure_is_no_departure(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, c3] = fixture.clusters();
    let mut follower = Follower::new(fixture).await?;
    for cluster in [&c1, &c2] {
        fixture.put(cluster, labels("production")).await;
    }
    let elsewhere = usize::from(fixture.elsewhere(&c3, Some(labels("production"))).await.is_ok());
    let what = "what is in the inventory";
    follower.until(what, |it| (it.known.len(), it.elsewhere.len()) == (2, elsewhere)).await?;
    fixture.fail().await?;
    let told = follower.told_for(QUIET).await?;
    holds!(told.is_empty(), "the inventory failed, told is {told:?}");
    // Whoever subscribes meanwhile is told all, or waits.
    let waits = tokio::time::timeout(QUIET, Follower::new(fixture)).await;
    if let Ok(Ok(later)) = waits {
        let count = (later.known.len(), later.elsewhere.len());
        holds!(
            count == (2, elsewhere),
            "the inventory failed, a feed opened meanwhile tells of {count:?} clusters"
        );
    }
    fixture.mend().await;
    let told = follower.told_for(QUIET).await?;
    holds!(told.is_empty(), "the inventory is whole again and as it was, told is {told:?}");
    fixture.remove(&c2).await;
    let change = follower.change().await?;
    holds!(change == ClusterChange::Left(c2.clone()), "{c2} was removed, told is {change:?}");
    Ok(())
}

pub(super) async fn what_others_drive_is_told_apart(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let mut follower = Follower::new(fixture).await?;
    for label in ["one", "two"] {
        fixture.elsewhere(&c1, Some(labels(label))).await?;
        let change = follower.change().await?;
        let right = matches!(&change, ClusterChange::Elsewhere(it) if it.id == c1 && env(it) == Some(label));
        holds!(right, "{c1}, with the label {label}, is driven by another operator, told is {change:?}");
    }
    let later = Follower::new(fixture).await?;
    let apart = later.known.is_empty() && later.elsewhere.contains_key(&c1);
    holds!(apart, "{c1} is driven by another operator, and is among {:?} in the snapshot", later.known);
    fixture.elsewhere(&c1, None).await?;
    let change = follower.change().await?;
    let right = change == ClusterChange::NotElsewhere(c1.clone());
    holds!(right, "{c1} is driven by no other operator any more, told is {change:?}");
    Ok(())
}
