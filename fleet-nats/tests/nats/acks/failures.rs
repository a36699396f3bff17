//! What happens to a delivery that is unsettled, when consumer, stream or server go away under it.

use std::fs;
use std::time::Duration;

use async_nats::jetstream;
use fleet_nats::jetstream::JetStreamConfig;

use super::{Stage, create_stream};
use crate::positions::copy_folder;

fn events() -> JetStreamConfig {
    JetStreamConfig { ack_wait: Duration::from_secs(60), ..JetStreamConfig::new("EVENTS") }
}

#[tokio::test]
async fn a_deleted_consumer_brings_what_is_unsettled_again() {
    let mut stage = Stage::open(events()).await;
    stage.publish_in_turn(1..=4).await;
    stage.next(1).await.settle.ack().await.unwrap();
    let held = stage.next(2).await;
    for id in 3..=4 {
        stage.next(id).await.settle.ack().await.unwrap();
    }
    stage.reader.floor(1).await;
    stage.context.delete_consumer_from_stream("fleet-logins", "EVENTS").await.unwrap();
    stage.reader.status("created again", |status| status.message.contains("from sequence 2")).await;
    // Behind the floor all comes again: the store knows what of it is settled.
    let again = stage.next(2).await;
    assert_eq!(again.position, held.position);
    again.settle.ack().await.unwrap();
    for id in 3..=4 {
        stage.next(id).await.settle.ack().await.unwrap();
    }
    // It is the same message, settled already: that does no harm.
    let _ = held.settle.ack().await;
    stage.publish_in_turn([5]).await;
    stage.next(5).await.settle.ack().await.unwrap();
    stage.reader.floor(5).await;
    assert_eq!(stage.consumer().await.num_ack_pending, 0);
}

/// Under its sequence the server has another message now.
#[tokio::test]
async fn what_a_deleted_stream_delivered_settles_nothing_of_the_new_one() {
    let mut stage = Stage::open(events()).await;
    stage.publish_in_turn(1..=3).await;
    let [acked, given_back, dropped] = [stage.next(1).await, stage.next(2).await, stage.next(3).await];
    stage.context.delete_stream("EVENTS").await.unwrap();
    create_stream(&stage.context).await;
    stage.publish_in_turn(4..=6).await;
    let mut held = Vec::new();
    for id in 4..=6 {
        let delivery = stage.next(id).await;
        let position = delivery.position.clone().unwrap();
        assert_eq!(position.sequence, id - 3);
        assert!(position.is_above(acked.position.as_ref().unwrap()));
        held.push(delivery);
    }
    for refused in [acked.settle.ack().await, given_back.settle.give_back(Duration::ZERO).await] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("its stream lost it, or was made anew"), "{error}");
    }
    drop(dropped);
    stage.reader.nothing_for(Duration::from_secs(2)).await;
    let consumer = stage.consumer().await;
    assert_eq!((consumer.num_ack_pending, consumer.num_redelivered), (3, 0));
    for delivery in held {
        delivery.settle.ack().await.unwrap();
    }
    assert_eq!(stage.consumer().await.num_ack_pending, 0);
}

#[tokio::test]
async fn what_a_lost_tail_delivered_settles_nothing_of_the_new_one() {
    let mut stage = Stage::open(events()).await;
    stage.publish_in_turn(1..=3).await;
    for id in 1..=3 {
        stage.next(id).await.settle.ack().await.unwrap();
    }
    stage.reader.floor(3).await;
    let server = stage.server.nats.server();
    let store = stage.server.dir.path().join("nats/data");
    let copy = stage.server.dir.path().join("copy");
    server.stop().await.unwrap();
    copy_folder(&store, &copy);
    server.start().await.unwrap();
    stage.reader.ready().await;
    stage.context = jetstream::new(stage.server.client().await);
    stage.publish_in_turn([4]).await;
    let lost = stage.next(4).await;

    // A power failure, as the server's disk shows it.
    let server = stage.server.nats.server();
    server.stop().await.unwrap();
    fs::remove_dir_all(&store).unwrap();
    copy_folder(&copy, &store);
    server.start().await.unwrap();
    stage.context = jetstream::new(stage.server.client().await);
    stage.publish_in_turn([5]).await;
    let held = stage.next(5).await;
    let (new, old) = (held.position.clone().unwrap(), lost.position.clone().unwrap());
    assert_eq!((new.sequence, old.sequence), (4, 4));
    assert!(new.is_above(&old));
    let error = lost.settle.ack().await.unwrap_err().to_string();
    assert!(error.contains("its stream lost it"), "{error}");
    assert_eq!(stage.consumer().await.num_ack_pending, 1);
    held.settle.ack().await.unwrap();
    assert_eq!(stage.consumer().await.num_ack_pending, 0);
}

#[tokio::test]
async fn what_is_given_back_while_the_server_is_away_comes_again() {
    let mut stage = Stage::open(JetStreamConfig { ack_wait: Duration::from_secs(5), ..events() }).await;
    stage.publish_in_turn(1..=2).await;
    let [given_back, acked] = [stage.next(1).await, stage.next(2).await];
    let position = given_back.position.clone();
    stage.server.nats.server().stop().await.unwrap();
    stage.reader.status("not ready", |status| !status.ready).await;
    // Nobody confirms it, and that is said.
    given_back.settle.give_back(Duration::ZERO).await.unwrap_err();
    stage.server.nats.server().start().await.unwrap();
    stage.reader.ready().await;
    acked.settle.ack().await.unwrap();
    let again = stage.next(1).await;
    assert_eq!(again.position, position);
    again.settle.ack().await.unwrap();
}
