//! Event sources: where deliveries come from, and how each is settled.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterId;
use crate::event::{DecodeError, Event};
use crate::position::Position;

/// Where deliveries come from: NATS, JetStream, HTTP, Kubernetes objects, memory, yours.
///
/// # Contract
/// * [`open`](Self::open) yields a stream that goes on for as long as the source exists. Troubles on the way
///   (a server that is down, a missing stream) are [`SourceItem::Status`]; the source heals by itself. The stream ends
///   only when nothing will ever come again.
/// * Each message of the transport MUST be one delivery: the event as it was published, or why the message is none, and
///   the bytes as they came.
/// * A source that can redeliver MUST deliver again whatever was dropped unsettled or given back, and MUST give each
///   delivery the position it has in its feed, in a domain that no other source uses: begin it with the name of the feed. A
///   source that cannot leaves the position out: the engine orders such deliveries by their acceptance.
/// * A feed that can be begun anew (a log that is deleted, a file that is rotated) MUST then count in a higher epoch: what
///   comes at or below a floor is taken for something that was settled.
/// * A [`SourceItem::Floor`] MUST be true for ever: nothing at or below it comes again, also after a restart.
///   The reader stores a floor before it takes the next item, so a source may rely on floors that were taken: they are
///   handed to the next [`open`](Self::open).
/// * A [`SourceItem::Snapshot`] MUST come from a complete list; a failed or partial one says nothing. A source that tells
///   snapshots MUST tell one of all that it tells of after each [`open`](Self::open): one that was half processed when the
///   process ended is so processed again. The reader takes the next item once it is processed.
/// * Reading is pulled by the consumer of the stream. A source MUST NOT buffer without bound while it is not polled.
/// * Cancel safe: dropping the stream closes the source; deliveries handed out before stay valid, and what becomes of them
///   counts for the next [`open`](Self::open) of the same source: what is not settled is kept in the source, not in the stream.
///
/// # Example
/// A source of what a program tells it, which cannot deliver anything again:
///
/// ```
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use fleet_core::event::Event;
/// use fleet_core::position::Position;
/// use fleet_core::source::{Delivery, EventSource, Settle, SourceError, SourceItem};
/// use futures::stream::{BoxStream, StreamExt};
/// use tokio::sync::Mutex;
/// use tokio::sync::mpsc::Receiver;
///
/// struct Told(Mutex<Option<Receiver<Bytes>>>);
///
/// #[async_trait]
/// impl EventSource for Told {
///     fn name(&self) -> &str {
///         "told"
///     }
///
///     async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
///         let told = self.0.lock().await.take();
///         let told = told.ok_or_else(|| SourceError { reason: "told is open already".to_owned() })?;
///         // Pulled by whoever reads the stream; what does not fit into the channel keeps the teller waiting.
///         Ok(futures::stream::unfold(told, |mut told| async move {
///             let raw = told.recv().await?;
///             let delivery = Delivery::new(Event::from_json(&raw), raw, Settle::nothing());
///             Some((SourceItem::Delivery(delivery), told))
///         })
///         .boxed())
///     }
/// }
/// ```
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
#[async_trait]
pub trait EventSource: Send + Sync + 'static {
    /// The name of the EventSource, to which triggers refer.
    fn name(&self) -> &str;

    /// The name of this feed: the EventSource's, unless that is read in several places, each of which is a feed of its
    /// own. Feeds are read independently, each with its own floors; the domains of their positions MUST differ. Together
    /// they are one EventSource for triggers, dead letters and conditions.
    fn feed(&self) -> &str {
        self.name()
    }

    /// The cluster that everything in this feed comes from, if that is so by its nature. Keys of other clusters then
    /// expire without waiting for this feed. Deliveries still name their origin themselves.
    fn origin(&self) -> Option<ClusterId> {
        None
    }

    /// Opens the source. `floors` are the positions below which everything is processed for good, by domain; a source
    /// that can seek may start above them, and uses their epochs to tell whether its feed was begun anew.
    ///
    /// # Errors
    /// Only what will not heal by itself: a configuration that cannot work.
    async fn open(&self, floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError>;

    /// Asks a source whose messages wait to be read for a [`SourceItem::Settled`], soon; whoever does not get one asks
    /// again. `false`, the default: nothing waits, an event is delivered as soon as it is published or never. Until it is
    /// told, no key of a trigger with a `ttl` expires: it may be renewed by a message that was not read yet.
    fn report_settled(&self) -> bool {
        false
    }

    /// Asks a source [of states](crate::catalog::Tells::States) to deliver again all that is live, and to tell snapshots
    /// of it: there is somebody who has not heard of it. By default nothing happens.
    fn tell_again(&self) {}

    /// Reads the event out of a message of this source that was kept as a dead letter. A source that knows more forms
    /// than the JSON of a CloudEvent MUST decode as it does for its deliveries: what that takes beside the raw message (a
    /// number, a channel) belongs into the [`Message`].
    ///
    /// # Errors
    /// When the message is no CloudEvent.
    fn decode(&self, _message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        Event::from_json(raw)
    }
}

/// With this the type of an event ends by which a source [of states](crate::catalog::Tells::States) says that what it is
/// about is not there any more.
pub const GONE: &str = ".gone";

/// What a source tells.
// Nearly every item is a delivery: a box would cost an allocation each and save nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceItem {
    /// An event arrived.
    Delivery(Delivery),
    /// Nothing at or below this position will come again.
    Floor(Position),
    /// Whatever the transport took before this moment, by the clock that [`Delivery::published`] is from, is settled, and
    /// not only delivered. Told when [asked](EventSource::report_settled).
    Settled(Timestamp),
    /// The complete set of what is live in a scope: keys of that scope which are not in it are to be deleted.
    Snapshot(Snapshot),
    /// How the source is doing, for its condition.
    Status(SourceStatus),
}

/// The complete set of keys that are live in a scope. What else is there of the EventSource's is deleted as by a Delete
/// event, as far as its key saw nothing later. Too many at once wait to be confirmed.
///
/// Keys are told apart by the last event of each: by the cluster that it came from, its source and its subject.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// From which cluster the keys of the scope come, if they have an origin.
    pub origin: Option<ClusterId>,
    /// What is live.
    pub live: Live,
    /// Its place in the source's feed; `None` if the source has no order of its own. Then it comes after all that was
    /// delivered before it.
    pub position: Option<Position>,
}

/// What is live in a scope.
#[derive(Clone, Debug)]
pub enum Live {
    /// Of the keys with this CloudEvents source, those with these subjects.
    Subjects {
        /// The CloudEvents source.
        source: String,
        /// The subjects.
        subjects: BTreeSet<String>,
    },
    /// Of all keys, those with one of these CloudEvents sources, as far as nothing else is said of them.
    Sources(BTreeSet<String>),
}

impl Live {
    /// Whether a key is not live any more; `None` if it is not in the scope.
    pub(crate) fn lacks(&self, event: &Event) -> Option<bool> {
        match self {
            Self::Subjects { source, subjects } => (event.source() == source)
                .then(|| !event.subject().is_some_and(|subject| subjects.contains(subject))),
            Self::Sources(sources) => (!sources.contains(event.source())).then_some(true),
        }
    }
}

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Whether events can arrive now.
    pub ready: bool,
    /// A reason in one CamelCase word, as conditions have it: `Connected`, `StreamNotFound`.
    pub reason: String,
    /// One sentence: what is the matter, and what to do. No secrets.
    pub message: String,
    /// How many events the source knows were lost since it was opened (a slow consumer of core NATS).
    pub lost: u64,
}

impl SourceStatus {
    /// Events can arrive.
    pub fn ready(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { ready: true, reason: reason.into(), message: message.into(), lost: 0 }
    }

    /// No event can arrive until what the message says is mended.
    pub fn trouble(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { ready: false, ..Self::ready(reason, message) }
    }
}

/// An event as it arrived.
pub struct Delivery {
    /// The event, or why the message is none.
    pub event: Result<Event, DecodeError>,
    /// The cluster it came from, where the source itself knows (a NATS inside a cluster). Else the engine finds it by
    /// the EventSource's `origin` rule.
    pub origin: Option<ClusterId>,
    /// Facts of the transport.
    pub message: Arc<Message>,
    /// The message body as it was received, kept for dead letters.
    pub raw: Bytes,
    /// The place in the source's feed; `None` if the source has no order of its own.
    pub position: Option<Position>,
    /// When the transport took it, where the transport knows (JetStream does).
    pub published: Option<Timestamp>,
    /// Settles the delivery. Dropped unsettled, it comes again where the source can redeliver.
    pub settle: Settle,
}

impl Delivery {
    /// A delivery of which nothing is known but the message. What is known beside that is set on top:
    /// `Delivery { position: Some(position), ..Delivery::new(event, raw, settle) }`.
    pub fn new(event: Result<Event, DecodeError>, raw: impl Into<Bytes>, settle: Settle) -> Self {
        let (origin, message, position, published) = Default::default();
        Self { event, origin, message, raw: raw.into(), position, published, settle }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("event", &self.event)
            .field("origin", &self.origin)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Facts of the transport, for templates (`message`) and dead letters.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The subject or path it was sent to; empty if the transport has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Headers in their order, names as sent. Never credentials: an HTTP source leaves `Authorization` and `Cookie` out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

impl Message {
    /// The dot-separated tokens of the subject.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.subject.split('.').filter(|token| !token.is_empty())
    }
}

/// Headers may hold what event data holds.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The handle that settles a delivery: used up by [`ack`](Self::ack), [`give_back`](Self::give_back) or
/// [`terminate`](Self::terminate). Dropped, it gives the delivery back where the source can redeliver.
pub struct Settle(Box<dyn Settler>);

/// What a source implements to have its deliveries settled. Dropping a settler unsettled MUST give the delivery back
/// where the source can redeliver, at the latest after the source's own deadline.
#[async_trait]
pub trait Settler: Send + Sync + 'static {
    /// The event is durable: never deliver it again in this process. After a restart what lies above the floor may come again;
    /// the engine knows it by its position.
    async fn ack(self: Box<Self>) -> Result<(), SettleError>;
    /// The event could not be taken: deliver it again, not before `delay`.
    async fn give_back(self: Box<Self>, delay: Duration) -> Result<(), SettleError>;
    /// The event will never be taken, `reason` says why: do not deliver it again.
    async fn terminate(self: Box<Self>, reason: &str) -> Result<(), SettleError>;
    /// Somebody is working on it: do not deliver it elsewhere meanwhile.
    async fn progress(&self) -> Result<(), SettleError>;
}

/// A settlement did not reach the source. Harmless for the state: at worst the event is delivered again, and seen to be
/// a duplicate by its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the delivery could not be settled: {0}")]
pub struct SettleError(pub String);

impl Settle {
    /// Wraps what the source implements.
    pub fn new(settler: impl Settler) -> Self {
        Self(Box::new(settler))
    }

    /// Has a function told what became of the delivery, once.
    ///
    /// ```
    /// use fleet_core::source::Settle;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), fleet_core::source::SettleError> {
    /// let settle = Settle::tell(|settled| match settled.again() {
    ///     None => println!("over"),
    ///     Some(delay) => println!("again in {delay:?}"),
    /// });
    /// settle.ack().await
    /// # }
    /// ```
    pub fn tell(settled: impl FnOnce(Settled) + Send + Sync + 'static) -> Self {
        Self::new(Told(Some(settled)))
    }

    /// For a source that cannot redeliver and does not care.
    pub fn nothing() -> Self {
        Self::new(Nothing)
    }

    /// The event is durable. See [`Settler::ack`].
    pub async fn ack(self) -> Result<(), SettleError> {
        self.0.ack().await
    }

    /// Deliver it again later. See [`Settler::give_back`].
    pub async fn give_back(self, delay: Duration) -> Result<(), SettleError> {
        self.0.give_back(delay).await
    }

    /// Never deliver it again. See [`Settler::terminate`].
    pub async fn terminate(self, reason: &str) -> Result<(), SettleError> {
        self.0.terminate(reason).await
    }

    /// Still at work. See [`Settler::progress`].
    pub async fn progress(&self) -> Result<(), SettleError> {
        self.0.progress().await
    }
}

impl fmt::Debug for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settle")
    }
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The event is durable, or needs no Work.
    Acked,
    /// It was given back: nothing was stored. To be delivered again, not before this time has passed.
    GivenBack(Duration),
    /// It was refused, for this reason.
    Terminated(String),
    /// It was dropped unsettled.
    Dropped,
}

impl Settled {
    /// After what time it is to be delivered again; `None`: never.
    pub fn again(&self) -> Option<Duration> {
        match self {
            Self::Acked | Self::Terminated(_) => None,
            Self::GivenBack(delay) => Some(*delay),
            Self::Dropped => Some(Duration::ZERO),
        }
    }
}

/// Tells a function.
struct Told<F: FnOnce(Settled)>(Option<F>);

impl<F: FnOnce(Settled)> Told<F> {
    fn tell(&mut self, settled: Settled) {
        if let Some(tell) = self.0.take() {
            tell(settled);
        }
    }
}

impl<F: FnOnce(Settled)> Drop for Told<F> {
    fn drop(&mut self) {
        self.tell(Settled::Dropped);
    }
}

#[async_trait]
impl<F: FnOnce(Settled) + Send + Sync + 'static> Settler for Told<F> {
    async fn ack(mut self: Box<Self>) -> Result<(), SettleError> {
        self.tell(Settled::Acked);
        Ok(())
    }
    async fn give_back(mut self: Box<Self>, delay: Duration) -> Result<(), SettleError> {
        self.tell(Settled::GivenBack(delay));
        Ok(())
    }
    async fn terminate(mut self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        self.tell(Settled::Terminated(reason.to_owned()));
        Ok(())
    }
    async fn progress(&self) -> Result<(), SettleError> {
        Ok(())
    }
}

struct Nothing;

#[async_trait]
impl Settler for Nothing {
    async fn ack(self: Box<Self>) -> Result<(), SettleError> {
        Ok(())
    }
    async fn give_back(self: Box<Self>, _delay: Duration) -> Result<(), SettleError> {
        Ok(())
    }
    async fn terminate(self: Box<Self>, _reason: &str) -> Result<(), SettleError> {
        Ok(())
    }
    async fn progress(&self) -> Result<(), SettleError> {
        Ok(())
    }
}

/// A source cannot work as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source cannot be opened: {reason}")]
pub struct SourceError {
    /// What is wrong with the configuration, and what to do.
    pub reason: String,
}
