//! Publishing one event.

use fleet_nats::connection::Connections;
use fleet_nats::core::{CoreConfig, CoreSource};
use fleet_nats::publish::{PublishError, Published, publish};

use crate::reader::{PATIENCE, Reader, Server, event};

#[tokio::test]
async fn it_is_said_what_became_of_the_event() {
    let server = Server::with_jetstream().await;
    let config = server.config();
    assert_eq!(publish(&config, "logins", &event(1), PATIENCE).await, Ok(Published::Unheard));

    let source = CoreSource::new("s", &Connections::new(), config.clone(), CoreConfig::new(["logins"]));
    let mut reader = Reader::open(&source).await;
    reader.ready().await;
    assert_eq!(publish(&config, "logins", &event(2), PATIENCE).await, Ok(Published::Delivered));
    let delivery = reader.delivery().await;
    assert_eq!(delivery.event.unwrap(), event(2));

    let jetstream = async_nats::jetstream::new(server.client().await);
    let stream = async_nats::jetstream::stream::Config {
        name: "EVENTS".into(),
        subjects: vec!["kept".into()],
        ..Default::default()
    };
    jetstream.create_stream(stream).await.unwrap();
    let stored = Published::Stored { stream: "EVENTS".to_owned(), sequence: 1 };
    assert_eq!(publish(&config, "kept", &event(3), PATIENCE).await, Ok(stored));

    let wild = publish(&config, "kept.*", &event(4), PATIENCE).await;
    assert!(matches!(wild, Err(PublishError::Config(_))), "{wild:?}");
    server.nats.server().stop().await.unwrap();
    let down = publish(&config, "kept", &event(5), PATIENCE).await;
    assert!(matches!(down, Err(PublishError::NotConnected(_))), "{down:?}");
}
