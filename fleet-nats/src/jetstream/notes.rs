//! What the condition says beside that all is well: new epochs, a consumer made anew, messages that were lost.

use async_nats::jetstream::{consumer, stream};

use super::consumer::filters;

#[derive(Debug, Default)]
pub(super) struct Notes {
    /// That a new epoch began, and why.
    pub(super) epoch: Option<String>,
    /// That the consumer was created again.
    pub(super) consumer: Option<String>,
    /// Which consumers of earlier replays could not be deleted.
    pub(super) left_behind: Option<String>,
    /// How many messages a user's own consumer gave up.
    pub(super) exhausted: u64,
    /// How many messages left the stream unread.
    unread: u64,
    /// Up to which sequence they were counted.
    unread_to: u64,
}

impl Notes {
    pub(super) fn stream_is_new(&mut self) {
        self.epoch = Some("the stream was created anew: a new epoch began".to_owned());
        self.consumer = None;
        self.unread_to = 0;
    }

    /// Since the source was opened.
    pub(super) fn lost(&self) -> u64 {
        self.unread + self.exhausted
    }

    /// Notices messages behind `delivered` that the stream does not have any more. Not where the consumer reads only
    /// some subjects: how many of those it would have read is not known.
    pub(super) fn count_unread(
        &mut self,
        stream: &stream::Info,
        consumer: &consumer::Config,
        delivered: u64,
    ) {
        let read = filters(&consumer.filter_subject, &consumer.filter_subjects);
        let reads_all = read.is_empty() || read == filters("", &stream.config.subjects);
        let gone = stream.state.first_sequence.saturating_sub(1);
        let counted = delivered.max(self.unread_to);
        if reads_all && gone > counted {
            self.unread += gone - counted;
            self.unread_to = gone;
        }
    }

    /// The message of a condition that is ready. `limited`: the consumer gives messages up after some attempts.
    pub(super) fn message(&self, stream: &str, consumer: &str, limited: bool) -> String {
        let mut message = format!("reading stream {stream} through consumer {consumer}");
        for note in [&self.epoch, &self.consumer].into_iter().flatten() {
            message += "; ";
            message += note;
        }
        if let Some(consumers) = &self.left_behind {
            message += &format!(
                "; {consumers} of an earlier replay could not be deleted: delete it, or allow this user to"
            );
        }
        if self.unread > 0 {
            message += &format!(
                "; {} messages (up to sequence {}) left the stream before they were read: its limits or its maximum age are too small",
                self.unread, self.unread_to
            );
        }
        if self.exhausted > 0 {
            message += &format!(
                "; {} messages were given up by the consumer: set its max_deliver to -1",
                self.exhausted
            );
        } else if limited {
            message += "; the consumer gives messages up after max_deliver attempts: set that to -1";
        }
        message
    }
}
