//! A NATS server of the lab lets in who shows what it asks for, and nobody else.

// Clippy lets tests panic, but does not see that their helpers are parts of tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, jetstream};
use futures::StreamExt as _;
use local_fleet::{Nats, NatsAccess, NatsAuth, NatsOptions, NatsTls, Route};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

async fn start(options: NatsOptions) -> (TempDir, Nats) {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start(dir.path(), &options).await.unwrap();
    (dir, nats)
}

fn with_access(access: &NatsAccess) -> ConnectOptions {
    let options = ConnectOptions::new();
    match access.clone() {
        NatsAccess::None => options,
        NatsAccess::UserPassword { user, password } => options.user_and_password(user, password),
        NatsAccess::Token(token) => options.token(token),
        NatsAccess::NKey { seed, .. } => options.nkey(seed),
        NatsAccess::Creds { creds, .. } => options.credentials(&creds).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn works(client: &Client) {
    let mut subscriber = client.subscribe("greeting").await.unwrap();
    client.publish("greeting", "hello".into()).await.unwrap();
    let message = timeout(SOON, subscriber.next()).await.unwrap().unwrap();
    assert_eq!(message.payload, "hello");
}

async fn lets_in_only_with(auth: NatsAuth) {
    let (_dir, nats) = start(NatsOptions::default().auth(auth)).await;
    let url = nats.url(Route::Direct);
    let stranger = timeout(SOON, ConnectOptions::new().connect(&url)).await.unwrap();
    assert!(stranger.is_err(), "{auth:?} let a stranger in");
    works(&with_access(nats.access()).connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn without_authentication() {
    let (_dir, nats) = start(NatsOptions::default()).await;
    works(&async_nats::connect(nats.url(Route::Direct)).await.unwrap()).await;
}

#[tokio::test]
async fn by_user_and_password() {
    lets_in_only_with(NatsAuth::UserPassword).await;
}

#[tokio::test]
async fn by_token() {
    lets_in_only_with(NatsAuth::Token).await;
}

#[tokio::test]
async fn by_nkey() {
    lets_in_only_with(NatsAuth::NKey).await;
}

#[tokio::test]
async fn by_creds_and_with_jetstream() {
    lets_in_only_with(NatsAuth::Creds).await;
    let (_dir, nats) = start(NatsOptions::default().auth(NatsAuth::Creds).jetstream(true)).await;
    let client = with_access(nats.access()).connect(nats.url(Route::Direct)).await.unwrap();
    jetstream::new(client).create_stream("EVENTS").await.unwrap();
}

#[tokio::test]
async fn by_tls_with_the_labs_authority_only() {
    let (_dir, nats) = start(NatsOptions::default().tls(NatsTls::Server)).await;
    let url = nats.url(Route::Direct);
    assert!(async_nats::connect(&url).await.is_err(), "an unknown authority was trusted");
    let options = ConnectOptions::new().add_root_certificates(nats.authority_file());
    works(&options.connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn by_a_client_certificate() {
    let (_dir, nats) = start(NatsOptions::default().tls(NatsTls::Mutual)).await;
    let url = nats.url(Route::Direct);
    let options = || ConnectOptions::new().add_root_certificates(nats.authority_file());
    assert!(options().connect(&url).await.is_err(), "a client without certificate was let in");
    let (certificate, key) = nats.client_certificate_files();
    works(&options().add_client_certificate(certificate, key).connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn streams_and_port_outlive_a_kill() {
    let (_dir, nats) = start(NatsOptions::default().jetstream(true).auth(NatsAuth::UserPassword)).await;
    let url = nats.url(Route::Direct);
    let client = with_access(nats.access()).connect(&url).await.unwrap();
    let context = jetstream::new(client);
    context
        .create_stream(jetstream::stream::Config {
            name: "EVENTS".to_owned(),
            subjects: vec!["events".to_owned()],
            ..Default::default()
        })
        .await
        .unwrap();
    context.publish("events", "kept".into()).await.unwrap().await.unwrap();
    nats.server().kill().await.unwrap();
    nats.server().start().await.unwrap();
    assert_eq!(nats.url(Route::Direct), url);
    let client = with_access(nats.access()).connect(&url).await.unwrap();
    let mut stream = jetstream::new(client).get_stream("EVENTS").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn a_cut_network_disconnects_until_it_is_healed() {
    let (_dir, nats) = start(NatsOptions::default()).await;
    let (tell, mut told) = mpsc::channel(64);
    let client = ConnectOptions::new()
        .event_callback(move |event| {
            let tell = tell.clone();
            async move { tell.send(event).await.unwrap_or_default() }
        })
        .connect(nats.url(Route::Proxied))
        .await
        .unwrap();
    assert_eq!(told.recv().await, Some(Event::Connected));
    nats.proxy().cut();
    assert_eq!(timeout(SOON, told.recv()).await.unwrap(), Some(Event::Disconnected));
    nats.proxy().heal();
    let connected = async { while told.recv().await != Some(Event::Connected) {} };
    timeout(SOON, connected).await.unwrap();
    works(&client).await;
}
