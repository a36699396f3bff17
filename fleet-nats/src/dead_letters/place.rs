//! The stream that dead letters go to: found, created on request, or refused with the reason.

use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy};
use async_nats::jetstream::{Context, stream};

use super::{LettersConfig, Reads};
use crate::connection::Trouble;
use crate::jetstream::api::{self, ApiError};
use crate::subject;

/// Finds the stream, or creates it if asked to, and checks that it can be used.
pub(super) async fn find(context: &Context, config: &LettersConfig) -> Result<Info, Trouble> {
    let name = &config.stream;
    let doing = format!("looking for stream {name}, which is to keep dead letters");
    let found = match api::stream_info(context, name).await {
        Err(ApiError::StreamNotFound) if config.create => {
            tracing::info!(stream = name, "creating the stream for dead letters");
            let created = api::create_stream(context, &wanted(config)).await;
            let doing = format!("creating stream {name}, which is to keep dead letters");
            // Somebody may have been faster.
            match api::stream_info(context, name).await {
                Ok(found) => found,
                Err(_) => created.map_err(|error| error.trouble(name, &doing))?,
            }
        }
        found => found.map_err(|error| error.trouble(name, &doing))?,
    };
    let source = match &config.reads {
        Reads::Stream { stream, .. } if stream != name => match api::stream_info(context, stream).await {
            Ok(source) => Some(source),
            // The source says so itself; a stream that it creates has nothing but its own subjects.
            Err(ApiError::StreamNotFound) => None,
            Err(error) => return Err(error.trouble(stream, &format!("looking for stream {stream}"))),
        },
        _ => None,
    };
    match fault(&found.config, config, source.as_ref().map(|source| &source.config)) {
        None => Ok(found),
        Some(fault) => {
            let message = format!("stream {name} cannot keep dead letters: {fault}");
            Err(Trouble { reason: "DeadLetterStreamRefused", message })
        }
    }
}

/// Nothing is given up in it but for a later letter about the same delivery; when it is full, it says so.
fn wanted(config: &LettersConfig) -> Config {
    stream::Config {
        name: config.stream.clone(),
        subjects: vec![config.filter()],
        description: Some("dead letters of Fleet".to_owned()),
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        ..stream::Config::default()
    }
}

/// What is wrong with a stream, and what to do.
fn fault(stream: &Config, config: &LettersConfig, source: Option<&Config>) -> Option<String> {
    let LettersConfig { stream: name, reads, .. } = config;
    if let Reads::Stream { stream: read, .. } = reads
        && read == name
    {
        return Some("it is the stream that the EventSource reads; name another one".to_owned());
    }
    if stream.mirror.is_some() || stream.sealed || stream.no_ack || stream.subject_transform.is_some() {
        let why = "it is a mirror, sealed, without acknowledgements, or changes subjects; name another one";
        return Some(why.to_owned());
    }
    if stream.retention == RetentionPolicy::Interest {
        let why = "with retention by interest it keeps nothing that nobody reads; use a stream with retention by limits";
        return Some(why.to_owned());
    }
    let filter = config.filter();
    if !stream.subjects.iter().any(|taken| subject::covers(taken, &filter)) {
        return Some(format!(
            "its subjects do not take {filter}; add that to them, or choose a subject that it takes"
        ));
    }
    let republished = stream.republish.iter().map(|to| placeholders_as_wildcards(&to.destination));
    let given: Vec<String> = stream.subjects.iter().cloned().chain(republished).collect();
    let read_again = |read: &[String]| {
        let looped = |read: &String| given.iter().any(|given| subject::overlap(given, read));
        read.iter().find(|read| looped(read)).map(|read| {
            format!(
                "what it takes is read by the EventSource itself ({read}), so each dead letter would come back as an event; choose another stream"
            )
        })
    };
    match (reads, source) {
        (Reads::Subjects(subjects), _) => read_again(subjects),
        (Reads::Stream { stream: read, .. }, Some(source)) => {
            let mut origins = source.mirror.iter().chain(source.sources.iter().flatten());
            let copied = origins.any(|origin| origin.name == *name && origin.external.is_none());
            let copied = copied.then(|| {
                format!(
                    "stream {read}, which the EventSource reads, has it as a source, so each dead letter would come back as an event; choose another stream"
                )
            });
            copied.or_else(|| read_again(&source.subjects))
        }
        (Reads::Stream { subjects, .. }, None) => read_again(subjects),
        (Reads::Nothing, _) => None,
    }
}

/// The subjects that messages are republished to: each token with a placeholder may become anything.
fn placeholders_as_wildcards(destination: &str) -> String {
    let tokens = destination.split('.').map(|token| if token.contains(['{', '$']) { "*" } else { token });
    tokens.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::jetstream::stream::{Republish, Source};

    fn config(reads: Reads) -> LettersConfig {
        LettersConfig { reads, ..LettersConfig::new("s", "DEAD") }
    }

    fn taking(subjects: &[&str]) -> Config {
        let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        Config { name: "DEAD".to_owned(), subjects, ..Config::default() }
    }

    #[test]
    fn a_stream_that_cannot_keep_letters_is_refused_with_the_reason() {
        let good = taking(&["fleet.dead-letters.>"]);
        let core = || config(Reads::Subjects(vec!["events.>".to_owned()]));
        assert_eq!(fault(&good, &core(), None), None);
        assert_eq!(fault(&wanted(&core()), &core(), None), None);
        let stream = |name: &str| config(Reads::Stream { stream: name.to_owned(), subjects: Vec::new() });
        let source = |origin: &str| Config {
            name: "EVENTS".to_owned(),
            sources: Some(vec![Source { name: origin.to_owned(), ..Source::default() }]),
            ..Config::default()
        };
        assert_eq!(fault(&good, &stream("EVENTS"), Some(&source("OTHER"))), None);
        let republish = Republish {
            source: ">".to_owned(),
            destination: "events.{{wildcard(1)}}".to_owned(),
            headers_only: false,
        };
        for (stream, config, source, expected) in [
            (good.clone(), stream("DEAD"), None, "it is the stream that the EventSource reads"),
            (
                good.clone(),
                stream("EVENTS"),
                Some(source("DEAD")),
                "EVENTS, which the EventSource reads, has it",
            ),
            (taking(&["fleet.>", "events.a"]), core(), None, "read by the EventSource itself (events.>)"),
            (good.clone(), config(Reads::Subjects(vec![">".to_owned()])), None, "itself (>)"),
            (taking(&["fleet.dead-letters.*"]), core(), None, "do not take fleet.dead-letters.*.*; add that"),
            (Config { republish: Some(republish), ..good.clone() }, core(), None, "itself (events.>)"),
            (
                Config { retention: RetentionPolicy::Interest, ..good.clone() },
                core(),
                None,
                "keeps nothing that nobody reads",
            ),
            (Config { no_ack: true, ..good.clone() }, core(), None, "without acknowledgements"),
        ] {
            let found = fault(&stream, &config, source.as_ref()).unwrap_or_default();
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }
}
