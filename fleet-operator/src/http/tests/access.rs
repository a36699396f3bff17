//! Who may send, over real sockets and with real certificates.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use local_fleet::{Authority, Pair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

const OLD: &str = "old-token-0123456789";
const NEW: &str = "new-token-0123456789";
const BILLING: &str = "spiffe://example.com/billing";

/// Files are looked at at once, as far as a test can tell.
fn quick() -> Limits {
    Limits { reread: Duration::from_millis(10), ..Limits::default() }
}

struct Files {
    dir: tempfile::TempDir,
    servers: Authority,
    clients: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
            servers: Authority::new("servers").unwrap(),
            clients: Authority::new("clients").unwrap(),
        };
        files.write("clients.pem", &files.clients.certificate());
        files.serve_as(&files.servers);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As a whole, as a mounted Secret changes.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
        self.path(name)
    }

    fn serve_as(&self, authority: &Authority) {
        let Pair { certificate, key } = authority.server("operator", &[]).unwrap();
        self.write("tls.crt", &certificate);
        self.write("tls.key", &key);
    }

    fn tls(&self, clients: Option<&[&str]>) -> Option<TlsFiles> {
        let clients = clients.map(|names| Clients {
            authorities: self.path("clients.pem"),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        });
        Some(TlsFiles { certificate: self.path("tls.crt"), key: self.path("tls.key"), clients })
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the operator tells in its log, as long as it is kept; of all that runs on this thread.
struct Told {
    lines: Lines,
    _log: tracing::subscriber::DefaultGuard,
}

impl Told {
    fn begin() -> Self {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = subscriber.finish();
        Self { lines, _log: tracing::subscriber::set_default(subscriber) }
    }

    /// Waits until something is told that was not before.
    async fn until(&self, what: &str) {
        eventually(what, async || {
            let mut lines = self.lines.0.lock().unwrap();
            let is_told = String::from_utf8_lossy(&lines).contains(what);
            if is_told {
                lines.clear();
            }
            is_told
        })
        .await;
    }
}

impl Lab {
    async fn connect(
        &self,
        trusts: &Authority,
        shows: Option<&Pair>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusts.certificate().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shows {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
    }

    /// Sends the event over a new connection.
    async fn sends(
        &self,
        trusts: &Authority,
        shows: Option<&Pair>,
        headers: &str,
    ) -> std::io::Result<String> {
        exchange(self.connect(trusts, shows).await?, &event_request("/events", headers)).await
    }

    async fn with_token(&self, token: &str) -> String {
        self.raw(event_request("/events", &format!("Authorization: Bearer {token}\r\n"))).await
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn tokens(path: &Path) -> AccessOptions {
    AccessOptions { tokens: Some(path.to_owned()), ..AccessOptions::default() }
}

#[tokio::test]
async fn without_a_token_nobody_sends() {
    let files = Files::new();
    let lab = lab_of(quick(), &tokens(&files.write("tokens", &format!("{OLD}\n{NEW}\n")))).await;
    lab.store_all().await;
    for token in [OLD, NEW] {
        assert_eq!(status(&lab.with_token(token).await), "202");
    }
    let none = lab.post(JSON, LOGIN).await;
    assert_eq!(status(&none), "401");
    assert!(none.to_lowercase().contains("www-authenticate: bearer realm=\"fleet\"\r\n"), "{none}");
    for wrong in
        ["old-token-012345678", "old-token-01234567890", "old-token-0123456789, old-token-0123456789"]
    {
        let answer = lab.with_token(wrong).await;
        assert!(status(&answer) == "401" && answer.contains("error=\"invalid_token\""), "{answer}");
        assert!(!answer.contains(wrong), "it repeats what may be a secret");
    }
    for odd in
        [format!("Basic {OLD}"), OLD.to_owned(), format!("Bearer {OLD}\r\nAuthorization: Bearer {OLD}")]
    {
        let answer = lab.raw(event_request("/events", &format!("Authorization: {odd}\r\n"))).await;
        assert_eq!(status(&answer), "401");
    }
    // Nobody has to know a token to see whether the operator is well.
    assert_eq!(status(&lab.get("/healthz").await), "200");
    assert!(lab.get("/metrics").await.contains("# EOF"));
}

#[tokio::test]
async fn a_token_may_stand_in_the_address_and_is_told_to_nobody_from_there() {
    let files = Files::new();
    let lab = lab_of(quick(), &tokens(&files.write("tokens", "token/with+0123456789=\n"))).await;
    let mut stream = lab.open("a").await;
    let request = event_request("/events?a=b&access_token=token%2Fwith+0123456789%3D", "");
    let (answer, ()) = tokio::join!(lab.raw(request), async {
        let delivery = delivery(&mut stream).await;
        assert_eq!(delivery.message.subject, "/events");
        assert!(!format!("{:?}", delivery.message.headers).contains("0123456789"));
        delivery.settle.ack().await.unwrap();
    });
    assert_eq!(status(&answer), "202");
    assert!(answer.to_lowercase().contains("cache-control: private"), "{answer}");
    let both = "Authorization: Bearer token/with+0123456789=\r\n";
    let answer = lab.raw(event_request("/events?access_token=token%2Fwith+0123456789%3D", both)).await;
    assert!(status(&answer) == "400" && answer.contains("error=\"invalid_request\""), "{answer}");
    for query in
        ["access_token=", "access_token=wrong", "access_token=a&access_token=token%2Fwith+0123456789%3D"]
    {
        assert_eq!(status(&lab.raw(event_request(&format!("/events?{query}"), "")).await), "401", "{query}");
    }
}

/// Whoever may not send does not even get room for a body.
#[tokio::test]
async fn who_may_not_send_is_refused_before_the_body_is_read() {
    let files = Files::new();
    let limits = Limits { room: 0, body: 10, ..quick() };
    let lab = lab_of(limits, &tokens(&files.write("tokens", OLD))).await;
    let head = "POST /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n";
    assert_eq!(status(&lab.raw(head.to_owned()).await), "401");
}

#[tokio::test]
async fn tokens_are_replaced_while_it_runs() {
    let files = Files::new();
    let path = files.write("tokens", OLD);
    let lab = lab_of(quick(), &tokens(&path)).await;
    lab.store_all().await;
    files.write("tokens", &format!("# until Friday\n{OLD}\n{NEW}\n"));
    eventually("the new one is good", async || status(&lab.with_token(NEW).await) == "202").await;
    assert_eq!(status(&lab.with_token(OLD).await), "202");
    files.write("tokens", NEW);
    eventually("the old one is not", async || status(&lab.with_token(OLD).await) == "401").await;
    // Neither a mistake nor a file that is away for a moment locks anybody out.
    let told = Told::begin();
    files.write("tokens", "short\n");
    told.until("line 1").await;
    assert_eq!(status(&lab.with_token(NEW).await), "202");
    std::fs::remove_file(&path).unwrap();
    told.until("cannot be read").await;
    assert_eq!(status(&lab.with_token(NEW).await), "202");
    files.write("tokens", &format!("{NEW}\nshort\n"));
    told.until("line 2").await;
    assert_eq!(status(&lab.with_token(NEW).await), "202");
    // An empty file is no mistake.
    files.write("tokens", "");
    eventually("nobody may send", async || status(&lab.with_token(NEW).await) == "401").await;
}

#[tokio::test]
async fn over_tls_requests_are_answered_and_plain_ones_are_not() {
    let files = Files::new();
    let lab = lab_of(quick(), &AccessOptions { tls: files.tls(None), ..AccessOptions::default() }).await;
    lab.store_all().await;
    let answer = lab.sends(&files.servers, None, "").await.unwrap();
    assert_eq!(status(&answer), "202");
    let stranger = Authority::new("stranger").unwrap();
    assert!(lab.sends(&stranger, None, "").await.is_err(), "the certificate is somebody else's");
    let plain = exchange(TcpStream::connect(lab.address).await.unwrap(), &event_request("/events", "")).await;
    assert!(!plain.is_ok_and(|answer| answer.contains("HTTP")), "it was answered without TLS");
}

#[tokio::test]
async fn a_client_certificate_lets_send_if_its_authority_and_names_are_right() {
    let files = Files::new();
    let any = lab_of(quick(), &AccessOptions { tls: files.tls(Some(&[])), ..AccessOptions::default() }).await;
    let named = [BILLING, "orders.example.com"];
    let named = AccessOptions { tls: files.tls(Some(&named)), ..AccessOptions::default() };
    let named = lab_of(quick(), &named).await;
    let billing = files.clients.client_named("billing.example.com", BILLING).unwrap();
    let orders = files.clients.client_named("orders.example.com", "spiffe://example.com/other").unwrap();
    let other = files.clients.client_named("other.example.com", "spiffe://example.com/billing2").unwrap();
    // A name alone, which is no alternative name, is not looked at.
    let nameless = files.clients.client(BILLING, "x").unwrap();
    for lab in [&any, &named] {
        lab.store_all().await;
        let answer = lab.sends(&files.servers, None, "").await.unwrap();
        assert!(status(&answer) == "403" && answer.contains("show a client certificate"), "{answer}");
        // TLS 1.3: the client has shaken hands before the server says no.
        let strange = Authority::new("clients").unwrap().client_named("orders.example.com", BILLING).unwrap();
        let answer = lab.sends(&files.servers, Some(&strange), "").await;
        assert!(answer.is_err(), "an authority of the same name signed it: {answer:?}");
        let mut probe = lab.connect(&files.servers, None).await.unwrap();
        let head = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert_eq!(status(&exchange(&mut probe, head).await.unwrap()), "200");
    }
    for (pair, by_any, by_named) in
        [(&billing, "202", "202"), (&orders, "202", "202"), (&other, "202", "403"), (&nameless, "202", "403")]
    {
        assert_eq!(status(&any.sends(&files.servers, Some(pair), "").await.unwrap()), by_any);
        assert_eq!(status(&named.sends(&files.servers, Some(pair), "").await.unwrap()), by_named);
    }
}

#[tokio::test]
async fn a_token_or_a_certificate_is_enough_where_both_are_asked_for() {
    let files = Files::new();
    let access = AccessOptions { tls: files.tls(Some(&[BILLING])), ..tokens(&files.write("tokens", OLD)) };
    let lab = lab_of(quick(), &access).await;
    lab.store_all().await;
    let billing = files.clients.client_named("billing.example.com", BILLING).unwrap();
    let other = files.clients.client_named("other.example.com", "spiffe://example.com/other").unwrap();
    let good = format!("Authorization: Bearer {OLD}\r\n");
    let bad = "Authorization: Bearer wrong\r\n";
    for (pair, headers, expected) in [
        (None, good.as_str(), "202"),
        (Some(&billing), "", "202"),
        (Some(&other), good.as_str(), "202"),
        (None, "", "401"),
        (Some(&other), "", "403"),
        // What is shown has to be good.
        (Some(&billing), bad, "401"),
    ] {
        assert_eq!(status(&lab.sends(&files.servers, pair, headers).await.unwrap()), expected, "{headers}");
    }
}

#[tokio::test]
async fn certificates_are_replaced_while_it_runs_and_who_came_by_the_old_ones_comes_again() {
    let files = Files::new();
    let lab = lab_of(quick(), &AccessOptions { tls: files.tls(Some(&[])), ..AccessOptions::default() }).await;
    lab.store_all().await;
    let client = files.clients.client_named("billing.example.com", BILLING).unwrap();
    let mut kept = lab.connect(&files.servers, Some(&client)).await.unwrap();
    kept.write_all(event_request("/events", "").replace("Connection: close\r\n", "").as_bytes())
        .await
        .unwrap();
    let mut answer = [0; 12];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");

    // While certificate and key do not belong together, the earlier ones are used.
    let next = Authority::new("next").unwrap();
    let Pair { certificate, key } = next.server("operator", &[]).unwrap();
    let told = Told::begin();
    files.write("tls.crt", &certificate);
    told.until("correct it").await;
    assert_eq!(status(&lab.sends(&files.servers, Some(&client), "").await.unwrap()), "202");
    files.write("tls.key", &key);
    eventually("it shows the new one", async || lab.sends(&next, Some(&client), "").await.is_ok()).await;
    let rest = tokio::time::timeout(Duration::from_secs(20), kept.read_to_end(&mut Vec::new())).await;
    assert!(rest.is_ok(), "a connection outlives the certificates that it was made by");

    let others = Authority::new("others").unwrap();
    files.write("clients.pem", &others.certificate());
    eventually("the old client is refused", async || lab.sends(&next, Some(&client), "").await.is_err())
        .await;
    let other = others.client_named("billing.example.com", BILLING).unwrap();
    assert_eq!(status(&lab.sends(&next, Some(&other), "").await.unwrap()), "202");
}

/// Who connects and says nothing, not even hello, holds no place for long.
#[tokio::test]
async fn a_handshake_that_does_not_come_to_its_end_is_given_up() {
    let files = Files::new();
    let limits = Limits { connections: 1, head: Duration::from_millis(50), ..quick() };
    let lab = lab_of(limits, &AccessOptions { tls: files.tls(None), ..AccessOptions::default() }).await;
    lab.store_all().await;
    let _silent = TcpStream::connect(lab.address).await.unwrap();
    let answer = lab.sends(&files.servers, None, "");
    let answer =
        tokio::time::timeout(Duration::from_secs(20), answer).await.expect("the only place is taken");
    assert_eq!(status(&answer.unwrap()), "202");
}

#[test]
fn whoever_lets_others_in_unasked_is_told() {
    let files = Files::new();
    let here = ([127, 0, 0, 1], 8080).into();
    let everywhere = ([0, 0, 0, 0], 8080).into();
    let open = AccessOptions { tls: files.tls(None), ..AccessOptions::default() };
    let in_the_clear = tokens(&files.path("tokens"));
    let closed = AccessOptions { tls: files.tls(None), ..in_the_clear.clone() };
    let certified = AccessOptions { tls: files.tls(Some(&[])), ..AccessOptions::default() };
    assert!(open.caution(everywhere).unwrap().contains("everybody"));
    assert!(in_the_clear.caution(everywhere).unwrap().contains("in the clear"));
    assert_eq!((closed.caution(everywhere), certified.caution(everywhere)), (None, None));
    assert_eq!((open.caution(here), in_the_clear.caution(here)), (None, None));
}

#[test]
fn files_that_cannot_be_used_are_named_and_not_shown() {
    let files = Files::new();
    let tls = |name: &str, text: &str| {
        files.write(name, text);
        Access::open(&AccessOptions { tls: files.tls(Some(&[])), ..AccessOptions::default() }).err()
    };
    let (certificate, key) = (files.servers.certificate(), files.servers.server("other", &[]).unwrap().key);
    let missing = Access::open(&tokens(&files.path("missing"))).err();
    let empty = Access::open(&tokens(&files.write("tokens", "# none\n"))).err();
    let short = Access::open(&tokens(&files.write("tokens", "hunter2\n"))).err();
    let broken = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
    for (error, expected) in [
        (missing, "missing cannot be read"),
        (empty, "holds no token; put one on a line"),
        (short, "tokens cannot be used: line 1 is shorter than 16 characters"),
        (tls("tls.key", "hunter2"), "tls.key holds no private key"),
        (tls("tls.key", broken), "cannot be used together"),
        (tls("tls.key", &key), "cannot be used together"),
        (tls("tls.crt", "hunter2"), "tls.crt holds no certificate"),
        (tls("tls.crt", &certificate), "cannot be used together"),
        (tls("clients.pem", ""), "clients.pem holds no certificate"),
    ] {
        let error = error.unwrap();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    }
}
