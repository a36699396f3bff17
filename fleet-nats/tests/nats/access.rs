//! Every way in, and what is said when there is none.

use std::fs;
use std::sync::Arc;

use fleet_core::source::EventSource;
use fleet_nats::connection::{Auth, ClientCertificate, Connections, NatsConfig, Tls};
use fleet_nats::core::{CoreConfig, CoreSource};
use fleet_nats::dead_letters::{Guarded, JetStreamLetters, LettersConfig};
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
use fleet_nats::publish::{PublishError, Published, publish};
use local_fleet::{Nats, NatsAuth, NatsOptions, NatsTls, Route};
use secrecy::SecretString;

use crate::reader::{PATIENCE, Reader, Server, event};

fn source(nats: NatsConfig) -> CoreSource {
    CoreSource::new("s", &Connections::new(), nats, CoreConfig::new(["logins"]))
}

/// An event goes out and comes in with this configuration.
async fn works(nats: NatsConfig) {
    let mut reader = Reader::open(&source(nats.clone())).await;
    reader.ready().await;
    assert_eq!(publish(&nats, "logins", &event(1), PATIENCE).await, Ok(Published::Delivered));
    assert_eq!(reader.acked().await, "1");
}

#[tokio::test]
async fn user_and_password() {
    let server = Server::start(NatsOptions::default().auth(NatsAuth::UserPassword)).await;
    works(server.config()).await;
}

#[tokio::test]
async fn token() {
    let server = Server::start(NatsOptions::default().auth(NatsAuth::Token)).await;
    works(server.config()).await;
}

#[tokio::test]
async fn nkey() {
    let server = Server::start(NatsOptions::default().auth(NatsAuth::NKey)).await;
    works(server.config()).await;
}

#[tokio::test]
async fn creds() {
    let server = Server::start(NatsOptions::default().auth(NatsAuth::Creds)).await;
    works(server.config()).await;
}

#[tokio::test]
async fn tls() {
    let server = Server::start(NatsOptions::default().tls(NatsTls::Server)).await;
    let ca = fs::read_to_string(server.nats.authority_file()).unwrap();
    works(server.config().tls(Tls { ca: Some(ca), ..Tls::default() })).await;

    let mut stranger = Reader::open(&source(server.config())).await;
    let status = stranger.reason("TlsFailed").await;
    assert!(!status.ready && status.message.contains("certificate authority"), "{}", status.message);
}

/// A server that is dialed elsewhere is still told by its name, and what it tells of others is not used.
#[tokio::test]
async fn a_mapped_name_is_what_a_certificate_is_checked_against() {
    const NAME: &str = "nats.nats.svc.cluster.local";
    // Such an address is told to clients.
    let options = NatsOptions::default().tls(NatsTls::Server).config("client_advertise: \"10.0.0.1:4222\"");
    let inside = Server::start(options.clone().tls_name(NAME)).await;
    let other = Server::start(options).await;
    let ca = |server: &Server| Some(fs::read_to_string(server.nats.authority_file()).unwrap());
    let address = |server: &Server| server.nats.url(Route::Direct).replace("tls://", "");
    let config = |server: &Server, url: &str| {
        let resolve = format!("{NAME}:4222={}", address(server)).parse();
        NatsConfig::new([url]).unwrap().resolve(resolve)
    };
    let url = format!("nats://{NAME}:4222");
    let trusted = |server: &Server| Tls { ca: ca(server), ..Tls::default() };
    works(config(&inside, &url).tls(trusted(&inside))).await;

    // Certificates of both are for the address, too: that does not count.
    let mut reader = Reader::open(&source(config(&other, &url).tls(trusted(&other)))).await;
    let status = reader.reason("TlsFailed").await;
    assert!(status.message.contains(&url), "{}", status.message);
    let named = Tls { server_name: Some("localhost".to_owned()), ..trusted(&other) };
    works(config(&other, &url).tls(named)).await;
    let named = Tls { server_name: Some("elsewhere".to_owned()), ..trusted(&other) };
    let mut reader = Reader::open(&source(other.config().tls(named))).await;
    reader.reason("TlsFailed").await;

    let mut unknown = Reader::open(&source(NatsConfig::new(["nats://nowhere.invalid"]).unwrap())).await;
    let status = unknown.reason("NameNotResolved").await;
    assert!(status.message.contains("nats://nowhere.invalid:4222 does not resolve"), "{}", status.message);
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let server = Server::start(NatsOptions::default().tls(NatsTls::Mutual)).await;
    let ca = Some(fs::read_to_string(server.nats.authority_file()).unwrap());
    let (certificate, key) = server.nats.client_certificate_files();
    let client = ClientCertificate {
        certificate: fs::read_to_string(certificate).unwrap(),
        key: SecretString::from(fs::read_to_string(key).unwrap()),
    };
    works(server.config().tls(Tls { ca: ca.clone(), client: Some(client), ..Tls::default() })).await;

    let mut stranger = Reader::open(&source(server.config().tls(Tls { ca, ..Tls::default() }))).await;
    let status = stranger.status("not ready", |status| status.reason != "Connecting").await;
    assert!(!status.ready, "{status:?}");
}

#[tokio::test]
async fn a_tls_configuration_never_speaks_in_the_clear() {
    let server = Server::start(NatsOptions::default()).await;
    let mut reader = Reader::open(&source(server.config().tls(Tls::default()))).await;
    assert!(!reader.status("failed", |status| status.reason != "Connecting").await.ready);
}

#[tokio::test]
async fn a_wrong_password_is_said_and_heals_when_the_server_lets_us_in() {
    let server = Server::start(NatsOptions::default().auth(NatsAuth::UserPassword)).await;
    let wrong = Auth::UserPassword { user: "lab".to_owned(), password: SecretString::from("not-the-s3cret") };
    let config = NatsConfig::new([server.nats.url(Route::Direct)]).unwrap().auth(wrong);
    let mut reader = Reader::open(&source(config.clone())).await;
    let status = reader.reason("AuthorizationViolation").await;
    assert!(!status.ready);
    assert!(
        status.message.contains("authorization violation") && status.message.contains("user and password")
    );
    assert!(!status.message.contains("s3cret"), "{}", status.message);
    let sent = publish(&config, "logins", &event(1), PATIENCE).await.unwrap_err().to_string();
    assert!(sent.contains("authorization violation"), "{sent}");

    let Server { nats, dir } = server;
    nats.server().stop().await.unwrap();
    drop(nats);
    let _open = Nats::start(dir.path(), &NatsOptions::default()).await.unwrap();
    reader.ready().await;
}

/// Neither what holds credentials nor what fails because of them shows them.
#[tokio::test]
async fn nothing_shows_credentials() {
    const SECRET: &str = "hunter2";
    let secret = || SecretString::from(SECRET);
    let server = Server::start(NatsOptions::default().jetstream(true).auth(NatsAuth::UserPassword)).await;
    let url = server.nats.url(Route::Direct);
    let key = ClientCertificate { certificate: String::new(), key: secret() };
    let tls = Tls { client: Some(key.clone()), ..Tls::default() };
    let in_url = format!("nats://user:{SECRET}@{}", url.trim_start_matches("nats://"));
    let mut shown = format!("{key:?} {tls:?}");
    let configs = [
        NatsConfig::new([in_url.as_str()]).unwrap(),
        NatsConfig::new([&url]).unwrap().auth(Auth::UserPassword { user: "user".into(), password: secret() }),
        NatsConfig::new([&url]).unwrap().auth(Auth::Token(secret())),
        NatsConfig::new([&url]).unwrap().auth(Auth::NKey(secret())),
        NatsConfig::new([&url]).unwrap().auth(Auth::Creds(secret())),
        NatsConfig::new([&url]).unwrap().tls(tls),
    ];
    let connections = Connections::new();
    for config in configs {
        shown += &format!("{config:?}");
        let core = source(config.clone());
        let stream = JetStreamConfig::new("EVENTS");
        let stream = JetStreamSource::new("s", &connections, config.clone(), stream);
        shown += &format!("{core:?} {stream:?}");
        // Some cannot work at all, others do not get in.
        match stream.open(Vec::new()).await {
            Ok(_items) => {
                let mut reader = Reader::open(&stream).await;
                shown += &format!("{:?}", reader.status("not ready", |status| !status.ready).await);
            }
            Err(error) => shown += &format!("{error:?} {error}"),
        }
        match JetStreamLetters::new(&connections, &config, LettersConfig::new("s", "LETTERS")) {
            Ok(letters) => {
                let letters = Arc::new(letters);
                shown += &format!("{letters:?} {:?}", letters.check().await.unwrap_err());
                shown += &format!("{:?}", Guarded::new(Arc::new(core), letters));
            }
            Err(error) => shown += &format!("{error:?} {error}"),
        }
        let error = publish(&config, "logins", &event(1), PATIENCE).await.unwrap_err();
        shown += &format!("{error:?} {error}");
        assert_eq!(error.is_retryable(), !matches!(error, PublishError::Config(_)), "{error}");
    }
    shown += &format!("{connections:?}");
    let bad = NatsConfig::new([format!("http://user:{SECRET}@host")]).unwrap_err();
    shown += &format!("{bad:?} {bad}");
    assert!(shown.len() > 1000 && !shown.contains(SECRET), "{shown}");
}
