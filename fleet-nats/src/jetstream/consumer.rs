//! The durable consumer: found, created, kept as configured, or refused with what differs.

use std::collections::BTreeSet;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, Config, Consumer, DeliverPolicy, FromConsumer, Info, pull};

use super::JetStreamConfig;
use super::api::{self, ApiError};
use crate::connection::Trouble;

/// Says in a consumer's metadata which EventSource created it.
const MARK: &str = "fleet-events.dev/event-source";

/// The consumer that a source reads through.
pub(super) struct Bound {
    pub(super) consumer: Consumer<pull::Config>,
    /// It did not exist before.
    pub(super) created: bool,
}

/// The name of the consumer for a replay.
fn durable_name(source: &str, config: &JetStreamConfig, replay: u64) -> String {
    // Names of EventSources may hold dots, names of consumers may not.
    let name = config.durable.clone().unwrap_or_else(|| format!("fleet-{}", source.replace('.', "-")));
    if replay == 0 { name } else { format!("{name}-replay-{replay}") }
}

/// Deletes the consumer of an earlier replay, if this source created it.
///
/// # Errors
/// When it may still be there, with its name.
pub(super) async fn delete_earlier(
    context: &Context,
    source: &str,
    config: &JetStreamConfig,
    replay: u64,
) -> Result<(), String> {
    let name = durable_name(source, config, replay);
    match api::consumer_info(context, &config.stream, &name).await {
        Ok(existing) if is_ours(&existing.config, source) => {}
        // A user's own is left to the user.
        Ok(_) | Err(ApiError::ConsumerNotFound | ApiError::StreamNotFound) => return Ok(()),
        Err(_) => return Err(name),
    }
    match api::delete_consumer(context, &config.stream, &name).await {
        Ok(()) | Err(ApiError::ConsumerNotFound) => {
            tracing::info!(
                source,
                stream = config.stream,
                consumer = name,
                "deleted the consumer of an earlier replay"
            );
            Ok(())
        }
        Err(_) => Err(name),
    }
}

/// Finds the consumer, creates it to begin at `start`, or brings one of ours up to date.
pub(super) async fn bind(
    context: &Context,
    source: &str,
    config: &JetStreamConfig,
    start: DeliverPolicy,
) -> Result<Bound, Trouble> {
    let name = durable_name(source, config, config.replay);
    let doing = |what: &str| format!("{what} consumer {name} of stream {}", config.stream);
    let trouble = |error: ApiError, what: &str| error.trouble(&config.stream, &doing(what));
    let existing = match api::consumer_info(context, &config.stream, &name).await {
        Ok(existing) => existing,
        Err(ApiError::ConsumerNotFound) => {
            let wanted = wanted(source, config, name.clone(), start);
            let consumer =
                create(context, wanted, &config.stream).await.map_err(|error| trouble(error, "creating"))?;
            return Ok(Bound { consumer, created: true });
        }
        Err(error) => return Err(trouble(error, "looking for")),
    };
    let conflicts = conflicts(&existing.config, source, config);
    if !conflicts.is_empty() {
        let message = format!(
            "{} cannot be used: {}; delete it, or name another durable",
            doing("the existing"),
            conflicts.join("; ")
        );
        return Err(Trouble { reason: "ConsumerConflict", message });
    }
    let wanted = wanted(source, config, name.clone(), existing.config.deliver_policy);
    let consumer = if is_ours(&existing.config, source) && differs(&existing.config, &wanted) {
        tracing::info!(source, stream = config.stream, consumer = name, "updating the consumer");
        create(context, wanted, &config.stream).await.map_err(|error| trouble(error, "updating"))?
    } else {
        from_info(context, existing).map_err(|error| trouble(error, "using"))?
    };
    Ok(Bound { consumer, created: false })
}

fn wanted(source: &str, config: &JetStreamConfig, name: String, start: DeliverPolicy) -> pull::Config {
    pull::Config {
        durable_name: Some(name),
        description: Some(format!("EventSource {source} of Fleet")),
        deliver_policy: start,
        ack_policy: AckPolicy::Explicit,
        ack_wait: config.ack_wait,
        max_deliver: -1,
        max_ack_pending: i64::from(config.max_ack_pending),
        filter_subjects: config.subjects.clone(),
        metadata: [(MARK.to_owned(), source.to_owned())].into(),
        ..pull::Config::default()
    }
}

async fn create(
    context: &Context,
    config: pull::Config,
    stream: &str,
) -> Result<Consumer<pull::Config>, ApiError> {
    use async_nats::jetstream::stream::ConsumerErrorKind;
    context.create_consumer_on_stream(config, stream).await.map_err(|error| match error.kind() {
        ConsumerErrorKind::TimedOut => ApiError::TimedOut,
        ConsumerErrorKind::JetStream(error) => api::refused(&error),
        _ => ApiError::Refused(error.to_string()),
    })
}

fn from_info(context: &Context, info: Info) -> Result<Consumer<pull::Config>, ApiError> {
    let config = pull::Config::try_from_consumer_config(info.config.clone())
        .map_err(|error| ApiError::Refused(error.to_string()))?;
    Ok(Consumer::new(config, info, context.clone()))
}

fn is_ours(existing: &Config, source: &str) -> bool {
    existing.metadata.get(MARK).is_some_and(|marked| marked == source)
}

/// What makes an existing consumer useless for this source.
fn conflicts(existing: &Config, source: &str, config: &JetStreamConfig) -> Vec<String> {
    let mut conflicts = Vec::new();
    if let Some(other) = existing.metadata.get(MARK).filter(|marked| *marked != source) {
        conflicts.push(format!("it belongs to EventSource {other}"));
    }
    if existing.deliver_subject.is_some() {
        conflicts.push("it is a push consumer, a pull consumer is needed".to_owned());
    }
    if existing.ack_policy != AckPolicy::Explicit {
        conflicts.push(format!("its ack policy is {:?}, Explicit is needed", existing.ack_policy));
    }
    if existing.headers_only {
        conflicts.push("it delivers headers only".to_owned());
    }
    let filters = filters(&existing.filter_subject, &existing.filter_subjects);
    let asked: BTreeSet<&str> = config.subjects.iter().map(String::as_str).collect();
    if !is_ours(existing, source) && !asked.is_empty() && filters != asked {
        let show = |subjects: &BTreeSet<&str>| subjects.iter().copied().collect::<Vec<_>>().join(", ");
        conflicts.push(format!("it reads {:?}, the EventSource asks for {:?}", show(&filters), show(&asked)));
    }
    conflicts
}

/// Whether one of ours is not as the configuration wants it.
fn differs(existing: &Config, wanted: &pull::Config) -> bool {
    existing.ack_wait != wanted.ack_wait
        || existing.max_ack_pending != wanted.max_ack_pending
        || existing.max_deliver != wanted.max_deliver
        || filters(&existing.filter_subject, &existing.filter_subjects)
            != filters(&wanted.filter_subject, &wanted.filter_subjects)
}

/// The server keeps one filter in one field and several in another.
pub(super) fn filters<'a>(one: &'a str, several: &'a [String]) -> BTreeSet<&'a str> {
    several.iter().map(String::as_str).chain(Some(one).filter(|one| !one.is_empty())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::jetstream::consumer::IntoConsumerConfig;

    #[test]
    fn conflicts_say_what_differs_and_ours_is_updated_instead() {
        let asked = JetStreamConfig { subjects: vec!["a.>".to_owned()], ..JetStreamConfig::new("EVENTS") };
        let ours = wanted("s", &asked, "d".to_owned(), DeliverPolicy::All).into_consumer_config();
        assert!(conflicts(&ours, "s", &asked).is_empty());
        assert!(conflicts(&ours, "other", &asked)[0].contains("belongs to EventSource s"));
        let edited = JetStreamConfig { subjects: vec!["b".to_owned()], ..asked.clone() };
        assert!(conflicts(&ours, "s", &edited).is_empty());
        assert!(differs(&ours, &wanted("s", &edited, "d".to_owned(), DeliverPolicy::All)));
        assert!(!differs(&ours, &wanted("s", &asked, "d".to_owned(), DeliverPolicy::New)));

        let users = Config { metadata: Default::default(), ack_policy: AckPolicy::None, ..ours };
        let users = Config { deliver_subject: Some("x".to_owned()), ..users };
        let found = conflicts(&users, "s", &edited).join("; ");
        for expected in
            ["push consumer", "ack policy is None", "reads \"a.>\", the EventSource asks for \"b\""]
        {
            assert!(found.contains(expected), "{found}");
        }
    }
}
