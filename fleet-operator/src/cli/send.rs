//! `send`: publishes an event from a file.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::to_bytes;
use bytes::Bytes;
use clap::Args;
use fleet_core::event::Event;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

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
}

pub(super) async fn send(args: SendArgs) -> Result<(), Failure> {
    let body = read(&args.file)?;
    let to = args.to.expose_secret();
    match to.split_once("://").map(|(scheme, _)| scheme) {
        Some("http" | "https") if args.subject.is_some() => {
            Err(Failure::new("--subject is for NATS; an event's own subject stands in the file"))
        }
        Some("http" | "https") => over_http(to, body).await,
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

async fn over_http(to: &str, body: Bytes) -> Result<(), Failure> {
    let uri: Uri = to.parse().map_err(|error| Failure::new(format!("--to is no URL: {error}")))?;
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(10)));
    if uri.scheme_str() == Some("https") {
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| Failure::new(format!("the system's certificates cannot be read: {error}")))?;
        post(tls.https_only().enable_http1().wrap_connector(tcp), uri, body).await
    } else {
        post(tcp, uri, body).await
    }
}

async fn post<C: Connect + Clone + Send + Sync + 'static>(
    connector: C,
    uri: Uri,
    body: Bytes,
) -> Result<(), Failure> {
    let place =
        format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
    let content_type = if is_batch(&body) { BATCH } else { JSON };
    let request = Request::post(uri)
        .header(CONTENT_TYPE, content_type)
        .body(Full::new(body))
        .map_err(|error| Failure::new(format!("--to is no URL: {error}")))?;
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let exchange = async {
        let response = client.request(request).await.map_err(|error| {
            let hint = if error.is_connect() { "; is the operator running there?" } else { "" };
            Failure::new(format!("{place} cannot be reached: {}{hint}", causes(&error)))
        })?;
        let status = response.status();
        const LONGEST: usize = 64 * 1024;
        let answer = to_bytes(axum::body::Body::new(response.into_body()), LONGEST).await.unwrap_or_default();
        Ok((status, answer))
    };
    let (status, answer) = timeout(PATIENCE, exchange)
        .await
        .map_err(|_| Failure::new(format!("{place} did not answer within {} s", PATIENCE.as_secs())))??;
    if status.is_success() {
        print(if status == StatusCode::ACCEPTED { "accepted: the event is stored" } else { "sent" });
        return Ok(());
    }
    Err(Failure::new(format!("{place} answered {status}{}", detail(&answer))))
}

/// What a problem document (RFC 9457) says, event by event.
fn detail(answer: &[u8]) -> String {
    let Ok(problem) = serde_json::from_slice::<serde_json::Value>(answer) else {
        return String::new();
    };
    let mut text =
        problem.get("detail").and_then(|detail| detail.as_str()).map_or(String::new(), |d| format!(": {d}"));
    for event in problem.get("events").and_then(|events| events.as_array()).into_iter().flatten() {
        let index = event.get("index").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let detail = event.get("detail").and_then(|detail| detail.as_str()).unwrap_or_default();
        text.push_str(&format!("\n  event {index}: {detail}"));
    }
    text
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
