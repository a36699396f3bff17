//! Over HTTP, to this operator or any other endpoint that takes CloudEvents.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::to_bytes;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use super::super::Failure;
use super::super::terminal::{note, print};
use super::{BATCH, HttpArgs, JSON, PATIENCE, causes, is_batch};

pub(super) async fn send(to: &str, body: Bytes, args: &HttpArgs) -> Result<(), Failure> {
    let uri: Uri = to.parse().map_err(|error| Failure::new(format!("--to is no URL: {error}")))?;
    let token = args.token_file.as_deref().map(token).transpose()?;
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(10)));
    if uri.scheme_str() == Some("https") {
        tcp.enforce_http(false);
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls(args)?).https_only().enable_http1();
        return post(tls.wrap_connector(tcp), uri, body, token, args.retry_for).await;
    }
    if args.ca.is_some() || args.cert.is_some() {
        return Err(Failure::new("--ca and --cert are for https://"));
    }
    post(tcp, uri, body, token, args.retry_for).await
}

fn tls(args: &HttpArgs) -> Result<ClientConfig, Failure> {
    let fault = |error: rustls::Error| Failure::new(format!("TLS cannot be used: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(fault)?;
    let builder = match &args.ca {
        None => builder
            .with_native_roots()
            .map_err(|error| Failure::new(format!("the system's certificates cannot be read: {error}")))?,
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots
                    .add(certificate)
                    .map_err(|error| Failure::new(format!("--ca {}: {error}", file.display())))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    match args.cert.as_deref().zip(args.key.as_deref()) {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let pem = read(key)?;
            let private = PrivateKeyDer::from_pem_slice(&pem)
                .map_err(|_| Failure::new(format!("{} holds no private key (PEM)", key.display())))?;
            builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|error| {
                let (certificate, key) = (certificate.display(), key.display());
                Failure::new(format!("{certificate} and {key} cannot be used together: {error}"))
            })
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = read(file)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(Failure::new(format!("{} holds no certificate that can be read (PEM)", file.display()))),
    }
}

/// The first line of the file that is a token.
fn token(file: &Path) -> Result<HeaderValue, Failure> {
    let text = read(file)?;
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let token = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with(b"#"));
    let Some(token) = token else {
        return Err(Failure::new(format!("{} holds no token", file.display())));
    };
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| Failure::new(format!("{} holds no token that a header can hold", file.display())))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())))
}

async fn post<C: Connect + Clone + Send + Sync + 'static>(
    connector: C,
    uri: Uri,
    body: Bytes,
    token: Option<HeaderValue>,
    retry_for: Duration,
) -> Result<(), Failure> {
    let place =
        format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
    let content_type = if is_batch(&body) { BATCH } else { JSON };
    let mut request = Request::post(uri).header(CONTENT_TYPE, content_type);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    let request =
        request.body(Full::new(body)).map_err(|error| Failure::new(format!("--to is no URL: {error}")))?;
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let begun = Instant::now();
    loop {
        let answer = timeout(PATIENCE, exchange(&client, request.clone(), &place))
            .await
            .map_err(|_| Failure::new(format!("{place} did not answer within {} s", PATIENCE.as_secs())))??;
        if answer.status.is_success() {
            let stored = answer.status == StatusCode::ACCEPTED;
            print(if stored { "accepted: the event is stored" } else { "sent" });
            return Ok(());
        }
        let said = format!("{place} answered {}{}", answer.status, detail(&answer.body));
        match answer.again_after {
            Some(pause) if begun.elapsed() + pause <= retry_for => {
                note(&format!("{said}; it is sent again in {} s", pause.as_secs()));
                tokio::time::sleep(pause).await;
            }
            _ => return Err(Failure::new(said)),
        }
    }
}

struct Answer {
    status: StatusCode,
    /// When it may be sent again, if the server says so.
    again_after: Option<Duration>,
    body: Bytes,
}

async fn exchange<C: Connect + Clone + Send + Sync + 'static>(
    client: &Client<C, Full<Bytes>>,
    request: Request<Full<Bytes>>,
    place: &str,
) -> Result<Answer, Failure> {
    const LONGEST: usize = 64 * 1024;
    let response = client.request(request).await.map_err(|error| {
        let hint = if error.is_connect() { "; is the operator running there?" } else { "" };
        Failure::new(format!("{place} cannot be reached: {}{hint}", causes(&error)))
    })?;
    let status = response.status();
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let again_after = seconds.filter(|_| busy).map(Duration::from_secs);
    let body = to_bytes(axum::body::Body::new(response.into_body()), LONGEST).await.unwrap_or_default();
    Ok(Answer { status, again_after, body })
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
