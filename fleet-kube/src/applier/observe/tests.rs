//! What is asked of a server, and when, as it answers one way or another. In virtual time.

use std::sync::Mutex;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use http::Response;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::*;
use crate::client::ClusterClient;
use crate::clusters::{Link, Reach};
use crate::follow::Follower;

type Chunks = BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>;

enum Answer {
    /// Said at once.
    Whole(u16, Value),
    /// Lines, and then silence.
    Stands(Vec<Value>),
}
use Answer::{Stands, Whole};

struct Server {
    asked: Arc<Mutex<Vec<(Instant, String)>>>,
    told: BoxStream<'static, Observation>,
    reach: watch::Sender<Reach>,
}

impl Server {
    /// Answers to what is asked after discovery, in order.
    fn answering(answers: Vec<Answer>) -> Self {
        let asked: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let mut answers = VecDeque::from(answers);
        let discovery =
            json!({"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": true}]});
        answers.push_front(Whole(200, discovery));
        let note = Arc::clone(&asked);
        let client = ClusterClient::scripted(move |request| {
            let path = request.uri().path_and_query().unwrap().to_string();
            note.lock().unwrap().push((Instant::now(), path));
            let (status, body): (u16, Chunks) = match answers.pop_front() {
                Some(Whole(status, body)) => {
                    let bytes = Frame::data(Bytes::from(body.to_string()));
                    (status, stream::iter([Ok(bytes)]).boxed())
                }
                Some(Stands(lines)) => {
                    let lines = lines.into_iter().map(|line| Ok(Frame::data(format!("{line}\n").into())));
                    (200, stream::iter(lines.collect::<Vec<_>>()).chain(stream::pending()).boxed())
                }
                None => (200, stream::pending().boxed()),
            };
            let response = Response::builder().status(status).body(StreamBody::new(body)).unwrap();
            async move { Ok(response) }
        });
        let link = Arc::new(Link::new(client));
        let (sender, reach) = watch::channel(Reach { link: Some(link), ready: true });
        let kind = Gvk { group: "".into(), version: "v1".into(), kind: "ConfigMap".into() };
        let observer = Follower::new(
            Arc::new(Clusters::new()),
            ClusterId::new("civo", "one").unwrap(),
            Marked::new(kind, Depth::Metadata),
            Watches::default(),
            reach,
        );
        Self { asked, told: observer.told(), reach: sender }
    }

    /// Runs until so many requests were made, discovery aside.
    async fn until_asked(&mut self, count: usize) -> Vec<(Instant, String)> {
        let asked = Arc::clone(&self.asked);
        loop {
            let so_far = asked.lock().unwrap().clone();
            if so_far.len() > count {
                return so_far[1..].to_vec();
            }
            let _ = timeout(Duration::from_secs(1), self.told.next()).await;
        }
    }
}

fn list(version: &str, next: &str) -> Answer {
    Whole(200, json!({"metadata": {"resourceVersion": version, "continue": next}, "items": []}))
}

fn bookmark(version: &str) -> Value {
    json!({"type": "BOOKMARK", "object": {"kind": "ConfigMap", "metadata": {"resourceVersion": version}}})
}

fn error(code: u16) -> Value {
    json!({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "m"}})
}

fn watches_from(asked: &str, version: &str) -> bool {
    asked.contains("watch=true&allowWatchBookmarks=true")
        && asked.contains(&format!("resourceVersion={version}&"))
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_opened_again_where_it_stood() {
    let answers = vec![list("5", ""), Stands(vec![bookmark("9")]), Stands(Vec::new()), Stands(Vec::new())];
    let mut server = Server::answering(answers);
    let asked = server.until_asked(4).await;
    assert!(asked[0].1.contains("labelSelector=fleet%2Devents%2Edev%2Fwork&limit=500"), "{asked:?}");
    assert!(watches_from(&asked[1].1, "5"), "{asked:?}");
    assert!(watches_from(&asked[2].1, "9") && watches_from(&asked[3].1, "9"), "{asked:?}");
    let silent = asked[2].0 - asked[1].0;
    assert!((180..190).contains(&silent.as_secs()), "{silent:?}");
    // A server that never sends bookmarks is not expected to.
    let stood = asked[3].0 - asked[2].0;
    assert!((360..560).contains(&stood.as_secs()), "{stood:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_is_asked_for_everything_at_once() {
    let gone = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
    let answers = vec![
        list("5", ""),
        Stands(vec![bookmark("9"), error(410)]),
        list("20", ""),
        Whole(410, gone),
        list("30", ""),
    ];
    let mut server = Server::answering(answers);
    let asked = server.until_asked(6).await;
    assert!(asked[2].1.contains("limit=") && asked[4].1.contains("limit="), "{asked:?}");
    assert!(watches_from(&asked[3].1, "20") && watches_from(&asked[5].1, "30"), "{asked:?}");
    assert!(asked[5].0 - asked[0].0 < Duration::from_secs(1), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_to_go_on_is_asked_for_everything_in_the_end() {
    let timed_out =
        || Whole(504, json!({"kind": "Status", "code": 504, "message": "Too large resource version"}));
    let answers = vec![list("5", ""), timed_out(), Stands(vec![error(500)]), timed_out(), list("3", "")];
    let mut server = Server::answering(answers);
    let asked = server.until_asked(6).await;
    assert!(asked[1..4].iter().all(|(_, asked)| watches_from(asked, "5")), "{asked:?}");
    assert!(asked[4].1.contains("limit=") && watches_from(&asked[5].1, "3"), "{asked:?}");
    assert!(asked[4].0 - asked[1].0 > Duration::from_millis(1200), "with pauses: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn lists_are_read_in_pages_that_shrink_where_they_must() {
    let too_much = Whole(500, json!({}));
    let answers = vec![list("5", "a/b"), too_much, list("6", "c"), list("6", "")];
    let mut server = Server::answering(answers);
    let asked = server.until_asked(5).await;
    assert!(asked[1].1.contains("limit=500&continue=a%2Fb"), "{asked:?}");
    assert!(asked[2].1.contains("limit=250&timeout"), "from the beginning: {asked:?}");
    assert!(asked[3].1.contains("limit=250&continue=c") && watches_from(&asked[4].1, "6"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_known_to_be_down_is_left_alone() {
    let failure = || Whole(500, json!({}));
    let mut server = Server::answering(vec![failure(), list("5", "")]);
    server.reach.send_modify(|reach| reach.ready = false);
    let _ = timeout(Duration::from_secs(30), server.told.next()).await;
    assert_eq!(server.asked.lock().unwrap().len(), 2, "tried once; the probe asks, that is enough");
    server.reach.send_modify(|reach| reach.ready = true);
    let up = Instant::now();
    let asked = server.until_asked(2).await;
    assert!(asked[1].0 - up < Duration::from_secs(1), "{asked:?}");
}
