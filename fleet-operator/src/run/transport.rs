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
use fleet_nats::place::Place;

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
    let source = source(name, transport, nats.clone(), None, connections);
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

/// What an EventSource has of the NATS in a cluster.
///
/// # Errors
/// When it cannot work, whatever the servers say.
pub(super) fn in_cluster(
    name: &str,
    transport: &NatsTransport,
    place: Place,
    connections: &Connections,
) -> Result<Arc<dyn EventSource>, ConfigError> {
    let nats = config(transport)?.without_discovery();
    nats.check()?;
    Ok(source(name, transport, nats, Some(place), connections))
}

fn source(
    name: &str,
    transport: &NatsTransport,
    nats: NatsConfig,
    place: Option<Place>,
    connections: &Connections,
) -> Arc<dyn EventSource> {
    match &transport.jet_stream {
        Some(stream) => {
            let read = jet_stream(stream, &transport.subjects);
            let source = JetStreamSource::new(name, connections, nats, read);
            Arc::new(match place {
                Some(place) => source.in_place(place),
                None => source,
            })
        }
        None => {
            let mut core = CoreConfig::new(&transport.subjects);
            core.queue_group.clone_from(&transport.queue_group);
            let source = CoreSource::new(name, connections, nats, core);
            Arc::new(match place {
                Some(place) => source.in_place(place),
                None => source,
            })
        }
    }
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
    config = config.resolve(transport.resolve.iter().cloned());
    let server_name = transport.tls_server_name.clone();
    let says_nothing = transport.ca.is_none() && transport.client_certificate.is_none();
    if says_nothing && server_name.is_none() && !transport.tls_first {
        return Ok(config);
    }
    let client = transport
        .client_certificate
        .clone()
        .map(|client| ClientCertificate { certificate: client.certificate, key: client.key });
    Ok(config.tls(Tls { ca: transport.ca.clone(), client, first: transport.tls_first, server_name }))
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
