//! When an agent counts as silent.

use super::*;

const AFTER: Duration = Duration::from_secs(40);

fn lease(renewed: Option<&str>) -> Lease {
    let spec = renewed.map(|renewed| json!({"renewTime": renewed}));
    let value = json!({"metadata": {"namespace": "p1", "name": "fleet-agent-one", "annotations": {DIGEST: "d"}}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

fn judged(state: &mut State, now: Instant) -> Option<(bool, bool, &'static str)> {
    let agent = Agent { digest: "d".to_owned(), ..Agent::default() };
    let word = state.leases.get(&("p1".to_owned(), "fleet-agent-one".to_owned()));
    let since = word.and_then(|word| word.heard).or(state.listening);
    let health = agent.judge(word, since.map(|since| since + AFTER), now, AFTER)?;
    Some((health.ready, health.silent, health.reason))
}

#[tokio::test(start_paused = true)]
async fn an_agent_counts_as_silent_by_what_was_heard_and_not_by_its_clock() {
    let mut state = State::default();
    assert_eq!(judged(&mut state, Instant::now()), None, "nobody listens yet");
    // There when we began to listen: it may live, or have died long ago.
    state.take(&lease(Some("2020-01-01T00:00:00.000000Z")));
    state.listening = Some(Instant::now());
    assert_eq!(judged(&mut state, Instant::now()), None);
    tokio::time::advance(AFTER).await;
    assert_eq!(judged(&mut state, Instant::now()), Some((false, true, "AgentSilent")));
    // The same again is no sign of life; another one is, whatever its time.
    state.take(&lease(Some("2020-01-01T00:00:00.000000Z")));
    assert_eq!(judged(&mut state, Instant::now()), Some((false, true, "AgentSilent")));
    state.take(&lease(Some("1999-01-01T00:00:00.000000Z")));
    assert_eq!(judged(&mut state, Instant::now()), Some((true, false, "AgentConnected")));
    tokio::time::advance(AFTER - Duration::from_millis(1)).await;
    assert_eq!(judged(&mut state, Instant::now()), Some((true, false, "AgentConnected")));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(judged(&mut state, Instant::now()), Some((false, true, "AgentSilent")));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_came_is_missing() {
    let mut state = State { listening: Some(Instant::now()), ..State::default() };
    state.take(&lease(None));
    assert_eq!(judged(&mut state, Instant::now()), None);
    tokio::time::advance(AFTER).await;
    assert_eq!(judged(&mut state, Instant::now()), Some((false, true, "AgentMissing")));
    state.take(&lease(Some("2020-01-01T00:00:00.000000Z")));
    assert_eq!(judged(&mut state, Instant::now()), Some((true, false, "AgentConnected")));
}

#[tokio::test(start_paused = true)]
async fn what_is_local_is_told_by_the_names_of_what_asks_for_it() {
    let mut state = State { listening: Some(Instant::now()), ..State::default() };
    state.take(&lease(Some("2020-01-01T00:00:00.000000Z")));
    state.take(&lease(Some("2020-01-01T00:00:10.000000Z")));
    let agent = Agent {
        digest: "d".to_owned(),
        left_out: LeftOut { local: vec!["ClusterProfile/base".into(), "names".into()], ..LeftOut::default() },
        ..Agent::default()
    };
    let word = state.leases.get(&("p1".to_owned(), "fleet-agent-one".to_owned()));
    let health = agent.judge(word, None, Instant::now(), AFTER).unwrap();
    assert_eq!((health.ready, health.reason), (false, "TriggersLeftOut"));
    assert!(health.message.contains("ClusterProfile/base, names"), "{}", health.message);
}
