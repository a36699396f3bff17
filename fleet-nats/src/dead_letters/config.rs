//! Which stream dead letters go to, and under which subjects.

use crate::connection::{ConfigError, wrong};
use crate::subject;

/// In which stream dead letters are kept, and of what source they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LettersConfig {
    /// The source whose letters they are.
    pub source: String,
    /// The stream. A user's own is never changed.
    pub stream: String,
    /// What the subjects begin with. The stream must take `<subject>.*.*`.
    pub subject: String,
    /// Create the stream for those subjects if it does not exist: without limits, one message a subject.
    pub create: bool,
    /// What the source reads: a stream whose letters would come back to it as events is refused.
    pub reads: Reads,
}

/// What a source reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// Nothing of NATS.
    #[default]
    Nothing,
    /// These subjects of core NATS.
    Subjects(Vec<String>),
    /// A stream.
    Stream {
        /// Its name.
        stream: String,
        /// The subjects it has if the source creates it.
        subjects: Vec<String>,
    },
}

impl LettersConfig {
    /// Those of a source in this stream, under `fleet.dead-letters`.
    pub fn new(source: impl Into<String>, stream: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            stream: stream.into(),
            subject: "fleet.dead-letters".to_owned(),
            create: false,
            reads: Reads::Nothing,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !subject::is_name(&self.stream) {
            return wrong(format!(
                "{:?} is no name of a stream: no dots, slashes, spaces, `*` or `>`, and not empty",
                self.stream
            ));
        }
        if !subject::is_publishable(&self.subject) {
            return wrong(format!(
                "dead letters cannot go below subject {:?}: expected words between dots, no wildcards or spaces",
                self.subject
            ));
        }
        Ok(())
    }

    /// The subjects of letters of any source, which the stream has to take.
    pub(super) fn filter(&self) -> String {
        format!("{}.*.*", self.subject)
    }

    /// The subjects of the source's letters.
    pub(super) fn own_filter(&self) -> String {
        format!("{}.{}.*", self.subject, subject::token(&self.source))
    }

    /// The subject of a letter.
    pub(super) fn subject_of(&self, id: &str) -> String {
        format!("{}.{}.{}", self.subject, subject::token(&self.source), subject::token(id))
    }
}
