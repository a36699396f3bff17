//! What is asked of a server and made of its answers, as it answers one way or another. In virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use fleet_core::selector::LabelSelector;
use fleet_core::source::{EventSource, Live, SourceItem};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use http::{Response, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::*;
use crate::client::ClusterClient;
use crate::clusters::Clusters;

type Answer = (u16, Vec<Value>, bool);

/// An API server that notes what it is asked: path, and what is accepted.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<(String, String)>>>,
    /// Answers to lists, in order; the last goes on.
    lists: Arc<Mutex<Vec<(u16, Value)>>>,
    /// Lines that each watch tells before it stands still.
    watched: Arc<Mutex<Vec<Value>>>,
    /// Nothing may be listed in this namespace.
    closed: Arc<Mutex<Option<&'static str>>>,
}

impl Server {
    fn listing(lists: Vec<(u16, Value)>) -> Self {
        Self { lists: Arc::new(Mutex::new(lists)), ..Self::default() }
    }

    fn watches(self, lines: Vec<Value>) -> Self {
        *self.watched.lock().unwrap() = lines;
        self
    }

    fn answer(&self, path: &str) -> Answer {
        if path.starts_with("/api/v1?") {
            let kinds =
                json!({"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": true}]});
            return (200, vec![kinds], false);
        }
        if path.contains("watch=true") {
            return (200, std::mem::take(&mut *self.watched.lock().unwrap()), true);
        }
        let closed = self.closed.lock().unwrap().map(|namespace| format!("/namespaces/{namespace}/"));
        if closed.is_some_and(|closed| path.contains(&closed)) {
            return (403, vec![json!({"kind": "Status", "code": 403, "message": "it is forbidden"})], false);
        }
        let mut lists = self.lists.lock().unwrap();
        let (status, list) = if lists.len() > 1 { lists.remove(0) } else { lists[0].clone() };
        (status, vec![list], false)
    }

    fn clusters(&self) -> Arc<Clusters> {
        let server = self.clone();
        let client = ClusterClient::scripted(move |request| {
            let path = request.uri().path_and_query().unwrap().to_string();
            let accept = request.headers()[header::ACCEPT].to_str().unwrap().to_owned();
            let (status, lines, stands) = server.answer(&path);
            server.asked.lock().unwrap().push((path, accept));
            let lines: Vec<_> =
                lines.into_iter().map(|line| Ok(Frame::data(Bytes::from(format!("{line}\n"))))).collect();
            let lines = stream::iter(lines);
            let body: BoxStream<'static, Result<Frame<Bytes>, std::io::Error>> =
                if stands { lines.chain(stream::pending()).boxed() } else { lines.boxed() };
            let response = Response::builder().status(status).body(StreamBody::new(body)).unwrap();
            async move { Ok(response) }
        });
        Arc::new(Clusters::scripted(cluster(), client))
    }

    fn asked(&self, part: &str) -> Vec<(String, String)> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(path, _)| path.contains(part)).cloned().collect()
    }
}

fn cluster() -> ClusterId {
    ClusterId::new("civo", "one").unwrap()
}

fn object(name: &str, labels: Value, data: Value) -> Value {
    let managed = json!([{"manager": "kubectl"}]);
    json!({"metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7",
        "labels": labels, "managedFields": managed}, "data": data})
}

fn page(objects: &[Value], next: &str) -> (u16, Value) {
    (200, json!({"metadata": {"resourceVersion": "9", "continue": next}, "items": objects}))
}

fn selector(rules: &[&str]) -> Selector {
    Selector {
        kind: Gvk { group: "".into(), version: "v1".into(), kind: "ConfigMap".into() },
        namespace: None,
        name: None,
        labels: LabelSelector::everything(),
        rules: rules.iter().map(|rule| Rule::new("rule", rule).unwrap()).collect(),
    }
}

fn selection(selector: Selector, content: bool) -> Arc<Selection> {
    Arc::new(Selection { selectors: vec![selector], content })
}

struct Read {
    source: ObjectSource,
    items: BoxStream<'static, SourceItem>,
}

impl Read {
    async fn of(watches: &Arc<KindWatches>, name: &str, selection: Arc<Selection>) -> Self {
        let source = ObjectSource::new(name, cluster(), selection, Arc::clone(watches));
        let items = source.open(Vec::new()).await.unwrap();
        Self { source, items }
    }

    async fn start(server: &Server, selection: Arc<Selection>) -> Self {
        Self::of(&Arc::new(KindWatches::new(server.clusters())), "maps", selection).await
    }

    /// What comes within a time, but for how it goes.
    async fn told(&mut self, within: Duration) -> Vec<String> {
        let mut told = Vec::new();
        let until = tokio::time::Instant::now() + within;
        while let Ok(Some(item)) = tokio::time::timeout_at(until, self.items.next()).await {
            match item {
                SourceItem::Delivery(delivery) => {
                    let event = delivery.event.unwrap();
                    let how = event.ty().rsplit('.').next().unwrap().to_owned();
                    told.push(format!("{how} {}", event.subject().unwrap()));
                    delivery.settle.ack().now_or_never().unwrap().unwrap();
                }
                SourceItem::Snapshot(snapshot) => {
                    assert_eq!(snapshot.origin, Some(cluster()), "of other clusters it says nothing");
                    told.push(match snapshot.live {
                        Live::Subjects { source, subjects } => format!("{source} has {subjects:?}"),
                        Live::Sources(sources) => format!("only {sources:?}"),
                    });
                }
                SourceItem::Status(_) => {}
                other => panic!("{other:?}"),
            }
        }
        told
    }

    async fn until_said(&mut self, reason: &str) -> String {
        let said = async {
            loop {
                if let Some(SourceItem::Status(status)) = self.items.next().await
                    && status.reason == reason
                {
                    return status.message;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(300), said).await.expect("it is never said")
    }
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn all_is_listed_then_watched_and_only_what_matches_is_told() {
    let moved = |name: &str, team: &str| json!({"type": "MODIFIED", "object": object(name, json!({"team": team}), json!({}))});
    let mut status = moved("a", "x");
    status["object"]["metadata"]["resourceVersion"] = json!("12");
    let mut going = moved("e", "x");
    going["object"]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let lines = vec![
        status,
        moved("b", "x"),
        moved("b", "y"),
        moved("b", "z"),
        json!({"type": "DELETED", "object": object("a", json!({"team": "x"}), json!({}))}),
        json!({"type": "DELETED", "object": object("b", json!({"team": "z"}), json!({}))}),
        moved("e", "x"),
        going,
    ];
    let of = |name: &str, team: &str| object(name, json!({"team": team}), json!({}));
    let server =
        Server::listing(vec![page(&[of("a", "x"), of("b", "y")], "more"), page(&[of("c", "x")], "")])
            .watches(lines);
    let labels = LabelSelector::labels([("team", "x")]).unwrap();
    let mut read = Read::start(&server, selection(Selector { labels, ..selector(&[]) }, false)).await;
    let told = read.told(SOON).await;
    let live = r#"/api/v1/configmaps has {"default/a", "default/c"}"#;
    let expected = [
        "live default/a",
        "live default/c",
        live,
        r#"only {"/api/v1/configmaps"}"#,
        // Another version of "a" that says nothing new is not told.
        "live default/b",
        "gone default/b",
        "gone default/a",
        "live default/e",
        "gone default/e",
    ];
    assert_eq!(told, expected);
}

/// Invariant 11: a list that ends in the middle says nothing of what it did not come to.
#[tokio::test(start_paused = true)]
async fn a_list_that_fails_or_is_partial_deletes_nothing() {
    let one = object("a", json!({}), json!({}));
    let error = json!({"kind": "Status", "code": 500, "message": "etcd is away"});
    let forbidden = json!({"kind": "Status", "code": 403, "message": "configmaps is forbidden"});
    let vanishes = object("vanishes", json!({}), json!({}));
    let server = Server::listing(vec![
        page(&[one.clone(), vanishes], "more"),
        (500, error),
        (403, forbidden),
        page(&[one], ""),
    ]);
    let mut read = Read::start(&server, selection(selector(&[]), false)).await;
    let mut told = Vec::new();
    while !told.iter().any(|it: &String| it.contains(" has ")) {
        assert!(server.asked("limit=").len() <= 4, "{told:?}");
        told.extend(read.told(Duration::from_millis(100)).await);
    }
    let complete = told.iter().position(|it| it.contains(" has ")).unwrap();
    assert!(server.asked("limit=").len() == 4, "not before the list that was complete");
    assert_eq!(
        told[complete], r#"/api/v1/configmaps has {"default/a"}"#,
        "what it began with counts no more"
    );
}

/// What was there before is not live because of that.
#[tokio::test(start_paused = true)]
async fn a_new_list_is_all_that_is_live_also_if_somebody_reads_more_than_before() {
    let of = |name: &str| object(name, json!({}), json!({}));
    let within = Selector { namespace: Some("default".into()), ..selector(&[]) };
    let server = Server::listing(vec![
        page(&[of("a"), of("b"), of("c")], ""),
        page(&[of("a"), of("b")], ""),
        page(&[of("a")], ""),
    ]);
    let watches = Arc::new(KindWatches::new(server.clusters()));
    let mut read = Read::of(&watches, "one", selection(within, false)).await;
    read.told(SOON).await;
    read.source.tell_again();
    let told = read.told(SOON).await;
    assert_eq!(told.last().unwrap(), r#"/api/v1/configmaps has {"default/a", "default/b"}"#);
    // From now on all namespaces are read in one go.
    let mut all = Read::of(&watches, "all", selection(selector(&[]), false)).await;
    for told in futures::future::join_all([&mut read, &mut all].map(|read| read.told(SOON))).await {
        assert!(told.contains(&r#"/api/v1/configmaps has {"default/a"}"#.to_owned()), "{told:?}");
    }
    let asked = server.asked("limit=");
    assert!(asked[1].0.contains("/namespaces/default/") && !asked[2].0.contains("/namespaces/"), "{asked:?}");
}

/// Invariant 3: whoever does not take what is told holds the others up once, and is told all when it is back.
#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_keep_up_is_left_behind_and_joins_again() {
    let objects: Vec<Value> =
        (0..1000).map(|number| object(&format!("n{number}"), json!({}), json!({}))).collect();
    let server = Server::listing(vec![page(&objects, "")]);
    let watches = Arc::new(KindWatches::new(server.clusters()));
    let mut slow = Read::of(&watches, "slow", selection(selector(&[]), false)).await;
    assert_eq!(slow.told(Duration::from_millis(1)).await, [""; 0]);
    let mut read = Read::of(&watches, "one", selection(selector(&[]), false)).await;
    assert_eq!(read.told(Duration::from_secs(30)).await.len(), 1000 + 2);
    let told = slow.told(Duration::from_secs(30)).await;
    assert!(told.iter().any(|it| it.contains(" has ")) && told.len() >= 1000, "{}", told.len());
}

/// Invariant 11: what is listed in one namespace says nothing of another.
#[tokio::test(start_paused = true)]
async fn nothing_is_told_of_a_kind_before_all_of_its_namespaces_are_listed() {
    let server = Server::listing(vec![page(&[], "")]);
    let within = |namespace: &str| Selector { namespace: Some(namespace.into()), ..selector(&[]) };
    let both = Selection { selectors: vec![within("one"), within("two")], content: false };
    *server.closed.lock().unwrap() = Some("two");
    let mut read = Read::start(&server, Arc::new(both)).await;
    assert_eq!(read.told(Duration::from_secs(600)).await, [""; 0]);
    assert!(!server.asked("/namespaces/one/").is_empty());
    *server.closed.lock().unwrap() = None;
    let complete = ["/api/v1/configmaps has {}", r#"only {"/api/v1/configmaps"}"#];
    assert_eq!(read.told(Duration::from_secs(600)).await, complete);
    // All is listed anew, and again one of them cannot be.
    *server.closed.lock().unwrap() = Some("one");
    read.source.tell_again();
    assert_eq!(read.told(Duration::from_secs(600)).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_named() {
    let message =
        r#"configmaps is forbidden: User "x" cannot list resource "configmaps" at the cluster scope"#;
    let forbidden = json!({"kind": "Status", "code": 403, "message": message});
    let server = Server::listing(vec![(403, forbidden), page(&[], "")]);
    let mut read = Read::start(&server, selection(selector(&[]), false)).await;
    let said = read.until_said("Forbidden").await;
    assert!(said.contains(message) && said.contains("list and watch"), "{said}");
    assert_eq!(read.until_said("Connected").await, "watching ConfigMap (v1)");
}

/// One watch for all that read a kind, of no more than they need together.
#[tokio::test(start_paused = true)]
async fn readers_share_a_watch_that_is_no_deeper_than_they_need() {
    let server = Server::listing(vec![page(&[object("a", json!({}), json!({"k": "v"}))], "")]);
    let watches = Arc::new(KindWatches::new(server.clusters()));
    let by_name = selection(selector(&["resource.metadata.name != 'b'"]), false);
    let mut readers = Vec::new();
    for name in ["one", "two", "three"] {
        readers.push(Read::of(&watches, name, Arc::clone(&by_name)).await);
    }
    for told in futures::future::join_all(readers.iter_mut().map(|read| read.told(SOON))).await {
        assert_eq!(told[0], "live default/a");
    }
    let (lists, opened) = (server.asked("limit="), server.asked("watch=true"));
    assert_eq!((lists.len(), opened.len()), (1, 1));
    assert!(lists[0].1.contains("as=PartialObjectMetadataList"), "{lists:?}");
    assert!(opened[0].1.contains("as=PartialObjectMetadata;"), "{opened:?}");

    // Somebody looks at content: then it is read whole, once, and the others are told nothing new.
    let by_content = selection(selector(&["resource.data.k == 'v'"]), false);
    readers.push(Read::of(&watches, "four", by_content).await);
    let told = futures::future::join_all(readers.iter_mut().map(|read| read.told(SOON))).await;
    assert!(told[..3].iter().flatten().all(|it| it.contains(" has ")), "{told:?}");
    assert_eq!(told[3][0], "live default/a");
    let (lists, opened) = (server.asked("limit="), server.asked("watch=true"));
    assert_eq!((lists.len(), opened.len()), (2, 2));
    assert_eq!((lists[1].1.as_str(), opened[1].1.as_str()), ("application/json", "application/json"));
}

/// An object of which a rule cannot tell is neither brought in nor taken away.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_left_as_it_was() {
    let of = |name: &str, replicas: Value| object(name, json!({}), json!({"replicas": replicas}));
    let change = json!({"type": "MODIFIED", "object": of("a", json!("many"))});
    // What is not there is not more than two.
    let without = object("d", json!({}), json!({}));
    let all = [of("a", json!(3)), of("b", json!("many")), of("c", json!(1)), without];
    let server = Server::listing(vec![page(&all, "")]).watches(vec![change]);
    let mut read = Read::start(&server, selection(selector(&["resource.data.replicas > 2"]), false)).await;
    let told = read.told(SOON).await;
    let live = r#"/api/v1/configmaps has {"default/a", "default/b"}"#;
    assert_eq!(told, ["live default/a", live, r#"only {"/api/v1/configmaps"}"#]);
    let mut another = Read::start(&server, selection(selector(&["resource.data.replicas > 2"]), false)).await;
    let said = another.until_said("ExpressionFailed").await;
    assert!(
        said.contains("rule rule of resourceSelectors") && said.contains("ConfigMap default/b"),
        "{said}"
    );
    // Another selector may well tell.
    let named = Selector { name: Some("b".into()), ..selector(&[]) };
    let selectors = vec![selector(&["resource.data.replicas > 2"]), named];
    let mut either = Read::start(&server, Arc::new(Selection { selectors, content: false })).await;
    assert_eq!(either.told(SOON).await[..2], ["live default/a", "live default/b"]);
}

/// Each selector by itself: what one says of namespace and name holds for that one.
#[tokio::test(start_paused = true)]
async fn selectors_of_a_kind_choose_in_their_own_namespaces() {
    let of = |namespace: &str, name: &str| {
        let mut object = object(name, json!({}), json!({}));
        object["metadata"]["namespace"] = json!(namespace);
        object
    };
    let named = |namespace: &str, name: &str| Selector {
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        ..selector(&[])
    };
    let all = [of("one", "a"), of("one", "b"), of("two", "a")];
    let server = Server::listing(vec![page(&all, "")]);
    let watches = Arc::new(KindWatches::new(server.clusters()));
    let selectors = vec![named("one", "a"), named("two", "b")];
    let both = Arc::new(Selection { selectors, content: false });
    let third = selection(named("three", "a"), false);
    let mut readers = [Read::of(&watches, "both", both).await, Read::of(&watches, "third", third).await];
    let told = futures::future::join_all(readers.iter_mut().map(|read| read.told(SOON))).await;
    let live = |told: &[String]| told.iter().find(|it| it.contains(" has ")).cloned().unwrap_or_default();
    let expected = [r#"/api/v1/configmaps has {"one/a"}"#, "/api/v1/configmaps has {}"];
    assert_eq!([live(&told[0]), live(&told[1])], expected);
    // One watch of each namespace, and of no other.
    let mut asked: Vec<String> = server.asked("limit=").into_iter().map(|it| it.0).collect();
    asked.sort();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|path| path.contains("/namespaces/")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_is_told_again_and_so_is_all_when_somebody_asks() {
    for is_dropped in [false, true] {
        let server = Server::listing(vec![page(&[object("a", json!({}), json!({}))], "")]);
        let mut read = Read::start(&server, selection(selector(&[]), false)).await;
        let unsettled = loop {
            if let Some(SourceItem::Delivery(delivery)) = read.items.next().await {
                break delivery.settle;
            }
        };
        read.told(SOON).await;
        match is_dropped {
            true => drop(unsettled),
            false => unsettled.give_back(Duration::from_secs(2)).await.unwrap(),
        }
        let told = read.told(SOON).await;
        assert_eq!(told, ["live default/a", r#"/api/v1/configmaps has {"default/a"}"#]);
        read.source.tell_again();
        assert_eq!(read.told(SOON).await, told);
        assert_eq!(read.told(Duration::from_secs(60)).await, [""; 0]);
    }
}

/// Invariant 10, and what would render anew without need.
#[tokio::test(start_paused = true)]
async fn events_hold_what_was_asked_for_and_show_nothing() {
    let mut one = object("a", json!({}), json!({"password": "hunter2"}));
    one["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "note": "x"});
    for content in [false, true] {
        let server = Server::listing(vec![page(std::slice::from_ref(&one), "")]);
        let mut read = Read::start(&server, selection(selector(&[]), content)).await;
        let delivery = loop {
            if let Some(SourceItem::Delivery(delivery)) = read.items.next().await {
                break delivery;
            }
        };
        assert!(!format!("{delivery:?}").contains("hunter2"));
        let event = delivery.event.unwrap();
        assert_eq!(event.ty(), "dev.fleet-events.resource.configmap.live");
        assert_eq!((event.source(), event.id()), ("/api/v1/configmaps", "uid-a/7"));
        let mut expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default",
            "name": "a", "uid": "uid-a", "labels": {}, "annotations": {"note": "x"}}});
        if content {
            expected["data"] = json!({"password": "hunter2"});
        }
        assert_eq!(Value::Object(event.resource().unwrap().clone()), expected);
        assert!(content || !String::from_utf8_lossy(&delivery.raw).contains("hunter2"));
    }
}
