//! What becomes of an object at the hub, as the engine settles its event. In virtual time.

use std::collections::BTreeSet;

use fleet_core::source::{Delivery, EventSource as _, SourceItem};
use http::Response;
use http_body_util::Full;
use serde_json::Value;
use tokio::time::timeout;

use super::*;

/// A hub where the agent of a cluster has handed on these events, in this order.
struct Hub {
    relayed: Relayed,
    items: BoxStream<'static, SourceItem>,
}

fn event(subject: &str, sequence: usize) -> Value {
    json!({
        "apiVersion": "fleet-events.dev/v1alpha1", "kind": "RelayedEvent",
        "metadata": {"namespace": "prod1", "name": subject, "uid": format!("uid-{subject}")},
        "spec": {"source": "users", "event": {"position": format!("s@1.{sequence}"),
            "published": format!("2026-01-01T00:00:{sequence:02}Z"), "message": {"subject": subject}, "body": ""}},
    })
}

impl Hub {
    async fn with(subjects: &'static [&'static str]) -> Self {
        let client = ClusterClient::scripted(move |request| {
            let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
            let sequence = subjects.iter().position(|subject| *subject == name).unwrap() + 1;
            let body = Full::new(Bytes::from(event(&name, sequence).to_string()));
            async move { Ok(Response::new(body)) }
        });
        let relayed = Relayed::new(client);
        let cluster = ClusterId::new("prod1", "c1").unwrap();
        let decode: Decode = Arc::new(|message, _| {
            Event::builder("1", "auth", "login").subject(&message.subject).build().map_err(|_| unreachable!())
        });
        let items = relayed.feed("users", &cluster, decode).open(Vec::new()).await.unwrap();
        let mut listed = BTreeSet::new();
        let objects = subjects.iter().zip(1..).map(|(subject, place)| event(subject, place));
        let objects = objects.map(|object| Seen::InitApply(serde_json::from_value(object).unwrap()));
        for seen in [Seen::Init].into_iter().chain(objects).chain([Seen::InitDone]) {
            relayed.shared.take(Ok(seen), &mut listed);
        }
        Self { relayed, items }
    }

    /// What is delivered next, within an hour.
    async fn next(&mut self) -> Option<Delivery> {
        let next = async {
            loop {
                if let SourceItem::Delivery(delivery) = self.items.next().await? {
                    return Some(delivery);
                }
            }
        };
        timeout(Duration::from_secs(3600), next).await.ok().flatten()
    }

    /// Which objects are to be deleted now.
    fn due(&self) -> Vec<String> {
        self.relayed.shared.lock().due(8).into_iter().map(|(_, name, _)| name).collect()
    }
}

fn sequence(delivery: &Delivery) -> u64 {
    delivery.position.as_ref().unwrap().sequence
}

#[tokio::test(start_paused = true)]
async fn an_object_goes_once_its_event_is_settled_and_not_before() {
    let mut hub = Hub::with(&["anna", "berta", "carla", "dora"]).await;
    let mut delivered = Vec::new();
    for expected in 1..=4 {
        let delivery = hub.next().await.unwrap();
        assert_eq!(sequence(&delivery), expected, "in order");
        assert_eq!(delivery.origin.as_ref().unwrap().to_string(), "prod1/c1");
        delivered.push(delivery.settle);
    }
    assert_eq!(hub.due(), [""; 0], "none is stored yet");
    let mut delivered = delivered.into_iter();
    delivered.next().unwrap().ack().await.unwrap();
    delivered.next().unwrap().give_back(Duration::from_secs(60)).await.unwrap();
    drop(delivered.next().unwrap());
    delivered.next().unwrap().terminate("it is none").await.unwrap();
    assert_eq!(hub.due(), ["anna", "dora"]);
    // What was not taken comes again, and is still there.
    let again = [hub.next().await.unwrap(), hub.next().await.unwrap()];
    assert_eq!(again.each_ref().map(sequence), [3, 2]);
    assert_eq!(hub.due(), [""; 0]);
    for delivery in again {
        delivery.settle.ack().await.unwrap();
    }
    assert_eq!(hub.due(), ["berta", "carla"]);
    assert!(hub.next().await.is_none());
}

/// No trigger wants it any more: it is not kept for ever, unless the engine is at it.
#[tokio::test(start_paused = true)]
async fn what_nobody_wants_any_more_goes_too() {
    let mut hub = Hub::with(&["anna", "berta"]).await;
    let anna = hub.next().await.unwrap();
    let cluster = ClusterId::new("prod1", "c1").unwrap();
    hub.relayed.keep([&cluster], []);
    assert_eq!(hub.due(), ["berta"]);
    anna.settle.ack().await.unwrap();
    assert_eq!(hub.due(), ["anna"]);
}

/// A list is in no order: how far the agent is may come before what it covers.
#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_all_was_listed() {
    let mut hub = Hub::with(&["anna", "berta"]).await;
    drop([hub.next().await.unwrap(), hub.next().await.unwrap()]);
    let progress = json!({
        "apiVersion": "fleet-events.dev/v1alpha1", "kind": "RelayedEvent",
        "metadata": {"namespace": "prod1", "name": "progress", "uid": "uid-progress"},
        "spec": {"source": "users", "progress": {"floors": ["s@1.9"]}},
    });
    let mut listed = BTreeSet::new();
    let shared = Arc::clone(&hub.relayed.shared);
    let there = |object: Value| Ok(Seen::InitApply(serde_json::from_value(object).unwrap()));
    shared.take(Ok(Seen::Init), &mut listed);
    shared.take(there(progress), &mut listed);
    assert!(timeout(Duration::from_secs(3600), hub.items.next()).await.is_err(), "the list is not complete");
    shared.take(there(event("berta", 2)), &mut listed);
    shared.take(Ok(Seen::InitDone), &mut listed);
    let mut told = Vec::new();
    while let Ok(Some(item)) = timeout(Duration::from_secs(60), hub.items.next()).await {
        match item {
            SourceItem::Delivery(delivery) => {
                told.push(format!("event {}", sequence(&delivery)));
                delivery.settle.ack().await.unwrap();
            }
            SourceItem::Floor(floor) => told.push(format!("floor {}", floor.sequence)),
            _ => {}
        }
    }
    // Somebody deleted the other one; and as long as this one's object is there, it may come again.
    assert_eq!(told, ["event 2", "floor 1"]);
}
