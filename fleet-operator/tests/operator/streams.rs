//! What an EventSource can ask of JetStream: to deliver everything again, and to keep what cannot be processed.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use local_fleet::{Nats, NatsOptions, Route};

use crate::process::{Home, Operator, event, eventually};

/// The quickstart, with events from a stream of a real server instead of HTTP.
struct Rig {
    // Dropped before the runtime that looks after its process.
    _nats: Nats,
    context: jetstream::Context,
    home: Home,
    _dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new(spec: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (nats, context) = runtime.block_on(async {
            let nats = Nats::start(dir.path(), &NatsOptions::default().jetstream(true)).await.unwrap();
            let context = jetstream::new(async_nats::connect(nats.url(Route::Direct)).await.unwrap());
            let users = stream::Config {
                name: "users".to_owned(),
                subjects: vec!["users".to_owned()],
                ..Default::default()
            };
            context.create_stream(users).await.unwrap();
            (nats, context)
        });
        let home = Home::with("quickstart");
        let url = nats.url(Route::Direct);
        let from_stream = format!("  nats: {{urls: [{url:?}], jetStream: {{stream: users}}}}\n{spec}");
        home.edit("event-source.yaml", "  http: {}\n", &from_stream);
        Self { _nats: nats, context, home, _dir: dir, runtime }
    }

    fn publish(&self, message: &str) {
        let headers = async_nats::HeaderMap::from_iter([("trace".parse().unwrap(), "a%41".parse().unwrap())]);
        self.runtime.block_on(async {
            let sent = self.context.publish_with_headers("users", headers, message.to_owned().into());
            sent.await.unwrap().await.unwrap();
        });
    }

    fn log_in(&self, user: &str) {
        self.publish(&event("login", user));
    }

    fn arrives(&self, user: &str) {
        let file = self.home.namespace_file("cluster1", user);
        eventually(&format!("{user} arrives\n{}", self.home.log()), || file.exists().then_some(()));
    }

    fn is_there(&self, user: &str) -> bool {
        self.home.namespace_file("cluster1", user).exists()
    }

    /// Reason and message of the source's condition, once it is as asked for.
    fn source(&self, ready: bool, reason: &str) -> String {
        eventually(&format!("the source is ready: {ready}, {reason}\n{}", self.home.log()), || {
            let row = self.home.show("sources").remove(0);
            (row["ready"] == ready && row["reason"] == reason).then(|| row["message"].to_string())
        })
    }
}

fn counted(operator: &Operator<'_>, what: &str) -> u64 {
    let (_, metrics) = operator.get("metrics");
    let line = metrics.lines().find(|line| line.contains(&format!("{what}_total ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[test]
fn a_replay_processes_again_what_else_would_be_a_duplicate() {
    let rig = Rig::new("  dedupe: {by: sourceId, window: 1h}\n  replay: 0\n");
    let operator = rig.home.start();
    rig.log_in("anna");
    rig.publish(&event("logout", "anna"));
    rig.log_in("berta");
    rig.arrives("berta");
    rig.arrives("anna");
    let counts = || ["events_stored", "events_duplicate"].map(|what| counted(&operator, what));
    eventually("the logout counts as a repetition: it has the id of the login", || {
        (counts() == [2, 1]).then_some(())
    });
    rig.home.edit("event-source.yaml", "replay: 0", "replay: 1");
    eventually(&format!("all is processed again\n{}", rig.home.log()), || (counts() == [4, 2]).then_some(()));
    assert!(operator.stop().success());
}

#[test]
fn a_replay_processes_everything_again_and_ends_where_it_was() {
    let rig = Rig::new("  replay: 0\n");
    let operator = rig.home.start();
    rig.log_in("anna");
    rig.arrives("anna");
    rig.publish(&event("logout", "anna"));
    rig.log_in("berta");
    rig.publish(&event("logout", "berta"));
    rig.log_in("berta");
    rig.log_in("clara");
    rig.arrives("clara");
    eventually("anna is gone", || (!rig.is_there("anna")).then_some(()));
    eventually("all are processed", || (counted(&operator, "events_stored") == 6).then_some(()));

    rig.home.edit("event-source.yaml", "replay: 0", "replay: 1");
    eventually(&format!("all is processed again\n{}", rig.home.log()), || {
        (counted(&operator, "events_stored") == 12).then_some(())
    });
    // What comes after it is processed after it.
    rig.log_in("dora");
    rig.arrives("dora");
    eventually("each is as its last event says", || {
        (!rig.is_there("anna") && rig.is_there("berta") && rig.is_there("clara")).then_some(())
    });
    assert_eq!(counted(&operator, "events_superseded"), 0);
    assert!(operator.stop().success());

    let operator = rig.home.start();
    rig.log_in("emma");
    rig.arrives("emma");
    assert!(counted(&operator, "events_stored") <= 1, "a restart is no replay");

    rig.home.edit("event-source.yaml", "replay: 1", "replay: 0");
    eventually(&format!("it is told\n{}", rig.home.log()), || {
        rig.home.log().contains("spec.replay: may only grow, and was 1").then_some(())
    });
    rig.log_in("frieda");
    rig.arrives("frieda");
    assert!(operator.stop().success());
}

#[test]
fn dead_letters_go_where_the_source_says_and_nothing_is_read_before_they_can() {
    let letters = "  deadLetter: {jetStream: {stream: dead, subject: dead}}\n";
    let rig = Rig::new(letters);
    let operator = rig.home.start();
    let message = rig.source(false, "StreamNotFound");
    assert!(message.contains("stream dead does not exist; create it, or set create: true"), "{message}");
    rig.publish("no event");
    rig.log_in("anna");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(counted(&operator, "events_received"), 0, "nothing is read");

    rig.home.edit("event-source.yaml", "subject: dead}", "subject: dead, create: true}");
    rig.arrives("anna");
    rig.source(true, "Connected");
    let kept = eventually("the letter is in the stream", || {
        rig.runtime.block_on(async {
            let mut stream = rig.context.get_stream("dead").await.ok()?;
            let last = stream.info().await.ok()?.state.last_sequence;
            stream.get_raw_message(last).await.ok()
        })
    });
    assert_eq!(&*kept.payload, b"no event");
    let header = |name: &str| kept.headers.get(name).map(ToString::to_string);
    assert_eq!(header("trace").as_deref(), Some("a%41"));
    assert_eq!(header("Fleet-Dead-Letter-Reason").as_deref(), Some("NotACloudEvent"));
    assert_eq!(header("Fleet-Dead-Letter-Subject").as_deref(), Some("users"));

    // The stream takes no more: what is bad is not acknowledged, and what is good goes on.
    let room_for = |letters: i64| {
        rig.runtime.block_on(async {
            let made = rig.context.get_stream("dead").await.unwrap().get_info().await.unwrap().config;
            rig.context.update_stream(stream::Config { max_messages: letters, ..made }).await.unwrap();
        });
    };
    room_for(1);
    rig.publish("no event either");
    rig.log_in("berta");
    rig.arrives("berta");
    let pending = || {
        rig.runtime.block_on(async {
            let stream = rig.context.get_stream("users").await.unwrap();
            stream.consumer_info("fleet-user-operation").await.unwrap().num_ack_pending
        })
    };
    eventually("berta's is acknowledged", || (pending() == 1).then_some(()));
    assert_eq!(counted(&operator, "dead_letters"), 1, "nothing is acknowledged that is not kept");
    room_for(-1);
    eventually(&format!("the letter is kept after all\n{}", rig.home.log()), || {
        (pending() == 0 && counted(&operator, "dead_letters") == 2).then_some(())
    });

    // The same list and commands as for letters in the operator's own store.
    let listed = rig.home.dead_letters();
    let ids: Vec<&str> = listed.iter().filter_map(|letter| letter["id"].as_str()).collect();
    assert_eq!(ids.len(), 2, "{listed:?}");
    assert!(listed.iter().all(|letter| letter["reason"] == "NotACloudEvent"), "{listed:?}");
    let shown = rig.home.cli(&["dead-letters", "show", ids[0]]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("no event"), "{shown:?}");
    let resent = rig.home.cli(&["dead-letters", "resend", ids[0]]);
    assert!(String::from_utf8_lossy(&resent.stdout).contains("Refused"), "{resent:?}");
    assert_eq!(rig.home.dead_letters().len(), 2, "it is still no event, and still kept");
    assert!(rig.home.cli(&["dead-letters", "drop", ids[0]]).status.success());
    assert_eq!(rig.home.dead_letters()[0]["id"], ids[1]);
    assert!(operator.stop().success());
}

/// It counts from when the server took the message, whenever it is read.
#[test]
fn a_key_that_is_not_renewed_goes_by_itself() {
    const TTL: Duration = Duration::from_secs(5);
    let rig = Rig::new("");
    rig.home.edit("event-trigger.yaml", "  oneForEvent: true\n", "  oneForEvent: true\n  ttl: 5s\n");
    rig.log_in("anna");
    let published = Instant::now();
    eventually("anna's time is over", || (published.elapsed() > TTL).then_some(()));
    let operator = rig.home.start();
    eventually("anna came too late", || (counted(&operator, "keys_expired") == 1).then_some(()));
    assert!(!rig.is_there("anna"));
    rig.log_in("berta");
    rig.arrives("berta");
    eventually("berta goes", || (!rig.is_there("berta")).then_some(()));
    eventually("both are counted", || (counted(&operator, "keys_expired") == 2).then_some(()));
    assert!(operator.stop().success());
}

/// One list of all users, over a restart too.
#[test]
fn keys_that_are_rendered_together_are_one_object() {
    let rig = Rig::new("");
    rig.home.edit("event-trigger.yaml", "oneForEvent: true", "oneForEvent: false");
    rig.home.edit(
        "event-trigger.yaml",
        "      name: {{ event.subject }}\n",
        "      name: users\n      annotations:\n    {% for it in events %}\n        example.com/{{ it.event.subject }}: {{ it.event.id }}\n    {% endfor %}\n",
    );
    let users = || {
        let text = std::fs::read_to_string(rig.home.namespace_file("cluster1", "users")).unwrap_or_default();
        let users = ["anna", "berta", "clara"].into_iter().filter(|user| text.contains(*user));
        users.collect::<Vec<_>>().join(" ")
    };
    let they_are = |wanted: &str| {
        eventually(&format!("{wanted:?} are listed\n{}", rig.home.log()), || {
            (users() == wanted).then_some(())
        });
    };
    let operator = rig.home.start();
    rig.log_in("anna");
    rig.log_in("berta");
    they_are("anna berta");
    rig.publish(&event("logout", "anna"));
    they_are("berta");
    assert!(operator.stop().success());
    rig.log_in("clara");
    let operator = rig.home.start();
    they_are("berta clara");
    for user in ["berta", "clara"] {
        rig.publish(&event("logout", user));
    }
    eventually("nothing is left", || (!rig.is_there("users")).then_some(()));
    assert!(operator.stop().success());
}

/// The operator is away for longer than a key lives; what renewed it meanwhile counts.
#[test]
fn a_key_that_was_renewed_while_nobody_ran_does_not_expire() {
    let rig = Rig::new("");
    rig.home.edit("event-trigger.yaml", "oneForEvent: true", "oneForEvent: true\n  ttl: 4s");
    let operator = rig.home.start();
    rig.log_in("anna");
    rig.log_in("berta");
    rig.arrives("anna");
    rig.arrives("berta");
    let file = rig.home.namespace_file("cluster1", "anna");
    let made = std::fs::read_to_string(&file).unwrap();
    assert!(operator.stop().success());
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1500));
        rig.log_in("anna");
    }
    let operator = rig.home.start();
    eventually(&format!("berta's time is over\n{}", rig.home.log()), || {
        (!rig.is_there("berta")).then_some(())
    });
    // Berta was not deleted before everything was read.
    let now = std::fs::read_to_string(&file).unwrap_or_default();
    let uid = |text: &str| text.lines().find(|line| line.contains("/uid:")).map(str::to_owned);
    assert_eq!(uid(&now), uid(&made), "anna was never gone\n{}", rig.home.log());
    eventually("anna's time comes", || (!rig.is_there("anna")).then_some(()));
    assert_eq!(counted(&operator, "keys_expired"), 2);
    assert!(operator.stop().success());
}
