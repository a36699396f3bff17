//! Dead letters in a stream of JetStream.
//!
//! A letter is the original message, body untouched, under the subject `<prefix>.<source>.<id>` (source and id are one
//! token each, percent-encoded), with its own headers and these of ours, percent-encoded where a header needs it:
//!
//! | header | what it holds |
//! |---|---|
//! | `Fleet-Dead-Letter-Id` | the letter's id; also `Nats-Msg-Id`, so that a redelivery does not double it |
//! | `Fleet-Dead-Letter-Source` `-Trigger` | the EventSource, and the trigger that refused it, if one did |
//! | `Fleet-Dead-Letter-Reason` `-Detail` | one word, and what was wrong and what to do |
//! | `Fleet-Dead-Letter-Time` | when it was refused |
//! | `Fleet-Dead-Letter-Position` `-Origin` `-Subject` | its place in the source's feed, the cluster it came from, its original subject |
//! | `Fleet-Dead-Letter-Headers` | all original headers as JSON, where the message's own do not say all: those that begin with `Nats-` would tell the stream to do something, so they are only here |
//!
//! A letter that is too large for one message (the server's `max_payload`, the stream's `max_msg_size`, or 64 KiB of
//! headers) is written as JSON, original bytes in base64, in pieces: the first under the letter's subject, with
//! `Fleet-Dead-Letter-Pieces`, the others under the same subject and `~1`, `~2` and so on. Without that it could never
//! be kept, and its message would come again for ever.
//!
//! Sources may share a stream, with the same prefix too: each has a box of its own in it.

mod config;
mod guard;
mod message;
mod place;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::{Context, stream};
use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, Request};
use async_trait::async_trait;
use fleet_core::dead_letter::{DeadLetter, DeadLetterBox};
use fleet_core::store::StoreError;
use futures::{StreamExt, TryStreamExt, stream as futures_stream};
use serde::Deserialize;

pub use self::config::{LettersConfig, Reads};
pub use self::guard::Guarded;

use self::message::{Content, Read, Unreadable, Written};
use crate::connection::{ConfigError, Connection, Connections, Link, NatsConfig, Trouble};
use crate::jetstream::api::{self, ApiError};
use crate::subject;

/// How long there may be no connection, or no confirmation of what was published.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a page of letters may take.
const LIST_DEADLINE: Duration = Duration::from_secs(30);
/// How many letters of a page are fetched at a time.
const FETCHED_AT_ONCE: usize = 8;

/// Dead letters in a stream of JetStream. See the [module](self).
#[derive(Debug)]
pub struct JetStreamLetters {
    config: LettersConfig,
    connection: Arc<Connection>,
    /// The largest message that the stream takes, once it was found and checked.
    usable: Mutex<Option<usize>>,
}

/// What is needed to talk to the stream.
struct Wire {
    client: Client,
    context: Context,
}

/// Why something was not published.
enum NotStored {
    /// No stream takes the subject.
    Unheard,
    /// Anything else.
    Other(StoreError),
}

impl JetStreamLetters {
    /// Letters in a stream, over a connection from `connections`, which is made in the background: call it within a
    /// tokio runtime.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new(
        connections: &Connections,
        nats: &NatsConfig,
        config: LettersConfig,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { config, connection: connections.get(nats)?, usable: Mutex::new(None) })
    }

    /// Finds the stream, or creates it if asked to, and checks that letters can be kept there. To be called before a
    /// source is read whose letters these are; [`Guarded`] does that.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with what is wrong and what to do. All of it can heal, so it is worth trying again.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.prepare().await.map_err(unavailable)
    }

    async fn prepare(&self) -> Result<(), Trouble> {
        *self.usable.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Wire { context, .. } = self.wire().await?;
        let stream::Info { config, .. } = place::find(&context, &self.config).await?;
        let largest = usize::try_from(config.max_message_size).ok().filter(|size| *size > 0);
        let usable = Some(largest.unwrap_or(usize::MAX));
        *self.usable.lock().unwrap_or_else(PoisonError::into_inner) = usable;
        Ok(())
    }

    async fn wire(&self) -> Result<Wire, Trouble> {
        let mut link = self.connection.link();
        let up = link.wait_for(|link| matches!(link, Link::Up(_)));
        if let Ok(Ok(link)) = tokio::time::timeout(DEADLINE, up).await
            && let Link::Up(client) = &*link
        {
            return Ok(Wire { client: client.clone(), context: api::context(client) });
        }
        let link = self.connection.link().borrow().clone();
        Err(match link {
            Link::Down(trouble) => trouble,
            Link::Up(_) => {
                Trouble { reason: "Disconnected", message: "the connection comes and goes".to_owned() }
            }
        })
    }

    async fn try_add(&self, letter: &DeadLetter) -> Result<(), NotStored> {
        let usable = *self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(largest) = usable else {
            return Err(NotStored::Unheard);
        };
        let Wire { client, .. } =
            self.wire().await.map_err(|trouble| NotStored::Other(unavailable(trouble)))?;
        let limit = client.max_payload().min(largest);
        let subject = self.config.subject_of(&letter.id);
        let written = message::write(letter, limit).ok_or_else(|| {
            NotStored::Other(StoreError::Unavailable(format!(
                "dead letter {} does not fit into stream {}, which takes messages of {limit} bytes at most; raise its maximum message size",
                letter.id, self.config.stream
            )))
        })?;
        let first = match written {
            Written::Whole(content) => content,
            Written::Pieces(pieces) => {
                if self.is_there(letter).await {
                    return Ok(());
                }
                let mut pieces = pieces.into_iter().enumerate();
                let Some((_, first)) = pieces.next() else { return Ok(()) };
                for (number, piece) in pieces {
                    self.publish(&client, piece_of(&subject, number), piece, None).await?;
                }
                first
            }
        };
        let Content { headers, body } = first;
        let again = Content { headers: headers.clone(), body: body.clone() };
        let stored =
            self.publish(&client, subject.clone(), Content { headers, body }, Some(&letter.id)).await?;
        // Kept a moment ago, says the server; it may have been removed since, or be another version.
        if stored.duplicate && !self.is_there(letter).await {
            self.publish(&client, subject, again, None).await?;
        }
        Ok(())
    }

    /// Whether the letter is in the stream already, but for the time of its refusal.
    async fn is_there(&self, letter: &DeadLetter) -> bool {
        let Ok(Wire { context, .. }) = self.wire().await else { return false };
        let found = self.read(&context, &self.config.subject_of(&letter.id)).await;
        found.is_ok_and(|found| {
            found.is_some_and(|found| DeadLetter { time: letter.time, ..found } == *letter)
        })
    }

    async fn publish(
        &self,
        client: &Client,
        subject: String,
        content: Content,
        id: Option<&str>,
    ) -> Result<Stored, NotStored> {
        let stream = &self.config.stream;
        let Content { mut headers, body } = content;
        header(&mut headers, "Nats-Expected-Stream", stream);
        if let Some(id) = id {
            header(&mut headers, "Nats-Msg-Id", id);
        }
        let failed = |why: String| {
            NotStored::Other(StoreError::Unavailable(format!(
                "stream {stream} did not take a dead letter: {why}"
            )))
        };
        let mut complaints = self.connection.complaints();
        let denied = async {
            loop {
                match complaints.recv().await {
                    Ok(complaint) if complaint.contains(&format!("\"{subject}\"")) => return complaint,
                    Ok(_) => {}
                    Err(_) => std::future::pending().await,
                }
            }
        };
        let request = Request::new().headers(headers).payload(body).timeout(Some(DEADLINE));
        let answer = tokio::select! {
            answer = client.send_request(subject.clone(), request) => answer,
            complaint = denied => {
                return Err(failed(format!("{complaint}; allow this user to publish to {}", self.config.filter())));
            }
        };
        let payload = match answer {
            Ok(answer) => answer.payload,
            Err(error) => {
                return Err(match error.kind() {
                    RequestErrorKind::NoResponders => NotStored::Unheard,
                    RequestErrorKind::TimedOut => failed(format!(
                        "no answer within {} s; check that the server is well, and that this user may publish to {} and subscribe to _INBOX.>",
                        DEADLINE.as_secs(),
                        self.config.filter()
                    )),
                    _ => failed(error.to_string()),
                });
            }
        };
        match serde_json::from_slice(&payload) {
            Ok(Answer { error: Some(Refusal { description }), .. }) => Err(failed(format!(
                "{description}; make room in it, or correct the dead letter stream of the EventSource"
            ))),
            Ok(Answer { stream: Some(by), duplicate, .. }) if by == *stream => Ok(Stored { duplicate }),
            _ => Err(failed(format!("something else answers on {subject}"))),
        }
    }

    /// The letter under a subject.
    async fn read(&self, context: &Context, subject: &str) -> Result<Option<DeadLetter>, StoreError> {
        let stream = &self.config.stream;
        let corrupt = |Unreadable(why): Unreadable| {
            StoreError::Corrupt(format!(
                "message {subject} of stream {stream} is no dead letter that can be read: {why}"
            ))
        };
        let Some(message) = self.message(context, subject).await? else { return Ok(None) };
        let api::Message { headers, payload, .. } = message;
        let first = payload.clone();
        match message::read(&headers, payload).map_err(corrupt)? {
            Read::Letter(letter) => Ok(Some(*letter)),
            Read::Foreign => Ok(None),
            Read::FirstOf(count) => {
                let mut pieces = vec![first];
                for number in 1..count {
                    let piece = self.message(context, &piece_of(subject, number)).await?;
                    pieces
                        .push(piece.ok_or_else(|| corrupt(Unreadable("a piece of it is missing")))?.payload);
                }
                message::join(&pieces).map(Some).map_err(corrupt)
            }
        }
    }

    async fn message(&self, context: &Context, subject: &str) -> Result<Option<api::Message>, StoreError> {
        match api::last_message(context, &self.config.stream, subject).await {
            Ok(message) => Ok(Some(message)),
            Err(ApiError::MessageNotFound) => Ok(None),
            Err(error) => Err(self.failed(error, "reading")),
        }
    }

    /// The ids of the first `limit` letters after `after`.
    async fn ids(
        &self,
        context: &Context,
        after: Option<&str>,
        limit: usize,
    ) -> Result<BTreeSet<String>, StoreError> {
        let filter = self.config.own_filter();
        let (mut found, mut offset) = (BTreeSet::new(), 0);
        loop {
            let subjects = api::subjects(context, &self.config.stream, &filter, offset).await;
            let api::Subjects { page, total } = subjects.map_err(|error| self.failed(error, "reading"))?;
            offset += page.len();
            let last_page = page.is_empty() || offset >= total;
            for subject in page {
                // Further pieces of letters are no letters; `~` stands in no token of ours otherwise.
                let token = subject.rsplit('.').next().filter(|token| !token.contains('~'));
                let Some(id) = token.and_then(subject::text_of) else { continue };
                if after.is_none_or(|after| id.as_str() > after) {
                    found.insert(id);
                    if found.len() > limit {
                        found.pop_last();
                    }
                }
            }
            if last_page {
                return Ok(found);
            }
        }
    }

    /// As [`list`](DeadLetterBox::list); a letter that cannot be read is left out, and said in the log.
    async fn page(
        &self,
        context: &Context,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        let read = async |id: String| match self.read(context, &self.config.subject_of(&id)).await {
            Err(StoreError::Corrupt(reason)) => {
                tracing::warn!("{reason}");
                Ok(None)
            }
            read => read,
        };
        let (mut letters, mut after) = (Vec::new(), after.map(str::to_owned));
        // Short of letters that were left out, a page is full unless there are no more.
        while letters.len() < limit {
            let ids = self.ids(context, after.as_deref(), limit - letters.len()).await?;
            after = ids.last().cloned();
            if after.is_none() {
                break;
            }
            let reads = futures_stream::iter(ids.into_iter().map(read)).buffered(FETCHED_AT_ONCE);
            let read: Vec<Option<DeadLetter>> = reads.try_collect().await?;
            letters.extend(read.into_iter().flatten().map(Arc::new));
        }
        Ok(letters)
    }

    fn failed(&self, error: ApiError, doing: &str) -> StoreError {
        unavailable(error.trouble(&self.config.stream, &format!("{doing} dead letters")))
    }

    async fn context(&self) -> Result<Context, StoreError> {
        Ok(self.wire().await.map_err(unavailable)?.context)
    }
}

#[async_trait]
impl DeadLetterBox for JetStreamLetters {
    async fn add(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError> {
        match self.try_add(&letter).await {
            Err(NotStored::Other(error)) => Err(error),
            Ok(()) => Ok(()),
            Err(NotStored::Unheard) => {
                // It is not known yet, or not there any more: that says why, or makes it.
                self.check().await?;
                self.try_add(&letter).await.map_err(|error| match error {
                    NotStored::Other(error) => error,
                    NotStored::Unheard => StoreError::Unavailable(format!(
                        "no stream takes dead letters below {}; check stream {}",
                        self.config.subject, self.config.stream
                    )),
                })
            }
        }
    }

    async fn get(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        let letter = self.read(&self.context().await?, &self.config.subject_of(id)).await?;
        Ok(letter.map(Arc::new))
    }

    async fn list<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        let context = self.context().await?;
        let page = tokio::time::timeout(LIST_DEADLINE, self.page(&context, after, limit));
        page.await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(format!(
                "reading dead letters of stream {} took longer than {} s; ask for fewer at a time",
                self.config.stream,
                LIST_DEADLINE.as_secs()
            )))
        })
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let context = self.context().await?;
        let subject = self.config.subject_of(id);
        let Some(first) = self.message(&context, &subject).await? else { return Ok(false) };
        let pieces = match message::read(&first.headers, first.payload) {
            Ok(Read::FirstOf(count)) => count,
            _ => 1,
        };
        // The first one first: without it, the others are no letter.
        let further = (1..pieces).map(|number| piece_of(&subject, number));
        for subject in std::iter::once(subject.clone()).chain(further) {
            let purged = api::purge(&context, &self.config.stream, &subject).await;
            purged.map_err(|error| self.failed(error, "removing"))?;
        }
        Ok(true)
    }
}

struct Stored {
    /// The stream has seen this id a moment ago, and kept nothing.
    duplicate: bool,
}

#[derive(Deserialize)]
struct Answer {
    stream: Option<String>,
    #[serde(default)]
    duplicate: bool,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    description: String,
}

/// The subject of a further piece of a letter.
fn piece_of(subject: &str, number: usize) -> String {
    format!("{subject}~{number}")
}

fn header(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = message::encoded(value).parse::<HeaderValue>() {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn unavailable(trouble: Trouble) -> StoreError {
    StoreError::Unavailable(trouble.message)
}
