//! Where an EventSource wants its dead letters.

use super::nats::{is_jetstream_name, subject};
use super::object::{Fault, Place, Problem};
use super::transport::DeadLetterStream;
use crate::api::{DeadLetterSpec, NatsSpec};

/// What is said about dead letters of a source that reads from NATS.
pub(super) fn stream(
    place: &Place,
    spec: DeadLetterSpec,
    nats: &NatsSpec,
    problems: &mut Vec<Problem>,
) -> DeadLetterStream {
    let mut invalid = |field: &str, reason: String| {
        let pointer = format!("/spec/deadLetter/jetStream/{field}");
        problems.push(place.problem(&pointer, Fault::Invalid, reason));
    };
    let DeadLetterSpec { jet_stream: letters } = spec;
    if !is_jetstream_name(&letters.stream) {
        invalid("stream", "must be a name: not empty, without spaces and any of . * > / \\".to_owned());
    } else if nats.jet_stream.as_ref().is_some_and(|read| read.stream == letters.stream) {
        invalid("stream", format!("{} is the stream that is read; name another one", letters.stream));
    }
    let prefix = letters.subject.as_str();
    let wild = prefix.split('.').any(|token| token == "*" || token == ">");
    match subject(prefix) {
        Err(why) => invalid("subject", format!("{prefix:?} {why}")),
        Ok(()) if wild => invalid("subject", format!("{prefix:?} is no beginning of a subject: no * or >")),
        // Subjects that narrow an existing stream say nothing about what it takes; no two streams take the same.
        Ok(()) if nats.jet_stream.as_ref().is_some_and(|read| !read.create) => {}
        Ok(()) => {
            if let Some(read) = nats.subjects.iter().find(|read| reads_below(read, prefix)) {
                let reason = format!(
                    "is read by this EventSource itself ({read:?} in spec.nats.subjects), so that each dead letter would come back as an event; choose another subject"
                );
                invalid("subject", reason);
            }
        }
    }
    DeadLetterStream { stream: letters.stream, subject: letters.subject, create: letters.create }
}

/// Whether a subject to read takes some of `<prefix>.*.*`.
fn reads_below(read: &str, prefix: &str) -> bool {
    let mut letters = prefix.split('.').chain(["*", "*"]);
    for token in read.split('.') {
        match (token, letters.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            (token, Some(letter)) if token == letter || token == "*" || letter == "*" => {}
            _ => return false,
        }
    }
    letters.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_seen() {
        for read in
            [">", "*.>", "dead.>", "dead.letters.*.*", "dead.letters.>", "*.letters.s.*", "dead.*.*.x"]
        {
            assert!(reads_below(read, "dead.letters"), "{read}");
        }
        for read in
            ["dead", "dead.letters", "dead.letters.*", "dead.letters.*.*.*", "events.>", "dead.mail.>"]
        {
            assert!(!reads_below(read, "dead.letters"), "{read}");
        }
    }
}
