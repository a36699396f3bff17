//! What never becomes Work: a dead letter with the reason and the original bytes, and nothing else stops.

use std::sync::Arc;

use fleet_core::catalog::{OriginRule, TriggerDef};
use fleet_core::filter::{EventExpression, Filter};
use fleet_core::source::Settled;

use crate::rig::{Rig, Setup, event, login, source, trigger};

async fn refused(rig: &Rig, settled: Settled, reason: &str) -> String {
    let Settled::Terminated(detail) = settled else { panic!("{settled:?}") };
    let letters = rig.store.dead_letters(None, 100).await.unwrap();
    let letter = letters.iter().find(|letter| letter.detail == detail).unwrap();
    assert_eq!(letter.reason, reason);
    assert!(!letter.raw.is_empty());
    // The next event is not held up.
    detail
}

#[tokio::test(start_paused = true)]
async fn an_action_that_is_neither_word_is_refused() {
    let rig = Setup::default().start();
    let settled = rig.source.send(event("auth.other", "x")).await.await;
    let detail = refused(&rig, settled, "ActionInvalid").await;
    assert!(detail.contains("cloudEventAction of EventTrigger names must give Create or Delete"), "{detail}");
    assert!(!detail.contains("auth.other"), "what an event holds is not shown: {detail}");
    assert_eq!(rig.source.send(login("x")).await.await, Settled::Acked);
    rig.until_names("c1", &["x"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_action_or_key_that_fails_is_refused() {
    for (action, key, reason) in [
        (Some("$fail"), None, "ActionInvalid"),
        (Some("$syntax"), None, "ActionInvalid"),
        (None, Some("$fail"), "KeyInvalid"),
        (None, Some("  \n"), "KeyEmpty"),
    ] {
        let setup = Setup::default();
        setup.catalog.edit(|snapshot| {
            let trigger = Arc::make_mut(snapshot.triggers.get_mut("names").unwrap());
            trigger.action = action.map(str::to_owned);
            trigger.key = key.map(str::to_owned);
        });
        let rig = setup.start();
        let settled = rig.source.send(login("x")).await.await;
        refused(&rig, settled, reason).await;
        rig.stop().await;
    }
}

/// What a filter cannot tell is not taken for a no; what it can tell, other triggers still get.
#[tokio::test(start_paused = true)]
async fn a_filter_that_cannot_be_evaluated_is_told() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let names = Arc::clone(&snapshot.triggers["names"]);
        let mut picky = TriggerDef::clone(&names);
        picky.name = "picky".into();
        picky.filter =
            Filter::Cel(EventExpression::new("event.type == 'auth.login' && event.subject > 3").unwrap());
        snapshot.triggers.insert("picky".into(), Arc::new(picky));
    });
    let rig = setup.start();
    assert_eq!(rig.source.send(login("x")).await.await, Settled::Acked);
    rig.until_names("c1", &["x"]).await;
    let letters = rig.store.dead_letters(None, 100).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.reason.as_str(), letter.trigger.as_deref()), ("FilterFailed", Some("picky")));
    assert!(
        letter.detail.starts_with("the filter of EventTrigger picky: the expression"),
        "{}",
        letter.detail
    );
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_large_is_refused() {
    let rig = Setup::default().start();
    let settled = rig.source.send(login(&"x".repeat(3000))).await.await;
    let detail = refused(&rig, settled, "TooLarge").await;
    assert!(detail.contains("maxEventBytes of EventSource users is 2048"), "{detail}");
    rig.stop().await;
}

/// Never "every cluster".
#[tokio::test(start_paused = true)]
async fn a_missing_origin_is_refused() {
    for (rule, expected) in [
        (OriginRule::Extension("cluster".to_owned()), "extension cluster, and the event has none"),
        (
            OriginRule::SubjectTokens { namespace: 1, name: 2 },
            "token 1 of the subject (counted from 0), and there is none",
        ),
    ] {
        let setup = Setup::default();
        setup.catalog.edit(|snapshot| {
            Arc::make_mut(snapshot.sources.get_mut("users").unwrap()).origin = Some(rule.clone());
        });
        let rig = setup.start();
        let settled = rig.source.send(login("x")).await.await;
        let detail = refused(&rig, settled, "OriginMissing").await;
        assert!(detail.contains(expected), "{detail}");
        assert!(rig.names("c1").is_empty() && rig.works().await.is_empty());
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_to_the_cluster_it_came_from() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let source = Arc::make_mut(snapshot.sources.get_mut("users").unwrap());
        source.origin = Some(OriginRule::Fixed(crate::rig::cluster("c2")));
    });
    let rig = setup.start();
    assert_eq!(rig.source.send(login("x")).await.await, Settled::Acked);
    rig.until_names("c2", &["x"]).await;
    // The selector does not select it: a level, so it is Work all the same.
    rig.source.send_from(login("y"), Some(crate::rig::cluster("staging1"))).await.await;
    rig.source.send_from(login("z"), Some(crate::rig::cluster("c1"))).await.await;
    rig.until_names("c1", &["z"]).await;
    assert_eq!(rig.names("c2"), ["x"]);
    assert!(rig.names("staging1").is_empty());
    assert_eq!(rig.works().await.len(), 3);
    rig.clusters.put(crate::rig::labelled("staging1", "production"));
    rig.until_names("staging1", &["y"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_triggers_refusal_is_not_anothers() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let mut broken = trigger();
        broken.name = "broken".into();
        broken.action = Some("$fail".to_owned());
        snapshot.triggers.insert("broken".into(), Arc::new(broken));
    });
    let rig = setup.start();
    assert_eq!(rig.source.send(login("x")).await.await, Settled::Acked);
    rig.until_names("c1", &["x"]).await;
    let letters = rig.store.dead_letters(None, 9).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].trigger.as_deref(), Some("broken"));
    assert_eq!(source().name.as_ref(), letters[0].source);
    rig.stop().await;
}

/// One event that a renderer cannot stand is refused; the source goes on.
#[tokio::test(start_paused = true)]
async fn a_renderer_that_panics_costs_one_event() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).action = Some("$bug$type".to_owned());
    });
    let rig = setup.start();
    let settled = rig.source.send(login("bug")).await.await;
    refused(&rig, settled, "ActionInvalid").await;
    assert_eq!(rig.source.send(login("x")).await.await, Settled::Acked);
    rig.until_names("c1", &["x"]).await;
    rig.stop().await;
}

/// The same once it is Work: it is stored, and stalled.
#[tokio::test(start_paused = true)]
async fn a_renderer_that_panics_over_a_payload_stalls_the_work() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).payload =
            vec![crate::rig::template("$bug$subject")];
    });
    let rig = setup.start();
    assert_eq!(rig.source.send(login("bug")).await.await, Settled::Acked);
    rig.until_states("stalled", |state| {
        matches!(state, fleet_core::work::AppliedState::Stalled { reason, .. } if reason == "TemplateError")
    })
    .await;
    rig.stop().await;
}
