//! A chart repository over HTTP: files of a folder, with or without TLS, open or by password.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_util::task::AbortOnDropHandle;

pub(crate) const USER: &str = "reader";
pub(crate) const PASSWORD: &str = "s3cret-of-the-repository";

/// A server that ends with it.
pub(crate) struct Repository {
    pub(crate) url: String,
    /// The certificate of the authority, if it speaks TLS.
    pub(crate) ca: Option<String>,
    /// What was asked for.
    asked: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Repository {
    pub(crate) async fn open(folder: &Path) -> Self {
        Self::start(folder, false, false).await
    }

    pub(crate) async fn by_password(folder: &Path) -> Self {
        Self::start(folder, true, false).await
    }

    pub(crate) async fn with_tls(folder: &Path) -> Self {
        Self::start(folder, false, true).await
    }

    async fn start(folder: &Path, password: bool, tls: bool) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, ca) = if tls { Some(certificates()).unzip() } else { (None, None) };
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (folder, told): (PathBuf, _) = (folder.to_owned(), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (folder, told, acceptor) = (folder.clone(), Arc::clone(&told), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => answer(stream, &folder, password, &told).await,
                        Some(acceptor) => {
                            if let Ok(stream) = TlsAcceptor::accept(&acceptor, stream).await {
                                answer(stream, &folder, password, &told).await;
                            }
                        }
                    }
                });
            }
        });
        let scheme = if tls { "https" } else { "http" };
        Self { url: format!("{scheme}://{address}"), ca, asked, _serving: AbortOnDropHandle::new(serving) }
    }

    /// How often charts were fetched.
    pub(crate) async fn pulls(&self) -> usize {
        self.asked.lock().await.iter().filter(|path| path.ends_with(".tgz")).count()
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    folder: &Path,
    password: bool,
    asked: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    asked.lock().await.push(path.clone());
    let shown = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let (status, body) = if password && !request.contains(&format!("Basic {shown}")) {
        ("401 Unauthorized", Vec::new())
    } else {
        match std::fs::read(folder.join(path)) {
            Ok(content) => ("200 OK", content),
            Err(_) => ("404 Not Found", Vec::new()),
        }
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
    let _ = stream.shutdown().await;
}

fn certificates() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

/// Packages the chart in these versions, with an index.
pub(crate) async fn package(helm: &Path, folder: &Path, versions: &[&str]) {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm/chart");
    for version in versions {
        run(
            helm,
            &["package", chart.to_str().unwrap(), "-d", folder.to_str().unwrap(), "--version", version],
            folder,
        )
        .await;
    }
    run(helm, &["repo", "index", folder.to_str().unwrap()], folder).await;
}

/// Runs somebody's helm.
pub(crate) async fn run(helm: &Path, args: &[&str], home: &Path) -> String {
    let output = Command::new(helm)
        .args(args)
        .env("HELM_CACHE_HOME", home.join(".cache"))
        .env("HELM_CONFIG_HOME", home.join(".config"))
        .env("HELM_DATA_HOME", home.join(".data"))
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "helm {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
