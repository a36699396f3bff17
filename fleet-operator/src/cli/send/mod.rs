//! `send`: publishes an event from a file.

mod http;

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use fleet_core::event::Event;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::run::seconds;
use super::{Failure, print};

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(60);
const JSON: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The file that holds the event (or a JSON array of events); `-` is stdin.
    file: PathBuf,
    /// Where to send it: a URL that begins with http://, https://, nats:// or tls://. A nats URL may hold credentials:
    /// nats://user:password@host:4222.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080/events",
        env = "FLEET_URL",
        hide_env_values = true
    )]
    to: SecretString,
    /// The NATS subject to publish to.
    #[arg(long)]
    subject: Option<String>,
    #[command(flatten)]
    http: HttpArgs,
}

/// For an endpoint that asks who sends.
#[derive(Debug, Args)]
#[command(next_help_heading = "Over HTTP")]
struct HttpArgs {
    /// Send the first token of this file (Authorization: Bearer TOKEN).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Trust the server by these authorities (PEM) instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show this client certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The client certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Send again, when the server says when (Retry-After), for so long.
    #[arg(long, value_name = "SECONDS", default_value = "30s", value_parser = seconds)]
    retry_for: Duration,
}

impl HttpArgs {
    fn asks_for_something(&self) -> bool {
        self.token_file.is_some() || self.ca.is_some() || self.cert.is_some()
    }
}

pub(super) async fn send(args: SendArgs) -> Result<(), Failure> {
    let body = read(&args.file)?;
    let to = args.to.expose_secret();
    match to.split_once("://").map(|(scheme, _)| scheme) {
        Some("http" | "https") if args.subject.is_some() => {
            Err(Failure::new("--subject is for NATS; an event's own subject stands in the file"))
        }
        Some("http" | "https") => http::send(to, body, &args.http).await,
        Some("nats" | "tls") if args.http.asks_for_something() => Err(Failure::new(
            "--token-file, --ca and --cert are for https://; NATS takes credentials in the URL",
        )),
        Some("nats" | "tls") => match &args.subject {
            Some(subject) => over_nats(to, subject, body).await,
            None => Err(Failure::new(
                "--subject is missing: the NATS subject to publish to, such as user-operation",
            )),
        },
        _ => Err(Failure::new("--to must begin with http://, https://, nats:// or tls://")),
    }
}

fn read(file: &PathBuf) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut body)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut body))
    };
    match read {
        Ok(_) => Ok(body.into()),
        Err(error) => Err(Failure::new(format!("{} cannot be read: {error}", file.display()))),
    }
}

fn is_batch(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// Only the innermost cause says what happened.
fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

async fn over_nats(to: &str, subject: &str, body: Bytes) -> Result<(), Failure> {
    // Nobody answers over NATS, so what is no event is refused here.
    let events: Vec<Bytes> = if is_batch(&body) {
        let batch = Event::batch_from_json(&body).map_err(|error| Failure::new(error.to_string()))?;
        let event = |(index, (bytes, event)): (usize, (Bytes, Result<Event, _>))| match event {
            Ok(_) => Ok(bytes),
            Err(error) => Err(Failure::new(format!("event {index}: {error}"))),
        };
        batch.into_iter().enumerate().map(event).collect::<Result<_, _>>()?
    } else {
        Event::from_json(&body).map_err(|error| Failure::new(error.to_string()))?;
        vec![body]
    };
    let address: async_nats::ServerAddr =
        to.parse().map_err(|_| Failure::new("--to is no NATS URL such as nats://user:password@host:4222"))?;
    let place = format!("{}:{}", address.host(), address.port());
    let mut options = async_nats::ConnectOptions::new().name("fleet-operator send");
    if let (Some(user), Some(password)) = (address.username(), address.password()) {
        options = options.user_and_password(user.to_owned(), password.to_owned());
    } else if let Some(token) = address.username() {
        options = options.token(token.to_owned());
    }
    let publish = async {
        let fail = |what: &str, error: &dyn std::error::Error| {
            Failure::new(format!("{place} {what}: {}", causes(error)))
        };
        let client = options.connect(address).await.map_err(|error| fail("cannot be reached", &error))?;
        for event in &events {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Content-Type", JSON);
            client
                .publish_with_headers(subject.to_owned(), headers, event.clone())
                .await
                .map_err(|error| fail("did not take the event", &error))?;
        }
        client.flush().await.map_err(|error| fail("did not take the event", &error))?;
        client.drain().await.map_err(|error| fail("did not take the event", &error))
    };
    timeout(PATIENCE, publish)
        .await
        .map_err(|_| Failure::new(format!("{place} did not answer within {} s", PATIENCE.as_secs())))??;
    print("sent");
    Ok(())
}
