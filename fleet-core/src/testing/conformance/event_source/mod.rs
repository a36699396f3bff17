//! What every [`EventSource`] keeps to. See [`event_source!`](super::event_source!).

mod delivering;
mod floors;
mod reader;
mod settling;
mod streams;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{NotChecked, checks};
use crate::event::Event;
use crate::source::EventSource;

use self::delivering::*;
use self::floors::*;
use self::settling::*;
use self::streams::*;

/// A source under test, and the transport behind it. Every check has a fixture of its own, whose transport holds nothing.
pub trait Fixture: Send + Sync + 'static {
    /// The source, as a process makes it that starts now. Each is on the same transport and has the same name.
    fn source(&self) -> impl Future<Output = Arc<dyn EventSource>> + Send;

    /// Has something happen that the source tells as one event with this subject. Returns once the transport took it.
    fn publish(&self, subject: &str) -> impl Future<Output = ()> + Send;

    /// Publishes this very event.
    fn publish_event(&self, event: &Event) -> impl Future<Output = Result<(), NotChecked>> + Send;

    /// Publishes a message that is no event, with these bytes, which are a line of text.
    fn publish_garbage(&self, garbage: &[u8]) -> impl Future<Output = Result<(), NotChecked>> + Send;

    /// Puts the transport out of reach.
    fn break_off(&self) -> impl Future<Output = Result<(), NotChecked>> + Send;

    /// Puts it within reach again.
    fn mend(&self) -> impl Future<Output = ()> + Send;

    /// Has the feed begin anew, as if the log of the transport was deleted and made again: what was in it is gone, and it
    /// counts from one.
    fn begin_anew(&self) -> impl Future<Output = Result<(), NotChecked>> + Send {
        async { Err(NotChecked::because("its feed cannot be begun anew")) }
    }

    /// What the source can do.
    fn abilities(&self) -> Abilities;

    /// How many messages the source has taken out of the transport and were not settled, as the transport sees it.
    fn taken(&self) -> impl Future<Output = Result<u64, NotChecked>> + Send {
        async { Err(NotChecked::because("the transport does not tell what was taken out of it")) }
    }

    /// What is live now, if the source tells [snapshots](crate::source::Snapshot): the CloudEvents source of each event,
    /// and its subject.
    fn live(&self) -> impl Future<Output = Result<BTreeSet<(String, String)>, NotChecked>> + Send {
        async { Err(NotChecked::because("the source tells no snapshots")) }
    }

    /// How long anything may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// What a source can do. Where it cannot, the reason, which is told.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// It delivers again what was not settled: at the latest after this time, if nobody gives it back.
    pub redelivers: Result<Duration, NotChecked>,
    /// It says by a [status](crate::source::SourceStatus) whether events can arrive.
    pub status: Result<(), NotChecked>,
    /// It tells floors.
    pub floors: Result<(), NotChecked>,
    /// It can be opened again, in this process and in the next.
    pub reopens: Result<(), NotChecked>,
    /// How many messages may wait in it while it is not read.
    pub bound: Result<u64, NotChecked>,
}

/// Makes one test of every rule in the contract of [`EventSource`](crate::source::EventSource), in a module of its own.
///
/// Its arguments are the name of the module, and an expression that makes a
/// [`Fixture`](crate::testing::conformance::event_source::Fixture), evaluated once for each test; it may `.await`.
///
/// A source that cannot redeliver, as [`MemorySource`](crate::memory::MemorySource):
///
/// ```
/// use std::sync::Arc;
///
/// use fleet_core::event::Event;
/// use fleet_core::memory::MemorySource;
/// use fleet_core::source::EventSource;
/// use fleet_core::testing::conformance::{NotChecked, event_source};
///
/// struct Memory(Arc<MemorySource>);
///
/// impl event_source::Fixture for Memory {
///     async fn source(&self) -> Arc<dyn EventSource> {
///         Arc::clone(&self.0) as _
///     }
///
///     async fn publish(&self, subject: &str) {
///         let event = Event::builder("1", "kit", "test").subject(subject).build().expect("an event");
///         // Somebody has to wait for what becomes of it.
///         tokio::spawn(self.0.send(event).await);
///     }
///
///     async fn publish_event(&self, event: &Event) -> Result<(), NotChecked> {
///         tokio::spawn(self.0.send(event.clone()).await);
///         Ok(())
///     }
///
///     async fn publish_garbage(&self, _garbage: &[u8]) -> Result<(), NotChecked> {
///         Err(NotChecked::because("it is sent events, not bytes"))
///     }
///
///     async fn break_off(&self) -> Result<(), NotChecked> {
///         Err(NotChecked::because("memory is never out of reach"))
///     }
///
///     async fn mend(&self) {}
///
///     fn abilities(&self) -> event_source::Abilities {
///         let once = NotChecked::because("what was sent is delivered once");
///         event_source::Abilities {
///             redelivers: Err(once.clone()),
///             status: Err(NotChecked::because("it is always ready")),
///             floors: Err(once),
///             reopens: Err(NotChecked::because("a memory source opens once")),
///             bound: Ok(1024),
///         }
///     }
/// }
///
/// event_source!(memory, Memory(Arc::new(MemorySource::new("users"))));
/// # fn main() {}
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_event_source {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_event_source_checks!($crate::__conformance_tests; event_source, $name, $fixture);
    };
}

/// The checks, for whoever makes something of each.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_event_source_checks {
    ($then:path; $($arguments:tt)*) => {
        $then! {
            $($arguments)*; "EventSource";
            each_message_is_one_delivery: "Each message of the transport MUST be one delivery",
            an_event_arrives_as_it_was_published: "the event as it was published, or why the message is none",
            what_is_no_event_arrives_with_its_bytes:
                "the event as it was published, or why the message is none, and the bytes as they came",
            a_kept_message_decodes_as_its_delivery_did: "MUST decode as it does for its deliveries",
            a_stream_goes_on: "yields a stream that goes on for as long as the source exists",
            a_source_heals_by_itself: "the source heals by itself",
            a_source_opens_while_its_transport_is_down:
                "Only what will not heal by itself: a configuration that cannot work",
            dropped_unsettled_comes_again:
                "A source that can redeliver MUST deliver again whatever was dropped unsettled or given back",
            given_back_comes_again_not_before_its_delay:
                "The event could not be taken: deliver it again, not before delay",
            what_is_acknowledged_never_comes_again: "The event is durable: never deliver it again",
            what_is_terminated_never_comes_again: "do not deliver it again",
            what_is_worked_on_is_not_delivered_again:
                "Somebody is working on it: do not deliver it elsewhere meanwhile",
            what_was_unsettled_comes_again_to_the_next_process:
                "A source that can redeliver MUST deliver again whatever was dropped unsettled",
            a_position_is_the_place_in_the_feed: "MUST give each delivery the position it has in its feed",
            without_redelivery_there_is_no_position: "A source that cannot leaves the position out",
            a_feed_begun_anew_counts_in_a_higher_epoch:
                "A feed that can be begun anew (a log that is deleted, a file that is rotated) MUST then count in a higher epoch",
            a_floor_stays_below_what_is_unsettled: "nothing at or below it comes again",
            nothing_below_a_floor_comes_again:
                "A SourceItem::Floor MUST be true for ever: nothing at or below it comes again, also after a restart",
            what_is_settled_does_not_reach_what_is_held:
                "Whatever the transport took before this moment, by the clock that Delivery::published is from, is settled, and not only delivered",
            a_snapshot_is_complete: "A SourceItem::Snapshot MUST come from a complete list",
            a_snapshot_follows_each_opening:
                "A source that tells snapshots MUST tell one of all that it tells of after each open",
            a_failed_list_says_nothing: "a failed or partial one says nothing",
            all_that_is_live_is_told_again:
                "to deliver again all that is live, and to tell snapshots of it",
            what_waits_unread_is_bounded: "A source MUST NOT buffer without bound while it is not polled",
            deliveries_outlive_the_stream: "deliveries handed out before stay valid",
            a_dropped_stream_takes_nothing_more: "dropping the stream closes the source",
        }
    };
}

crate::__conformance_event_source_checks!(checks;);
