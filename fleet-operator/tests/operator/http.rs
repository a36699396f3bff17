//! Events over HTTP as in production: who may send, and what is promised to whoever sends too much.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use local_fleet::Authority;

use crate::process::{Home, PROGRAM, event, eventually, example};

const TOKEN: &str = "a-token-0123456789";

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `send` with a file of the quickstart.
fn send(url: &str, args: &[&str]) -> Output {
    let file = example("quickstart").join("login.json");
    Command::new(PROGRAM).arg("send").arg(file).args(["--to", url]).args(args).output().unwrap()
}

#[test]
fn send_shows_who_it_is_over_tls() {
    let home = Home::with("quickstart");
    let keys = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        std::fs::write(keys.path().join(name), text).unwrap();
        keys.path().join(name)
    };
    let (servers, clients) = (Authority::new("servers").unwrap(), Authority::new("clients").unwrap());
    let server = servers.server("operator", &[]).unwrap();
    let client = clients.client_named("billing.example.com", "spiffe://example.com/billing").unwrap();
    let ca = file("ca.pem", &servers.certificate());
    let (cert, key) = (file("client.pem", &client.certificate), file("client.key", &client.key));
    let (token, wrong) = (file("token", &format!("# mine\n{TOKEN}\n")), file("wrong", "another-0123456789"));
    let operator = home.launch(|run| {
        run.arg(home.folder())
            .arg("--tls-cert")
            .arg(file("server.pem", &server.certificate))
            .arg("--tls-key")
            .arg(file("server.key", &server.key))
            .arg("--client-ca")
            .arg(file("clients.pem", &clients.certificate()))
            .args(["--client-name", "billing.example.com", "--token-file"])
            .arg(file("tokens", TOKEN))
    });
    assert!(operator.url.starts_with("https://"), "{}", operator.greeting);
    assert!(operator.greeting.contains("--token-file"), "{}", operator.greeting);
    let [ca, cert, key, token, wrong] = [&ca, &cert, &key, &token, &wrong].map(|path| path.to_str().unwrap());
    // It sends again until the operator has loaded.
    let output = send(&operator.url, &["--ca", ca, "--token-file", token]);
    assert!(output.status.success(), "{}\n{}", told(&output), home.log());
    let output = send(&operator.url, &["--ca", ca, "--cert", cert, "--key", key]);
    assert!(output.status.success(), "{}", told(&output));
    for (args, expected) in [
        (&["--ca", ca][..], "401 Unauthorized: send a token"),
        (&["--ca", ca, "--token-file", wrong], "401 Unauthorized: the token is none of those"),
        (&["--token-file", token], "cannot be reached"),
    ] {
        let output = send(&operator.url, args);
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains(expected), "{}", told(&output));
        assert!(!told(&output).contains("0123456789"), "it shows a token");
    }
    eventually("the namespace is there", || {
        home.namespace_file("cluster1", "mgianluc").exists().then_some(())
    });
    assert!(operator.stop().success());
    assert!(!home.log().contains("0123456789"), "a token is logged:\n{}", home.log());
}

#[test]
fn an_operator_that_cannot_tell_who_may_send_does_not_start() {
    let home = Home::with("quickstart");
    let output = home.command().arg(home.folder()).args(["--token-file", "/nowhere"]).output().unwrap();
    assert!(!output.status.success());
    assert!(home.log().contains("who may send events") && home.log().contains("/nowhere"), "{}", home.log());
}

#[test]
fn send_comes_again_when_it_is_told_to() {
    let home = Home::with("quickstart");
    let source = home.folder().join("event-source.yaml");
    let kept = home.folder().join("event-source.later");
    std::fs::rename(&source, &kept).unwrap();
    let operator = home.start();
    let output = send(&operator.url, &["--retry-for", "0s"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("no EventSource takes events over HTTP"), "{}", told(&output));
    let file = example("quickstart").join("login.json");
    let mut sending = Command::new(PROGRAM)
        .arg("send")
        .arg(file)
        .args(["--to", &operator.url])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    sending.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"note:", "it waits without a word");
    std::fs::rename(&kept, &source).unwrap();
    let output = sending.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{}", told(&output), home.log());
}

/// A request and its answer, over a connection of its own.
fn post(address: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(40)))?;
    let length = body.len();
    write!(
        stream,
        "POST /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/cloudevents+json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// All room for bodies is taken by senders that are slow; then it is free, and the operator dies in the middle of a flood.
#[test]
fn a_flood_is_told_to_wait_and_what_was_accepted_outlives_a_kill() {
    const SENDERS: usize = 16;
    let home = Home::with("quickstart");
    let operator = home.start();
    let address = operator.url.trim_start_matches("http://").trim_end_matches("/events").to_owned();
    eventually("it takes events", || {
        let answer = post(&address, &event("login", "first")).unwrap();
        (status(&answer) == "202").then_some(())
    });
    // 64 MiB are announced, and do not come. The server says that it goes on once there is room.
    let slow: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            let head = "POST /events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length";
            write!(stream, "{head}: {}\r\n\r\n", 1 << 20).unwrap();
            let mut goes_on = [0; 12];
            stream.read_exact(&mut goes_on).unwrap();
            assert_eq!(&goes_on, b"HTTP/1.1 100");
            stream
        })
        .collect();
    let answer = post(&address, &event("login", "second")).unwrap();
    assert_eq!(status(&answer), "429", "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");

    let (accepted, throttled, odd) =
        (Mutex::new(BTreeSet::new()), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let dead = AtomicBool::new(false);
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (accepted, throttled, odd, dead, address) = (&accepted, &throttled, &odd, &dead, &address);
            scope.spawn(move || {
                for number in 0.. {
                    let name = format!("user-{sender}-{number}");
                    loop {
                        if dead.load(Ordering::Relaxed) {
                            return;
                        }
                        match post(address, &event("login", &name)) {
                            Ok(answer) if status(&answer) == "202" => {
                                accepted.lock().unwrap().insert(name);
                                break;
                            }
                            Ok(answer) if status(&answer) == "429" => {
                                throttled.fetch_add(1, Ordering::Relaxed);
                                thread::sleep(Duration::from_millis(20));
                            }
                            // It was killed before it answered: nothing is promised.
                            Ok(answer) if answer.is_empty() => return,
                            Err(_) => return,
                            Ok(answer) => {
                                odd.lock().unwrap().push(answer);
                                return;
                            }
                        }
                    }
                }
            });
        }
        eventually("all are told to wait", || (throttled.load(Ordering::Relaxed) > 100).then_some(()));
        assert!(accepted.lock().unwrap().is_empty(), "there was room");
        drop(slow);
        eventually("they are let in", || (accepted.lock().unwrap().len() > 300).then_some(()));
        operator.kill();
        dead.store(true, Ordering::Relaxed);
    });
    let odd = odd.into_inner().unwrap();
    assert!(odd.is_empty(), "{odd:?}");
    let accepted = accepted.into_inner().unwrap();
    println!("{} accepted, {} times told to wait", accepted.len(), throttled.into_inner());

    let _again = home.start();
    for name in &accepted {
        for cluster in ["cluster1", "cluster2"] {
            eventually(&format!("{name} in {cluster}\n{}", home.log()), || {
                home.namespace_file(cluster, name).exists().then_some(())
            });
        }
    }
}
