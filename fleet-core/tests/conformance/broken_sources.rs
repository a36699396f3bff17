//! Sources that each break one rule, and what the suite says of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::event::Event;
use fleet_core::source::EventSource;
use fleet_core::testing::conformance::{NotChecked, event_source};

use crate::feed::{DEADLINE, Fault, Feed, Transport};
use crate::{assert_each_can_fail, assert_found, found};

struct Fixture {
    transport: Arc<Transport>,
}

impl Fixture {
    fn new(fault: Fault) -> Self {
        Self { transport: Transport::new(fault) }
    }
}

impl event_source::Fixture for Fixture {
    async fn source(&self) -> Arc<dyn EventSource> {
        Arc::new(Feed::new(&self.transport))
    }

    async fn publish(&self, subject: &str) {
        let event = Event::builder("1", "kit", "test").subject(subject).build().unwrap();
        self.transport.publish(event.to_json().to_string().into());
    }

    async fn publish_event(&self, event: &Event) -> Result<(), NotChecked> {
        self.transport.publish(event.to_json().to_string().into());
        Ok(())
    }

    async fn publish_garbage(&self, garbage: &[u8]) -> Result<(), NotChecked> {
        self.transport.publish(Bytes::copy_from_slice(garbage));
        Ok(())
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        self.transport.set_up(false);
        Ok(())
    }

    async fn mend(&self) {
        self.transport.set_up(true);
    }

    async fn begin_anew(&self) -> Result<(), NotChecked> {
        self.transport.begin_anew();
        Ok(())
    }

    fn abilities(&self) -> event_source::Abilities {
        event_source::Abilities {
            redelivers: match self.transport.fault {
                Fault::HasPositionsNonetheless => Err(NotChecked::because("it says that it cannot")),
                _ => Ok(DEADLINE),
            },
            status: Ok(()),
            floors: Ok(()),
            reopens: Ok(()),
            bound: match self.transport.fault {
                Fault::HasPositionsNonetheless => Err(NotChecked::because("it can redeliver in truth")),
                _ => Ok(8),
            },
        }
    }

    async fn taken(&self) -> Result<u64, NotChecked> {
        Ok(self.transport.taken())
    }

    async fn live(&self) -> Result<BTreeSet<(String, String)>, NotChecked> {
        Ok(self.transport.live())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(3)
    }
}

event_source!(a_feed_without_a_fault, Fixture::new(Fault::None));

#[tokio::test]
async fn each_fault_is_found_by_the_check_that_is_there_for_it() {
    let cases: &[(Fault, &[&str])] = &[
        (Fault::None, &[]),
        (Fault::DeliversOneTwice, &["each_message_is_one_delivery"]),
        (Fault::ForgetsExtensions, &["an_event_arrives_as_it_was_published"]),
        (Fault::SkipsWhatIsNone, &["what_is_no_event_arrives_with_its_bytes"]),
        (Fault::CannotDecode, &["a_kept_message_decodes_as_its_delivery_did"]),
        (Fault::EndsAfterTheFirst, &["a_stream_goes_on"]),
        (Fault::NeverHeals, &["a_source_heals_by_itself"]),
        (
            Fault::OpensOnlyConnected,
            &["a_source_opens_while_its_transport_is_down", "a_failed_list_says_nothing"],
        ),
        (Fault::LosesDropped, &["dropped_unsettled_comes_again"]),
        (Fault::IgnoresDelays, &["given_back_comes_again_not_before_its_delay"]),
        (
            Fault::RepeatsAcknowledged,
            &[
                "each_message_is_one_delivery",
                "a_stream_goes_on",
                "what_is_acknowledged_never_comes_again",
                "what_is_terminated_never_comes_again",
                "a_feed_begun_anew_counts_in_a_higher_epoch",
                "nothing_below_a_floor_comes_again",
                "what_is_settled_does_not_reach_what_is_held",
                "all_that_is_live_is_told_again",
            ],
        ),
        (Fault::RepeatsTerminated, &["what_is_terminated_never_comes_again"]),
        (Fault::IgnoresProgress, &["what_is_worked_on_is_not_delivered_again"]),
        (Fault::LosesHeldAtTheEnd, &["what_was_unsettled_comes_again_to_the_next_process"]),
        (
            Fault::CountsDeliveries,
            &["a_position_is_the_place_in_the_feed", "a_feed_begun_anew_counts_in_a_higher_epoch"],
        ),
        (Fault::CountsOnAnew, &["a_feed_begun_anew_counts_in_a_higher_epoch"]),
        (Fault::CountsAnewInTheNextProcess, &["a_feed_begun_anew_counts_in_a_higher_epoch"]),
        (Fault::RaisesFloorsEarly, &["a_floor_stays_below_what_is_unsettled"]),
        (
            Fault::ForgetsFloors,
            &[
                "what_is_acknowledged_never_comes_again",
                "what_is_terminated_never_comes_again",
                "nothing_below_a_floor_comes_again",
            ],
        ),
        (Fault::SettledIsDelivered, &["what_is_settled_does_not_reach_what_is_held"]),
        (Fault::ListsOnce, &["a_snapshot_follows_each_opening", "all_that_is_live_is_told_again"]),
        (Fault::ListsOnlyOne, &["a_snapshot_is_complete", "all_that_is_live_is_told_again"]),
        (Fault::ListsNothingWhenDown, &["a_failed_list_says_nothing"]),
        (Fault::TellsNothingAgain, &["all_that_is_live_is_told_again"]),
        (Fault::ListsNothingAgain, &["all_that_is_live_is_told_again"]),
        (Fault::ReadsAhead, &["what_waits_unread_is_bounded"]),
        (Fault::SettlesByStream, &["deliveries_outlive_the_stream"]),
        (Fault::HasPositionsNonetheless, &["without_redelivery_there_is_no_position"]),
        (Fault::ReadsOn, &["a_dropped_stream_takes_nothing_more"]),
    ];
    let run = cases.iter().map(async |(fault, expected)| {
        let fixture = async || Fixture::new(*fault);
        (*fault, found(event_source::checks(), fixture).await, *expected)
    });
    assert_found("EventSource", &futures::future::join_all(run).await);
    assert_each_can_fail(event_source::checks::<Fixture>(), cases);
}
