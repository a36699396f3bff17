//! What is done with a delivery, for events in each dialect.

use std::time::{Duration, Instant};

use fleet_nats::connection::Connections;
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
use futures::StreamExt;
use serde_json::Value;

use super::{Dialect, Stage, id_of};
use crate::reader::Reader;

macro_rules! cells {
    ($($dialect:ident $variant:ident: $($cell:ident)*;)*) => {
        $(mod $dialect {
            use super::Dialect;
            $(#[tokio::test]
            async fn $cell() {
                super::$cell(Dialect::$variant).await;
            })*
        })*
    };
}

cells! {
    binary Binary: ack give_back terminate progress silence dropped crash;
    go Go: ack give_back terminate progress silence dropped crash;
    structured Structured: ack give_back terminate progress silence dropped crash;
    bare Bare: ack give_back terminate progress silence dropped crash;
}

fn ack_wait(seconds: u64) -> JetStreamConfig {
    JetStreamConfig { ack_wait: Duration::from_secs(seconds), ..JetStreamConfig::new("EVENTS") }
}

async fn ack(dialect: Dialect) {
    let mut stage = Stage::open(ack_wait(1)).await;
    stage.publish(dialect, 1..=2).await;
    for id in 1..=2 {
        stage.next(id).await.settle.ack().await.unwrap();
    }
    let consumer = stage.consumer().await;
    assert_eq!((consumer.num_ack_pending, consumer.ack_floor.stream_sequence), (0, 2));
    stage.reader = Reader::open(&stage.source).await;
    stage.reader.ready().await;
    stage.reader.nothing_for(Duration::from_millis(1500)).await;
}

async fn give_back(dialect: Dialect) {
    const DELAY: Duration = Duration::from_secs(2);
    let mut stage = Stage::open(ack_wait(30)).await;
    stage.publish(dialect, 1..=2).await;
    let first = stage.next(1).await;
    let (position, raw) = (first.position.clone(), first.raw.clone());
    let given_back = Instant::now();
    first.settle.give_back(DELAY).await.unwrap();
    stage.next(2).await.settle.ack().await.unwrap();
    let again = stage.next(1).await;
    let after = given_back.elapsed();
    assert!(after >= DELAY && after < DELAY * 5, "{after:?}");
    assert_eq!((again.position.clone(), again.raw.clone()), (position, raw));
    again.settle.ack().await.unwrap();
    assert_eq!(stage.consumer().await.ack_floor.stream_sequence, 2);
}

async fn terminate(dialect: Dialect) {
    let mut stage = Stage::open(ack_wait(1)).await;
    let advisory = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.EVENTS.fleet-logins";
    let listener = stage.server.client().await;
    let mut advisories = listener.subscribe(advisory).await.unwrap();
    listener.flush().await.unwrap();
    stage.publish(dialect, 1..=2).await;
    stage.next(1).await.settle.terminate("KeyEmpty: the subject\nis empty").await.unwrap();
    stage.next(2).await.settle.ack().await.unwrap();
    let told = tokio::time::timeout(crate::reader::PATIENCE, advisories.next()).await.unwrap().unwrap();
    let told: Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!((&told["stream_seq"], &told["reason"]), (&1.into(), &"KeyEmpty: the subjectis empty".into()));
    stage.reader.nothing_for(Duration::from_millis(1500)).await;
    let consumer = stage.consumer().await;
    assert_eq!((consumer.num_ack_pending, consumer.ack_floor.stream_sequence), (0, 2));
}

async fn progress(dialect: Dialect) {
    let mut stage = Stage::open(ack_wait(1)).await;
    stage.publish(dialect, [1]).await;
    let slow = stage.next(1).await;
    for _ in 0..10 {
        slow.settle.progress().await.unwrap();
        stage.reader.nothing_for(Duration::from_millis(300)).await;
    }
    let consumer = stage.consumer().await;
    assert_eq!((consumer.num_ack_pending, consumer.num_redelivered), (1, 0));
    slow.settle.ack().await.unwrap();
    stage.reader.nothing_for(Duration::from_millis(1500)).await;
}

async fn silence(dialect: Dialect) {
    let mut stage = Stage::open(ack_wait(1)).await;
    stage.publish(dialect, [1]).await;
    let silent = stage.next(1).await;
    let again = stage.next(1).await;
    assert_eq!(again.position, silent.position);
    // Whichever of the two settles it, it is settled.
    silent.settle.ack().await.unwrap();
    drop(again);
    stage.reader.nothing_for(Duration::from_millis(2500)).await;
    assert_eq!(stage.consumer().await.num_ack_pending, 0);
}

async fn dropped(dialect: Dialect) {
    let mut stage = Stage::open(ack_wait(60)).await;
    stage.publish(dialect, [1]).await;
    let position = stage.next(1).await.position;
    // What it waited for is over when it is dropped, in the line above.
    let again = stage.next(1).await;
    assert_eq!(again.position, position);
    again.settle.ack().await.unwrap();
}

async fn crash(dialect: Dialect) {
    // What is not polled reads nothing yet.
    let mut stage = Stage::open(ack_wait(2)).await;
    stage.publish(dialect, 1..=3).await;
    let nats = stage.server.config();
    let killed = move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let position = runtime.block_on(async {
            let source = JetStreamSource::new("logins", &Connections::new(), nats, ack_wait(2));
            let mut reader = Reader::open(&source).await;
            reader.delivery().await.settle.ack().await.unwrap();
            let held = reader.delivery().await;
            assert_eq!(id_of(&held), 2);
            let position = held.position.clone();
            // A process that is killed drops nothing.
            std::mem::forget((reader, held, source));
            position
        });
        runtime.shutdown_background();
        position
    };
    let position = tokio::task::spawn_blocking(killed).await.unwrap();
    stage.reader = Reader::open(&stage.source).await;
    let mut came = Vec::new();
    for _ in 0..2 {
        let delivery = stage.reader.delivery().await;
        if id_of(&delivery) == 2 {
            assert_eq!(delivery.position, position);
        }
        came.push(id_of(&delivery));
        delivery.settle.ack().await.unwrap();
    }
    came.sort_unstable();
    assert_eq!(came, [2, 3]);
    stage.reader.nothing_for(Duration::from_millis(2500)).await;
}
