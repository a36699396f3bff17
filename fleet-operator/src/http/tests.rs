//! What a sender of events gets to see.

use fleet_core::source::{Delivery, EventSource, SourceItem};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

mod access;
mod contract;
mod webhook;

const LOGIN: &str = r#"{"specversion":"1.0","type":"t","source":"s","id":"1","subject":"mgianluc"}"#;
const JSON: &str = "Content-Type: application/cloudevents+json";

struct Ready;

impl Health for Ready {
    fn unready(&self) -> Option<String> {
        Some("clusters are loading".to_owned())
    }
    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}

struct Lab {
    address: SocketAddr,
    intake: Intake,
    shutdown: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

async fn lab_with(limits: Limits) -> Lab {
    lab_of(limits, &AccessOptions::default()).await
}

async fn lab_of(limits: Limits, access: &AccessOptions) -> Lab {
    lab_on(Intake::default(), limits, access).await
}

async fn lab_on(intake: Intake, limits: Limits, access: &AccessOptions) -> Lab {
    let access = Access::open(access).unwrap();
    let address = ([127, 0, 0, 1], 0).into();
    let server = Server::bind(address, intake.clone(), access, Arc::new(Ready), limits).await.unwrap();
    let address = server.address().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(server.run(shutdown.clone()));
    Lab { address, intake, shutdown, server }
}

async fn lab() -> Lab {
    lab_with(Limits::default()).await
}

impl Lab {
    async fn raw(&self, request: String) -> String {
        exchange(TcpStream::connect(self.address).await.unwrap(), &request).await.unwrap()
    }

    async fn post(&self, headers: &str, body: &str) -> String {
        let length = body.len();
        self.raw(format!(
            "POST /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    async fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    /// The only EventSource.
    async fn open(&self, name: &str) -> BoxStream<'static, SourceItem> {
        self.intake.set_sources(&[name.into()].into());
        self.intake.source(name).open(Vec::new()).await.unwrap()
    }

    /// An EventSource whose events are stored as soon as they come.
    async fn store_all(&self) {
        let mut stream = self.open("a").await;
        tokio::spawn(async move {
            while let Some(item) = stream.next().await {
                if let SourceItem::Delivery(delivery) = item {
                    let _ = match &delivery.event {
                        Ok(_) => delivery.settle.ack().await,
                        Err(error) => delivery.settle.terminate(&error.to_string()).await,
                    };
                }
            }
        });
    }
}

/// Says something to a server, and hears all of what it answers.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

fn event_request(path: &str, headers: &str) -> String {
    let length = LOGIN.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{JSON}\r\n{headers}Content-Length: {length}\r\n\r\n{LOGIN}"
    )
}

async fn delivery(stream: &mut BoxStream<'static, SourceItem>) -> Delivery {
    loop {
        match stream.next().await.unwrap() {
            SourceItem::Delivery(delivery) => return delivery,
            _ => continue,
        }
    }
}

fn delivery_now(stream: &mut BoxStream<'static, SourceItem>) -> Option<Delivery> {
    delivery(stream).now_or_never()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn accepted_means_settled_by_every_source() {
    let lab = lab().await;
    lab.intake.set_sources(&["first".into(), "second".into()].into());
    let mut first = lab.intake.source("first").open(Vec::new()).await.unwrap();
    let mut second = lab.intake.source("second").open(Vec::new()).await.unwrap();
    let mut answer = Box::pin(lab.post(JSON, LOGIN));
    let one =
        tokio::select! { one = delivery(&mut first) => one, _ = &mut answer => panic!("answered unsettled") };
    let two = delivery(&mut second).await;
    assert_eq!(one.event.as_ref().unwrap().subject(), Some("mgianluc"));
    assert_eq!(one.raw, LOGIN);
    one.settle.ack().await.unwrap();
    assert!(answer.as_mut().now_or_never().is_none(), "one of two sources settled it");
    two.settle.ack().await.unwrap();
    assert_eq!(status(&answer.await), "202");
}

/// An event that one EventSource misses would be lost for its triggers.
#[tokio::test]
async fn nothing_is_taken_while_an_event_source_is_not_read() {
    let lab = lab().await;
    lab.intake.set_sources(&["first".into(), "second".into()].into());
    let mut first = lab.intake.source("first").open(Vec::new()).await.unwrap();
    let answer = lab.post(JSON, LOGIN).await;
    assert!(status(&answer) == "503" && answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    let second = lab.intake.source("second").open(Vec::new()).await.unwrap();
    drop(second);
    assert_eq!(status(&lab.post(JSON, LOGIN).await), "503", "it is not read any more");
    lab.intake.set_sources(&["first".into()].into());
    let (answer, ()) = tokio::join!(lab.post(JSON, LOGIN), async {
        delivery(&mut first).await.settle.ack().await.unwrap();
    });
    assert_eq!(status(&answer), "202");
    assert!(delivery_now(&mut first).is_none(), "what was refused had been handed over");
    // One that was opened when it was gone already takes no place.
    let _late = lab.intake.source("second").open(Vec::new()).await.unwrap();
    lab.intake.set_sources(&[].into());
    assert!(lab.post(JSON, LOGIN).await.contains("no EventSource takes events over HTTP"));
}

#[tokio::test]
async fn a_format_that_nobody_reads_is_told_apart_from_a_bad_event() {
    let lab = lab().await;
    lab.store_all().await;
    for headers in ["Content-Type: application/cloudevents+avro", "Content-Type: text/plain", "X-No: type"] {
        let answer = lab.post(headers, LOGIN).await;
        assert!(status(&answer) == "415" && answer.contains("application/cloudevents+json"), "{answer}");
    }
    assert_eq!(status(&lab.post(&format!("Content-Encoding: gzip\r\n{JSON}"), LOGIN).await), "415");
    assert_eq!(status(&lab.post(JSON, "{}").await), "400");
}

#[tokio::test]
async fn what_is_no_event_is_delivered_as_such_and_refused() {
    let lab = lab().await;
    let mut stream = lab.open("a").await;
    let (answer, ()) = tokio::join!(lab.post(JSON, "hello"), async {
        let delivery = delivery(&mut stream).await;
        let reason = delivery.event.unwrap_err().to_string();
        assert_eq!(delivery.raw, "hello");
        delivery.settle.terminate(&reason).await.unwrap();
    });
    assert_eq!(status(&answer), "400");
    assert!(answer.contains("application/problem+json") && answer.contains("not a CloudEvent"), "{answer}");
}

#[tokio::test]
async fn an_event_that_could_not_be_stored_is_to_be_sent_again() {
    let lab = lab().await;
    let mut stream = lab.open("a").await;
    let (answer, ()) = tokio::join!(lab.post(JSON, LOGIN), async {
        delivery(&mut stream).await.settle.give_back(Duration::from_secs(7)).await.unwrap();
    });
    assert_eq!(status(&answer), "503");
    assert!(answer.to_lowercase().contains("retry-after: 7"), "{answer}");
    let (answer, ()) = tokio::join!(lab.post(JSON, LOGIN), async {
        drop(delivery(&mut stream).await);
    });
    assert_eq!(status(&answer), "503", "dropped unsettled");
    let (answer, ()) = tokio::join!(lab.post(JSON, LOGIN), async {
        delivery(&mut stream).await.settle.terminate("the key is empty").await.unwrap();
    });
    assert!(status(&answer) == "422" && answer.contains("the key is empty"), "{answer}");
}

#[tokio::test]
async fn a_batch_tells_which_of_its_events_were_refused() {
    let lab = lab().await;
    let mut stream = lab.open("a").await;
    let batch = format!("[{LOGIN},{{\"specversion\":\"9\"}},{LOGIN}]");
    let (answer, ()) =
        tokio::join!(lab.post("Content-Type: application/cloudevents-batch+json", &batch), async {
            for _ in 0..3 {
                let delivery = delivery(&mut stream).await;
                match &delivery.event {
                    Ok(_) => delivery.settle.ack().await.unwrap(),
                    Err(error) => delivery.settle.terminate(&error.to_string()).await.unwrap(),
                }
            }
        });
    assert_eq!(status(&answer), "400");
    assert!(answer.contains("1 of 3 events were refused") && answer.contains("\"index\":1"), "{answer}");
}

#[tokio::test]
async fn back_pressure_tells_when_to_come_back() {
    let lab = lab_with(Limits { patience: Duration::from_millis(50), ..Limits::default() }).await;
    assert!(lab.post(JSON, LOGIN).await.contains("no EventSource takes events over HTTP"));
    assert_eq!(status(&lab.post(JSON, "hello").await), "400", "also while nobody listens");
    let _never_read = lab.open("a").await;
    let batch = format!("[{}]", [LOGIN; 1025].join(","));
    let answer = lab.post("Content-Type: application/cloudevents-batch+json", &batch).await;
    assert_eq!(status(&answer), "429");
    assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
}

#[tokio::test]
async fn bodies_are_limited_with_and_without_a_declared_length() {
    let lab = lab_with(Limits { body: 1000, ..Limits::default() }).await;
    let _stream = lab.open("a").await;
    assert_eq!(status(&lab.post(JSON, &"x".repeat(1001)).await), "413");
    let chunk = "x".repeat(1001);
    let chunked = format!(
        "POST /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{chunk}\r\n0\r\n\r\n"
    );
    assert_eq!(status(&lab.raw(chunked).await), "413");
    let narrow = lab_with(Limits { room: 0, ..Limits::default() }).await;
    assert_eq!(status(&narrow.post(JSON, LOGIN).await), "429");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let limits =
        Limits { head: Duration::from_millis(50), read: Duration::from_millis(50), ..Limits::default() };
    let lab = lab_with(limits).await;
    let mut silent = TcpStream::connect(lab.address).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "an idle connection stays open");
    let answer =
        lab.raw(format!("POST /events HTTP/1.1\r\nHost: x\r\n{JSON}\r\nContent-Length: 9\r\n\r\n")).await;
    assert_eq!(status(&answer), "408");
}

#[tokio::test]
async fn health_is_told() {
    let lab = lab().await;
    assert_eq!(status(&lab.get("/healthz").await), "200");
    let ready = lab.get("/readyz").await;
    assert!(status(&ready) == "503" && ready.contains("clusters are loading"));
    assert!(lab.get("/metrics").await.contains("# EOF"));
    assert_eq!(status(&lab.get("/events").await), "405");
    assert_eq!(status(&lab.get("/").await), "404");
}

#[tokio::test]
async fn stopping_lets_a_request_come_to_its_end() {
    let lab = lab().await;
    let mut stream = lab.open("a").await;
    let _idle = TcpStream::connect(lab.address).await.unwrap();
    let (answer, ()) = tokio::join!(lab.post(JSON, LOGIN), async {
        let delivery = delivery(&mut stream).await;
        lab.shutdown.cancel();
        delivery.settle.ack().await.unwrap();
    });
    assert_eq!(status(&answer), "202");
    tokio::time::timeout(Duration::from_secs(5), lab.server)
        .await
        .expect("idle connections hold up stopping")
        .unwrap();
    assert!(TcpStream::connect(lab.address).await.is_err());
}
