//! Who may send events, and over what: from files, which are read again when they change.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{info, warn};

use super::tls::{Tls, TlsError};
use super::tokens::{TokenError, Tokens};
use super::webhook::Webhook;

/// What access is given by.
#[derive(Clone, Debug, Default)]
pub struct AccessOptions {
    /// TLS; `None`: requests come as they are.
    pub tls: Option<TlsFiles>,
    /// A file of bearer tokens, one a line, any of which lets send.
    pub tokens: Option<PathBuf>,
    /// Who is told that it may send webhooks.
    pub webhook: Webhook,
}

impl AccessOptions {
    /// What somebody should know who has this served at an address that others reach.
    pub(crate) fn caution(&self, listen: SocketAddr) -> Option<&'static str> {
        let asks_for_certificates = self.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
        match self {
            _ if listen.ip().is_loopback() => None,
            Self { tokens: None, .. } if !asks_for_certificates => Some(
                "everybody who reaches it may send events; ask for tokens (--token-file) or certificates (--client-ca)",
            ),
            Self { tls: None, .. } => Some(
                "tokens are sent in the clear, unless something before it takes TLS; serve HTTPS (--tls-cert)",
            ),
            _ => None,
        }
    }
}

/// The files that TLS takes, all PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Which client certificates let send.
    pub clients: Option<Clients>,
}

/// Which client certificates let send.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The authorities that sign them.
    pub authorities: PathBuf,
    /// Of their alternative names, DNS names or URIs, one has to be here. Empty: whatever they are called.
    pub names: BTreeSet<String>,
}

/// Why the files do not say who may send.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file of tokens is not as it should be.
    #[error("the token file {} cannot be used: {error}", path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: TokenError,
    },
    /// Nobody could send.
    #[error("the token file {} holds no token; put one on a line", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be made of its files.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How a sender is known, apart from tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// By nothing.
    Unknown,
    /// By a certificate that an authority signed; whether one with its names may send.
    Verified(bool),
}

/// Who may send now.
pub struct Access {
    tokens: Option<Kept<Tokens>>,
    tls: Option<Kept<Arc<Tls>>>,
    asks_for_certificates: bool,
    pub(super) webhook: Webhook,
}

impl Access {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn open(options: &AccessOptions) -> Result<Self, AccessError> {
        let tokens = options.tokens.as_ref().map(|path| Kept::open(vec![path.clone()], tokens_of(path)));
        let tokens = tokens.transpose()?;
        if let (Some(path), Some(tokens)) = (&options.tokens, &tokens)
            && tokens.current.borrow().is_empty()
        {
            return Err(AccessError::NoToken { path: path.clone() });
        }
        let tls = options.tls.as_ref().map(|files| {
            let mut paths = vec![files.certificate.clone(), files.key.clone()];
            paths.extend(files.clients.as_ref().map(|clients| clients.authorities.clone()));
            let files = files.clone();
            Kept::open(paths, Box::new(move |texts| Ok(Arc::new(Tls::new(&files, texts)?))))
        });
        let asks_for_certificates = options.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
        let webhook = options.webhook.clone();
        Ok(Self { tokens, tls: tls.transpose()?, asks_for_certificates, webhook })
    }

    /// The tokens that let send now; `None`: none are asked for.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        self.tokens.as_ref().map(|kept| kept.current.borrow().clone())
    }

    /// What a connection is taken over with now; `None`: it comes as it is.
    pub(super) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.as_ref().map(|kept| Arc::clone(&kept.current.borrow()))
    }

    pub(super) fn asks_for_certificates(&self) -> bool {
        self.asks_for_certificates
    }

    /// Reads the files again and again, for as long as it is polled. It never ends.
    pub(super) async fn follow(&self, every: Duration) {
        let tokens = async {
            match &self.tokens {
                Some(kept) => kept.follow(every, |_| {}).await,
                None => std::future::pending().await,
            }
        };
        let tls = async {
            match &self.tls {
                // Who was let in by what does not hold any more comes again.
                Some(kept) => kept.follow(every, |old| old.retire()).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(tokens, tls);
    }
}

fn tokens_of(path: &Path) -> Make<Tokens> {
    let path = path.to_owned();
    Box::new(move |texts| {
        let text = texts.first().map_or(&[][..], Vec::as_slice);
        Tokens::parse(text).map_err(|error| AccessError::Tokens { path: path.clone(), error })
    })
}

type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, AccessError> + Send + Sync>;

/// What is made of files, and made anew when they change. What was made last holds while they cannot be used.
struct Kept<T> {
    paths: Vec<PathBuf>,
    make: Make<T>,
    at_first: [u8; 32],
    current: watch::Sender<T>,
}

impl<T> Kept<T> {
    fn open(paths: Vec<PathBuf>, make: Make<T>) -> Result<Self, AccessError> {
        let texts = paths.iter().map(|path| std::fs::read(path).map_err(unreadable(path)));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let current = watch::Sender::new(make(&texts)?);
        Ok(Self { paths, make, at_first: digest(&texts), current })
    }

    async fn follow(&self, every: Duration, replaced: impl Fn(&T)) {
        let mut seen = self.at_first;
        let mut told = String::new();
        loop {
            tokio::time::sleep(every).await;
            let made = match self.read().await {
                Ok(texts) if digest(&texts) == seen => {
                    told.clear();
                    continue;
                }
                Ok(texts) => (self.make)(&texts).map(|made| (made, digest(&texts))),
                Err(error) => Err(error),
            };
            match made {
                Ok((made, digest)) => {
                    seen = digest;
                    told.clear();
                    info!("{} changed, and is used from now on", self.named());
                    replaced(&self.current.send_replace(made));
                }
                Err(error) => {
                    let error = causes(&error);
                    if error != told {
                        warn!("{error}; correct it: until then, what was read before still lets in");
                        told = error;
                    }
                }
            }
        }
    }

    async fn read(&self) -> Result<Vec<Vec<u8>>, AccessError> {
        let mut texts = Vec::new();
        for path in &self.paths {
            texts.push(tokio::fs::read(path).await.map_err(unreadable(path))?);
        }
        Ok(texts)
    }

    fn named(&self) -> String {
        self.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
    }
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> AccessError {
    let path = path.to_owned();
    move |source| AccessError::Read { path, source }
}

/// A secret is not kept only to see that it changed.
fn digest(texts: &[Vec<u8>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

fn causes(error: &AccessError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
