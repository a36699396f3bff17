//! Dead letters in a stream: nothing of the original is lost, nothing is doubled, and what cannot be kept is said.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use fleet_core::dead_letter::{DeadLetter, DeadLetterBox};
use fleet_core::position::{Domain, Position};
use fleet_core::source::{EventSource, Message};
use fleet_nats::connection::{Auth, Connections, NatsConfig};
use fleet_nats::core::{CoreConfig, CoreSource};
use fleet_nats::dead_letters::{Guarded, JetStreamLetters, LettersConfig, Reads};
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
use local_fleet::{NatsOptions, Route};
use secrecy::SecretString;

use crate::reader::{Reader, Server, payload};

const STREAM: &str = "DEAD";

fn letters(server: &Server, config: LettersConfig) -> JetStreamLetters {
    JetStreamLetters::new(&Connections::new(), &server.config(), config).unwrap()
}

fn created() -> LettersConfig {
    LettersConfig { create: true, ..LettersConfig::new("orders.eu", STREAM) }
}

fn letter(number: u32) -> DeadLetter {
    DeadLetter {
        id: format!("{number:013}-00ff"),
        source: "orders.eu".to_owned(),
        trigger: None,
        reason: "NotACloudEvent".to_owned(),
        detail: "the message is not JSON: 100 % ü".to_owned(),
        time: "2026-11-24T16:35:00.123456789Z".parse().unwrap(),
        position: Some(Position { domain: Domain::new("jetstream/orders.eu/E"), epoch: 5, sequence: 7 }),
        origin: Some("civo/cluster1".parse().unwrap()),
        message: Message { subject: "orders.1".to_owned(), headers: Vec::new() },
        raw: Bytes::from_static(b"hello"),
    }
}

async fn add(letters: &JetStreamLetters, letter: &DeadLetter) {
    letters.add(Arc::new(letter.clone())).await.unwrap();
}

async fn get(letters: &JetStreamLetters, id: &str) -> Option<DeadLetter> {
    letters.get(id).await.unwrap().map(|letter| (*letter).clone())
}

async fn ids(letters: &JetStreamLetters, after: Option<&str>, limit: usize) -> Vec<String> {
    letters.list(after, limit).await.unwrap().iter().map(|letter| letter.id.clone()).collect()
}

async fn stream(server: &Server, config: stream::Config) -> stream::Stream {
    jetstream::new(server.client().await).create_stream(config).await.unwrap()
}

fn users_own() -> stream::Config {
    stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["fleet.dead-letters.>".to_owned()],
        ..Default::default()
    }
}

async fn messages(stream: &stream::Stream) -> u64 {
    stream.get_info().await.unwrap().state.messages
}

async fn refusal(letters: &JetStreamLetters) -> String {
    letters.check().await.unwrap_err().to_string()
}

#[tokio::test]
async fn original_bytes_and_headers_come_back_as_they_were() {
    let server = Server::with_jetstream().await;
    let letters = letters(&server, created());
    let mut odd = letter(1);
    odd.raw = (0..=255).collect::<Vec<u8>>().into();
    odd.message.headers = [
        ("Nats-Expected-Last-Sequence", "99"),
        ("Nats-Msg-Id", "theirs"),
        ("Nats-Rollup", "all"),
        ("ce-subject", "100%25 ü"),
        ("ce-subject", "again: and again"),
        ("fleet-dead-letter-id", "theirs"),
        ("x", " edges "),
        ("x", ""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    odd.trigger = Some("manage-namespace".to_owned());
    let plain = letter(2);
    add(&letters, &odd).await;
    add(&letters, &plain).await;
    assert!(get(&letters, &odd.id).await.unwrap() == odd);
    assert!(get(&letters, &plain.id).await.unwrap() == plain);
    assert_eq!(get(&letters, "nobody").await, None);

    // As another program sees it.
    let context = jetstream::new(server.client().await);
    let stream = context.get_stream(STREAM).await.unwrap();
    let subject = format!("fleet.dead-letters.orders%2Eeu.{}", odd.id);
    let seen = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
    assert_eq!(seen.payload, odd.raw);
    let header = |name: &str| seen.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("Fleet-Dead-Letter-Reason").as_deref(), Some("NotACloudEvent"));
    assert_eq!(
        header("Fleet-Dead-Letter-Detail").as_deref(),
        Some("the message is not JSON: 100 %25 %C3%BC")
    );
    assert_eq!(header("ce-subject").as_deref(), Some("again: and again"), "its own headers are there too");
    assert_eq!(header("Nats-Rollup"), None, "but none that tells the stream to do something");
}

#[tokio::test]
async fn a_message_that_came_through_a_stream_becomes_a_letter_and_an_event_again() {
    let server = Server::with_jetstream().await;
    let config =
        stream::Config { name: "EVENTS".into(), subjects: vec!["events".into()], ..Default::default() };
    stream(&server, config).await;
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [
        ("Nats-Msg-Id", "7"),
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "orders%2Deu"),
        ("ce-type", "order"),
        ("ce-datacontenttype", "application/octet-stream"),
    ] {
        headers.insert(name, value);
    }
    let body = Bytes::from_static(b"\0\xff\r\n");
    let context = jetstream::new(server.client().await);
    context.publish_with_headers("events", headers, body.clone()).await.unwrap().await.unwrap();
    let source =
        JetStreamSource::new("s", &Connections::new(), server.config(), JetStreamConfig::new("EVENTS"));
    let delivery = Reader::open(&source).await.delivery().await;
    let letters = letters(&server, created());
    let kept = DeadLetter { message: (*delivery.message).clone(), raw: delivery.raw.clone(), ..letter(1) };
    add(&letters, &kept).await;
    let again = get(&letters, &kept.id).await.unwrap();
    assert!(again == kept);
    let event = source.decode(&again.message, &again.raw).unwrap();
    assert_eq!(Some(&event), delivery.event.as_ref().ok());
    assert_eq!(event.source(), "orders-eu", "in binary mode");
}

#[tokio::test]
async fn a_redelivery_is_not_doubled_and_a_letter_that_was_removed_can_come_again() {
    let server = Server::with_jetstream().await;
    for config in
        [created(), LettersConfig { stream: "OWN".to_owned(), subject: "own".to_owned(), ..created() }]
    {
        if config.stream == "OWN" {
            let own = stream::Config {
                name: "OWN".to_owned(),
                subjects: vec!["own.>".to_owned()],
                duplicate_window: Duration::from_millis(100),
                ..Default::default()
            };
            stream(&server, own).await;
        }
        let letters = letters(&server, config.clone());
        let first = letter(1);
        add(&letters, &first).await;
        let later = DeadLetter { time: "2026-11-24T17:00:00Z".parse().unwrap(), ..first.clone() };
        add(&letters, &later).await;
        let stream = jetstream::new(server.client().await).get_stream(&config.stream).await.unwrap();
        assert_eq!(messages(&stream).await, 1);

        // Refused for another reason since.
        let other = DeadLetter { reason: "OriginMissing".to_owned(), ..first.clone() };
        add(&letters, &other).await;
        assert_eq!(get(&letters, &first.id).await.unwrap().reason, "OriginMissing");
        // Behind the window in which the stream itself knows duplicates.
        tokio::time::sleep(Duration::from_millis(150)).await;
        add(&letters, &other).await;
        assert_eq!(ids(&letters, None, 10).await, std::slice::from_ref(&first.id), "listed once");

        assert!(letters.remove(&first.id).await.unwrap());
        assert_eq!(messages(&stream).await, 0, "all of it is gone");
        assert!(!letters.remove(&first.id).await.unwrap());
        add(&letters, &first).await;
        assert!(get(&letters, &first.id).await.unwrap() == first);
    }
}

#[tokio::test]
async fn letters_are_listed_in_pages_in_the_order_of_their_ids() {
    let server = Server::with_jetstream().await;
    let letters = letters(&server, created());
    let other = LettersConfig { source: "other".to_owned(), ..created() };
    let other = JetStreamLetters::new(&Connections::new(), &server.config(), other).unwrap();
    for number in [5, 3, 9, 1, 7] {
        add(&letters, &letter(number)).await;
    }
    add(&other, &letter(4)).await;
    // Something else among them, and a letter that is damaged, are left out, and take nobody's place in a page.
    let context = jetstream::new(server.client().await);
    let mut damaged = async_nats::HeaderMap::new();
    damaged.insert("Fleet-Dead-Letter-Id", "x");
    for (id, headers) in [("0-foreign", async_nats::HeaderMap::new()), ("0000000000004-x", damaged)] {
        let subject = format!("fleet.dead-letters.orders%2Eeu.{id}");
        context.publish_with_headers(subject, headers, "x".into()).await.unwrap().await.unwrap();
    }
    assert!(letters.get("0000000000004-x").await.is_err());
    let id = |number: u32| letter(number).id;
    assert_eq!(ids(&letters, None, 2).await, [id(1), id(3)]);
    assert_eq!(ids(&letters, Some(&id(3)), 2).await, [id(5), id(7)]);
    assert_eq!(ids(&letters, Some(&id(7)), 2).await, [id(9)]);
    assert!(ids(&letters, Some(&id(9)), 2).await.is_empty());
    assert_eq!(ids(&other, None, 9).await, [id(4)], "each source has its own");
}

#[tokio::test]
async fn a_stream_is_created_on_request_only_and_a_users_own_is_never_changed() {
    let server = Server::with_jetstream().await;
    let missing = letters(&server, LettersConfig::new("orders.eu", STREAM));
    for message in [
        refusal(&missing).await,
        missing.add(Arc::new(letter(1))).await.unwrap_err().to_string(),
        missing.list(None, 1).await.unwrap_err().to_string(),
    ] {
        assert!(message.contains("stream DEAD does not exist; create it, or set create: true"), "{message}");
    }
    add(&letters(&server, created()), &letter(1)).await;
    let context = jetstream::new(server.client().await);
    let made = context.get_stream(STREAM).await.unwrap().get_info().await.unwrap().config;
    assert_eq!(made.subjects, ["fleet.dead-letters.*.*"]);
    assert_eq!((made.max_messages_per_subject, made.max_age, made.max_messages), (1, Duration::ZERO, -1));

    let own =
        LettersConfig { stream: "OWN".to_owned(), subject: "own".to_owned(), create: true, ..created() };
    let config = stream::Config {
        name: "OWN".to_owned(),
        subjects: vec!["own.>".to_owned()],
        max_messages: 7,
        ..Default::default()
    };
    let stream = stream(&server, config).await;
    let before = stream.get_info().await.unwrap().config;
    add(&letters(&server, own), &letter(1)).await;
    assert_eq!(stream.get_info().await.unwrap().config, before);

    // Deleted meanwhile, it is made again.
    let kept = letters(&server, created());
    add(&kept, &letter(2)).await;
    context.delete_stream(STREAM).await.unwrap();
    add(&kept, &letter(3)).await;
    assert_eq!(ids(&kept, None, 10).await, [letter(3).id]);
}

#[tokio::test]
async fn what_would_come_back_as_an_event_is_refused() {
    let server = Server::with_jetstream().await;
    let dead = stream(&server, users_own()).await;
    let subjects = |subject: &str| Reads::Subjects(vec![subject.to_owned()]);
    let reading =
        |reads| letters(&server, LettersConfig { reads, ..LettersConfig::new("orders.eu", STREAM) });
    let message = refusal(&reading(subjects("fleet.>"))).await;
    assert!(message.contains("each dead letter would come back as an event"), "{message}");
    let own = Reads::Stream { stream: STREAM.to_owned(), subjects: Vec::new() };
    assert!(refusal(&reading(own)).await.contains("it is the stream that the EventSource reads"));
    let refused = reading(subjects("fleet.>"));
    assert!(refused.add(Arc::new(letter(1))).await.is_err());
    assert_eq!(messages(&dead).await, 0, "nothing is published");

    let copy = stream::Config {
        name: "EVENTS".to_owned(),
        sources: Some(vec![stream::Source { name: STREAM.to_owned(), ..Default::default() }]),
        ..Default::default()
    };
    stream(&server, copy).await;
    let events = Reads::Stream { stream: "EVENTS".to_owned(), subjects: Vec::new() };
    assert!(refusal(&reading(events)).await.contains("has it as a source"));
    reading(subjects("events.>")).check().await.unwrap();

    let elsewhere =
        LettersConfig { subject: "elsewhere".to_owned(), ..LettersConfig::new("orders.eu", STREAM) };
    assert!(refusal(&letters(&server, elsewhere)).await.contains("do not take elsewhere.*.*; add that"));
}

#[tokio::test]
async fn a_source_is_not_read_before_its_letters_can_be_kept() {
    let server = Server::with_jetstream().await;
    let config =
        stream::Config { name: "EVENTS".into(), subjects: vec!["events".into()], ..Default::default() };
    let events = stream(&server, config).await;
    let connections = Connections::new();
    let reads = Reads::Stream { stream: "EVENTS".to_owned(), subjects: Vec::new() };
    let config = LettersConfig { reads, ..LettersConfig::new("orders.eu", STREAM) };
    let letters = Arc::new(JetStreamLetters::new(&connections, &server.config(), config).unwrap());
    let source = JetStreamSource::new("s", &connections, server.config(), JetStreamConfig::new("EVENTS"));
    let guarded = Guarded::new(Arc::new(source), letters);
    let mut reader = Reader::open(&guarded).await;
    let status = reader.reason("StreamNotFound").await;
    assert!(!status.ready && status.message.contains("nothing is read"), "{}", status.message);
    assert!(status.message.contains("stream DEAD does not exist; create it"), "{}", status.message);
    let context = jetstream::new(server.client().await);
    context.publish("events", payload(1)).await.unwrap().await.unwrap();
    reader.nothing_for(Duration::from_secs(1)).await;
    assert_eq!(events.get_info().await.unwrap().state.consumer_count, 0);
    stream(&server, users_own()).await;
    assert_eq!(reader.acked().await, "1", "it heals");
    reader.ready().await;

    let core = CoreSource::new("c", &connections, server.config(), CoreConfig::new([">"]));
    let reads = Reads::Subjects(vec![">".to_owned()]);
    let config = LettersConfig { reads, ..LettersConfig::new("orders.eu", STREAM) };
    let letters = Arc::new(JetStreamLetters::new(&connections, &server.config(), config).unwrap());
    let mut reader = Reader::open(&Guarded::new(Arc::new(core), letters)).await;
    reader.reason("DeadLetterStreamRefused").await;
    reader.nothing_for(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_stream_that_is_full_says_so_and_takes_letters_again_when_there_is_room() {
    let server = Server::with_jetstream().await;
    let config = stream::Config { max_messages: 1, discard: stream::DiscardPolicy::New, ..users_own() };
    stream(&server, config).await;
    let letters = letters(&server, LettersConfig::new("orders.eu", STREAM));
    add(&letters, &letter(1)).await;
    let full = letters.add(Arc::new(letter(2))).await.unwrap_err();
    assert!(full.is_retryable() && full.to_string().contains("maximum messages exceeded"), "{full}");
    assert!(!full.to_string().contains("hello"), "{full}");
    letters.remove(&letter(1).id).await.unwrap();
    add(&letters, &letter(2)).await;
}

#[tokio::test]
async fn a_user_who_may_not_publish_there_is_told() {
    let user = r#"authorization { users: [
        { user: u, password: p, permissions: { publish: { deny: ["fleet.dead-letters.>"] } } }, { user: a, password: a } ] }"#;
    let server = Server::start(NatsOptions::default().jetstream(true).config(user)).await;
    let url = server.nats.url(Route::Direct);
    let login = |user: &str, password: &str| {
        let password = SecretString::from(password.to_owned());
        NatsConfig::new([&url]).unwrap().auth(Auth::UserPassword { user: user.to_owned(), password })
    };
    let connections = Connections::new();
    let denied = JetStreamLetters::new(&connections, &login("u", "p"), created()).unwrap();
    let error = denied.add(Arc::new(letter(1))).await.unwrap_err().to_string();
    assert!(error.contains("Permissions Violation"), "{error}");
    assert!(error.contains("allow this user to publish to fleet.dead-letters.*.*"), "{error}");
    let allowed = JetStreamLetters::new(&connections, &login("a", "a"), created()).unwrap();
    assert!(ids(&allowed, None, 1).await.is_empty());
    add(&allowed, &letter(1)).await;
}

#[tokio::test]
async fn a_server_that_is_away_or_hangs_is_said_within_the_deadline() {
    let server = Server::with_jetstream().await;
    let letters = letters(&server, created());
    add(&letters, &letter(1)).await;
    for hang in [true, false] {
        if hang {
            server.nats.server().pause().await.unwrap();
        } else {
            server.nats.server().kill().await.unwrap();
        }
        let begun = std::time::Instant::now();
        let error = letters.add(Arc::new(letter(2))).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(letters.get(&letter(1).id).await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
        if hang {
            server.nats.server().resume().await.unwrap();
        } else {
            server.nats.server().start().await.unwrap();
        }
        add(&letters, &letter(2)).await;
        letters.remove(&letter(2).id).await.unwrap();
    }
    assert!(get(&letters, &letter(1).id).await.unwrap() == letter(1));
}

#[tokio::test]
async fn what_is_too_large_for_one_message_is_kept_in_pieces() {
    let server = Server::with_jetstream().await;
    let letters = letters(&server, created());
    // The largest message that a server takes: there is no room for our headers.
    let mut large = letter(1);
    large.raw = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect::<Vec<_>>().into();
    // So many headers that a stream takes no more.
    let mut wordy = letter(2);
    wordy.message.headers = (0..60).map(|number| (format!("h{number:02}"), "x".repeat(1024))).collect();
    wordy.message.headers.push(("z".to_owned(), "x".repeat(3000)));
    let small = letter(3);
    for letter in [&large, &wordy, &small] {
        add(&letters, letter).await;
        // The delivery comes again.
        add(&letters, letter).await;
        assert!(get(&letters, &letter.id).await.unwrap() == *letter);
    }
    let all = letters.list(None, 10).await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(*all[0] == large && *all[1] == wordy && *all[2] == small);
    for letter in [&large, &wordy, &small] {
        assert!(letters.remove(&letter.id).await.unwrap());
    }
    let stream = jetstream::new(server.client().await).get_stream(STREAM).await.unwrap();
    assert_eq!(messages(&stream).await, 0, "no piece stays behind");

    let tight = stream::Config { name: "TIGHT".to_owned(), ..tight() };
    jetstream::new(server.client().await).create_stream(tight).await.unwrap();
    let config = LettersConfig {
        stream: "TIGHT".to_owned(),
        subject: "tight".to_owned(),
        ..LettersConfig::new("orders.eu", "")
    };
    let letters = JetStreamLetters::new(&Connections::new(), &server.config(), config).unwrap();
    let medium = DeadLetter { raw: vec![7; 30_000].into(), ..letter(4) };
    add(&letters, &medium).await;
    assert!(get(&letters, &medium.id).await.unwrap() == medium);
    let huge = letters.add(Arc::new(large)).await;
    assert!(huge.is_ok(), "{huge:?}");
}

fn tight() -> stream::Config {
    stream::Config { subjects: vec!["tight.>".to_owned()], max_message_size: 8192, ..Default::default() }
}
