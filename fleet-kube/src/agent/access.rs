//! How an agent reaches the hub: a kubeconfig that is read again when it changes, with a token that is renewed in time.

use std::fmt;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::bundle::digest;
use crate::client::{Call, ClusterClient, FIELD_MANAGER, Patience};
use crate::kubeconfig::{self, SelfContained};
use crate::register::{KUBECONFIG_KEY, request_token};

/// How often is looked whether the kubeconfig is another one, or its token is to be renewed.
const LOOK: Duration = Duration::from_secs(5);
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the kubeconfig for the hub is.
#[derive(Clone, Debug)]
pub enum Kept {
    /// In a file. A renewed token goes into a file of the agent's own, which counts until the first one changes.
    File {
        /// The file.
        file: PathBuf,
        /// The agent's own, for itself alone.
        renewed: PathBuf,
    },
    /// In a Secret of the agent's own cluster, under the key `kubeconfig`. A renewed token is written there.
    Secret {
        /// The agent's own cluster.
        own: ClusterClient,
        /// The Secret's namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, .. } => write!(f, "{}", file.display()),
            Self::Secret { namespace, name, .. } => write!(f, "Secret {namespace}/{name}"),
        }
    }
}

/// When a token is renewed, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// After this share of its life, in percent.
    pub after_percent: u8,
    /// The life that is asked for. The hub may make it shorter.
    pub lifetime: Duration,
}

impl Default for Renewal {
    fn default() -> Self {
        Self { after_percent: 50, lifetime: Duration::from_secs(7 * 24 * 3600) }
    }
}

/// The way to the hub. Dropped, nothing is renewed any more.
pub struct HubAccess {
    client: watch::Receiver<Option<ClusterClient>>,
    trouble: watch::Receiver<Option<String>>,
    _task: AbortOnDropHandle<()>,
}

/// Why the hub cannot be asked now. No credentials.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HubError(String);

impl HubError {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl HubAccess {
    /// Follows the kubeconfig. Needs a tokio runtime.
    pub fn start(kept: Kept, renewal: Renewal) -> Self {
        let (publish, client) = watch::channel(None);
        let (tell, trouble) = watch::channel(None);
        let keeper = Keeper { kept, renewal, publish, tell, now: None };
        Self { client, trouble, _task: AbortOnDropHandle::new(tokio::spawn(keeper.run())) }
    }

    /// The client with the credentials that hold now; none until there are any.
    pub fn client(&self) -> watch::Receiver<Option<ClusterClient>> {
        self.client.clone()
    }

    /// What is the matter with the credentials, in a sentence that says what to do.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }
}

struct Keeper {
    kept: Kept,
    renewal: Renewal,
    publish: watch::Sender<Option<ClusterClient>>,
    tell: watch::Sender<Option<String>>,
    now: Option<Held>,
}

/// The kubeconfig that is used.
struct Held {
    text: SecretString,
    contained: SelfContained,
    token: Option<Token>,
}

/// What a service account's token says of itself. Only the hub knows whether that is so.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    namespace: String,
    name: String,
    issued: i64,
    expires: i64,
}

/// What is in the file with a renewed token.
#[derive(Serialize, Deserialize)]
struct Renewed {
    /// Of which kubeconfig.
    of: String,
    kubeconfig: String,
}

impl Keeper {
    async fn run(mut self) {
        let mut patience = Patience::default();
        loop {
            let done = self.step().await;
            let pause = if done.is_ok() { LOOK } else { patience.next().unwrap_or(LOOK) };
            let trouble = done.err().map(|error| error.to_string());
            self.tell.send_if_modified(|told| {
                let news = *told != trouble;
                if let (true, Some(trouble)) = (news, &trouble) {
                    tracing::warn!("the hub: {trouble}");
                }
                *told = trouble;
                news
            });
            sleep(pause).await;
        }
    }

    async fn step(&mut self) -> Result<(), HubError> {
        let read = self.read().await;
        if let Ok(text) = &read
            && self.now.as_ref().is_none_or(|now| now.text.expose_secret() != text.expose_secret())
        {
            self.take(text.clone())?;
        }
        if self.now.is_none() {
            return read.map(drop);
        }
        // What was read once is renewed also while it cannot be read again.
        self.renew().await?;
        read.map(drop)
    }

    /// Uses a kubeconfig from now on.
    fn take(&mut self, text: SecretString) -> Result<(), HubError> {
        let name = self.kept.to_string();
        let unusable = |why: &dyn fmt::Display| HubError(format!("{name}: {why}; register the agent again"));
        let contained = kubeconfig::contained_in_text(&name, &text, Timestamp::now())
            .map_err(|error| unusable(&error))?;
        let client = contained.config().map_err(|fault| unusable(&fault))?;
        let client = ClusterClient::new(client).map_err(|error| unusable(&error))?;
        let token = contained.token().and_then(Token::read);
        self.now = Some(Held { text, contained, token });
        self.publish.send_replace(Some(client));
        Ok(())
    }

    async fn read(&self) -> Result<SecretString, HubError> {
        match &self.kept {
            Kept::File { file, renewed } => {
                let (file, renewed) = (file.clone(), renewed.clone());
                let read = tokio::task::spawn_blocking(move || {
                    let text = std::fs::read_to_string(&file)?;
                    let newer: Option<Renewed> =
                        std::fs::read(&renewed).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                    let newer = newer.filter(|newer| newer.of == digest(text.as_bytes()));
                    Ok::<_, std::io::Error>(newer.map_or(text, |newer| newer.kubeconfig))
                });
                let read = read.await.map_err(|_| HubError::new("reading was interrupted"))?;
                read.map(SecretString::from)
                    .map_err(|error| HubError(format!("{} cannot be read: {error}", self.kept)))
            }
            Kept::Secret { own, namespace, name } => {
                let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
                let answer = own.call(Call::get(path), Instant::now() + DEADLINE).await;
                let answer =
                    answer.map_err(|failure| HubError(format!("{} cannot be read: {failure}", self.kept)))?;
                let secret: Value = serde_json::from_slice(&answer)
                    .map_err(|_| HubError(format!("{} cannot be read", self.kept)))?;
                let text = secret.pointer("/data").and_then(|data| data.get(KUBECONFIG_KEY));
                let text = text.and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
                text.and_then(|text| String::from_utf8(text).ok()).map(SecretString::from).ok_or_else(|| {
                    HubError(format!("{} has no text under its key {KUBECONFIG_KEY}", self.kept))
                })
            }
        }
    }

    /// Renews the token if it is time.
    async fn renew(&mut self) -> Result<(), HubError> {
        let Some(Held { text, contained, token: Some(token) }) = &self.now else { return Ok(()) };
        let life = token.expires.saturating_sub(token.issued);
        let due = token.issued.saturating_add(life / 100 * i64::from(self.renewal.after_percent));
        let now = Timestamp::now().as_second();
        let Some(client) = self.publish.borrow().clone().filter(|_| now >= due) else { return Ok(()) };
        let asked = request_token(&client, &token.namespace, &token.name, self.renewal.lifetime).await;
        let renewed = asked.map_err(|error| match now >= token.expires {
            true => HubError(format!(
                "the token has expired and cannot be renewed: {error}; register the agent again"
            )),
            false => HubError(format!("the token cannot be renewed: {error}; it is tried again")),
        })?;
        let unusable = |fault: kubeconfig::Fault| HubError(fault.to_string());
        let text_now = contained.clone().with_token(renewed.token).to_yaml().map_err(unusable)?;
        let before = text.clone();
        // Kept before it is used: it is the newest, and the one before may be good no longer after the next start.
        self.keep(&before, &text_now).await?;
        self.take(text_now)?;
        tracing::info!("the token for the hub was renewed");
        Ok(())
    }

    async fn keep(&self, before: &SecretString, text: &SecretString) -> Result<(), HubError> {
        let failed = |why: &dyn fmt::Display| {
            HubError(format!("a renewed token cannot be kept in {}: {why}", self.kept))
        };
        match &self.kept {
            Kept::File { file, renewed } => {
                let (file, renewed) = (file.clone(), renewed.clone());
                let (before, kubeconfig) =
                    (digest(before.expose_secret().as_bytes()), text.expose_secret().to_owned());
                let write = move || -> std::io::Result<()> {
                    use std::io::Write as _;
                    let given = digest(&std::fs::read(&file)?);
                    let known: Option<Renewed> =
                        std::fs::read(&renewed).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                    // A kubeconfig that was put there meanwhile is newer than what was renewed.
                    let of = known.map(|known| known.of).filter(|of| *of == given).unwrap_or(before);
                    let staged = renewed.with_extension("new");
                    let mut options = std::fs::OpenOptions::new();
                    let mut to = options.write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
                    to.write_all(&serde_json::to_vec(&Renewed { of, kubeconfig })?)?;
                    to.sync_all()?;
                    std::fs::rename(&staged, &renewed)
                };
                let written = tokio::task::spawn_blocking(write).await;
                written.map_err(|_| failed(&"it was interrupted"))?.map_err(|error| failed(&error))
            }
            Kept::Secret { own, namespace, name } => {
                let path =
                    format!("/api/v1/namespaces/{namespace}/secrets/{name}?fieldManager={FIELD_MANAGER}");
                let body = json!({"data": {(KUBECONFIG_KEY): STANDARD.encode(text.expose_secret())}});
                let call = Call {
                    method: http::Method::PATCH,
                    content_type: Some("application/merge-patch+json"),
                    body: body.to_string().into(),
                    ..Call::get(path)
                };
                own.call(call, Instant::now() + DEADLINE).await.map(drop).map_err(|failure| failed(&failure))
            }
        }
    }
}

impl Token {
    /// Nothing, if it is none of a service account, or does not expire.
    fn read(token: &SecretString) -> Option<Self> {
        #[derive(Deserialize)]
        struct Claims {
            sub: String,
            iat: i64,
            exp: i64,
        }
        let claims = token.expose_secret().split('.').nth(1)?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let account = claims.sub.strip_prefix("system:serviceaccount:")?;
        let (namespace, name) = account.split_once(':')?;
        Some(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            issued: claims.iat,
            expires: claims.exp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_it_is_and_when_it_ends() {
        let token = |claims: &str| SecretString::from(format!("x.{}.y", URL_SAFE_NO_PAD.encode(claims)));
        let read = Token::read(&token(
            r#"{"sub":"system:serviceaccount:civo:fleet-agent-c1","iat":100,"exp":700,"aud":["x"]}"#,
        ));
        let expected =
            Token { namespace: "civo".into(), name: "fleet-agent-c1".into(), issued: 100, expires: 700 };
        assert_eq!(read, Some(expected));
        assert_eq!(Token::read(&token(r#"{"sub":"anna","iat":1,"exp":2}"#)), None);
        assert_eq!(Token::read(&SecretString::from("opaque".to_owned())), None);
    }
}
