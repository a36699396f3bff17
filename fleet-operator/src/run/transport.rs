//! From what an EventSource says about NATS to a source that reads it.

use std::sync::Arc;

use fleet_core::dead_letter::DeadLetterBox;
use fleet_core::source::EventSource;
use fleet_kube::api::DeliverFrom;
use fleet_kube::definitions::{self as defined, NatsAuth, NatsTransport};
use fleet_nats::connection::{Auth, ClientCertificate, ConfigError, Connections, NatsConfig, Tls};
use fleet_nats::core::{CoreConfig, CoreSource};
use fleet_nats::dead_letters::{Guarded, JetStreamLetters, LettersConfig, Reads};
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource, Start};

/// A source, and where its dead letters go if not into the operator's store.
pub(super) struct Built {
    pub(super) source: Arc<dyn EventSource>,
    pub(super) letters: Option<Arc<dyn DeadLetterBox>>,
}

/// A source that reads core NATS, or JetStream. With a stream for its dead letters, it is not read before they can be
/// kept there.
///
/// # Errors
/// When the servers cannot be reached by any means: their URLs make no sense.
pub(super) fn nats(
    name: &str,
    transport: &NatsTransport,
    connections: &Connections,
) -> Result<Built, ConfigError> {
    let nats = config(transport)?;
    let source: Arc<dyn EventSource> = match &transport.jet_stream {
        Some(stream) => {
            let read = jet_stream(stream, &transport.subjects);
            Arc::new(JetStreamSource::new(name, connections, nats.clone(), read))
        }
        None => {
            let mut core = CoreConfig::new(&transport.subjects);
            core.queue_group.clone_from(&transport.queue_group);
            Arc::new(CoreSource::new(name, connections, nats.clone(), core))
        }
    };
    let Some(kept) = &transport.dead_letters else {
        return Ok(Built { source, letters: None });
    };
    let subjects = transport.subjects.clone();
    let reads = match &transport.jet_stream {
        Some(stream) => Reads::Stream { stream: stream.stream.clone(), subjects },
        None => Reads::Subjects(subjects),
    };
    let kept = LettersConfig {
        source: name.to_owned(),
        stream: kept.stream.clone(),
        subject: kept.subject.clone(),
        create: kept.create,
        reads,
    };
    let letters = Arc::new(JetStreamLetters::new(connections, &nats, kept)?);
    let source = Arc::new(Guarded::new(source, Arc::clone(&letters)));
    Ok(Built { source, letters: Some(letters) })
}

fn config(transport: &NatsTransport) -> Result<NatsConfig, ConfigError> {
    let mut config = NatsConfig::new(&transport.servers)?.name("fleet-operator");
    config = match transport.auth.clone() {
        NatsAuth::None => config,
        NatsAuth::UserPassword { user, password } => config.auth(Auth::UserPassword { user, password }),
        NatsAuth::Token(token) => config.auth(Auth::Token(token)),
        NatsAuth::Nkey(seed) => config.auth(Auth::NKey(seed)),
        NatsAuth::Creds(creds) => config.auth(Auth::Creds(creds)),
    };
    if transport.ca.is_none() && transport.client_certificate.is_none() {
        return Ok(config);
    }
    let client = transport
        .client_certificate
        .clone()
        .map(|client| ClientCertificate { certificate: client.certificate, key: client.key });
    Ok(config.tls(Tls { ca: transport.ca.clone(), client, first: false }))
}

fn jet_stream(stream: &defined::JetStream, subjects: &[String]) -> JetStreamConfig {
    let mut config = JetStreamConfig::new(&stream.stream);
    config.subjects = subjects.to_vec();
    config.durable.clone_from(&stream.durable);
    config.start = match stream.deliver_from {
        DeliverFrom::All => Start::All,
        DeliverFrom::New => Start::New,
    };
    config.create = stream.create;
    config.replay = stream.replay.into();
    if let Some(ack_wait) = stream.ack_wait {
        config.ack_wait = ack_wait;
    }
    if let Some(max_ack_pending) = stream.max_ack_pending {
        config.max_ack_pending = max_ack_pending;
    }
    config
}
