//! The NATS part of an EventSource, and the Secret with its credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

use super::contents::Contents;
use super::dead_letter;
use super::object::{Fault, Kind, ObjectId, Place, Problem, join};
use super::references::{Lookup, References};
use super::transport::{ClientCertificate, DeadLetterStream, JetStream, NatsAuth, NatsTransport};
use crate::api::{DeadLetterSpec, DeliverFrom, NatsSpec, parse_duration};

/// The keys that a connection Secret may have.
const KEYS: [&str; 10] =
    ["url", "urls", "user", "password", "token", "nkey", "creds", "ca.crt", "tls.crt", "tls.key"];

/// How to connect, but for the Secret.
#[derive(Debug)]
pub(super) struct NatsDraft {
    servers: Vec<String>,
    secret: Option<ObjectId>,
    subjects: Vec<String>,
    queue_group: Option<String>,
    jet_stream: Option<JetStream>,
    dead_letters: Option<DeadLetterStream>,
}

impl NatsDraft {
    pub(super) fn new(
        place: &Place,
        spec: NatsSpec,
        dead_letter: Option<DeadLetterSpec>,
        replay: u32,
        problems: &mut Vec<Problem>,
    ) -> Self {
        const AT: &str = "/spec/nats";
        let dead_letters = dead_letter.map(|letters| dead_letter::stream(place, letters, &spec, problems));
        let from_new = spec.jet_stream.as_ref().is_some_and(|stream| stream.deliver_from == DeliverFrom::New);
        let mut invalid =
            |pointer: &str, reason: String| problems.push(place.problem(pointer, Fault::Invalid, reason));
        let mut servers = Vec::new();
        for (index, url) in spec.urls.iter().enumerate() {
            match server(url) {
                Ok(url) => servers.push(url),
                // It may hold a password: not shown.
                Err(why) => invalid(&format!("{AT}/urls/{index}"), why.to_owned()),
            }
        }
        let secret =
            spec.connection_secret_ref.map(|at| ObjectId::namespaced(Kind::Secret, &at.namespace, &at.name));
        if spec.urls.is_empty() && secret.is_none() {
            invalid(
                AT,
                "no server: set urls, or connectionSecretRef to a Secret with the key url".to_owned(),
            );
        }
        for (index, one) in spec.subjects.iter().enumerate() {
            if let Err(why) = subject(one) {
                invalid(&format!("{AT}/subjects/{index}"), format!("{one:?} {why}"));
            }
        }
        if let Some(group) = &spec.queue_group {
            if spec.jet_stream.is_some() {
                let reason =
                    "is for core NATS; with jetStream, operators share the work of one durable consumer";
                invalid(&join(AT, "queueGroup"), reason.to_owned());
            } else if group.is_empty() || group.contains(char::is_whitespace) {
                invalid(&join(AT, "queueGroup"), "must be a text without spaces".to_owned());
            }
        }
        if replay > 0 && spec.jet_stream.is_none() {
            let reason = "is for JetStream: nothing else keeps events to deliver again; set nats.jetStream";
            invalid("/spec/replay", reason.to_owned());
        } else if replay > 0 && from_new {
            let reason = "with deliverFrom: new would skip what was not read yet; set deliverFrom: all";
            invalid("/spec/replay", reason.to_owned());
        }
        let create = spec.jet_stream.as_ref().is_some_and(|stream| stream.create);
        if spec.subjects.is_empty() && spec.jet_stream.is_none() {
            invalid(AT, "subjects is missing; name at least one subject".to_owned());
        } else if spec.subjects.is_empty() && create {
            invalid(AT, "to create the stream, subjects must say which subjects it is to hold".to_owned());
        }
        let jet_stream = spec.jet_stream.map(|stream| {
            const AT: &str = "/spec/nats/jetStream";
            for (field, name) in [("stream", Some(&stream.stream)), ("durable", stream.durable.as_ref())] {
                if name.is_some_and(|name| !is_jetstream_name(name)) {
                    let reason = "must be a name: not empty, without spaces and any of . * > / \\".to_owned();
                    invalid(&join(AT, field), reason);
                }
            }
            let ack_wait = stream.ack_wait.and_then(|text| {
                parse_duration(&text).map_err(|error| invalid(&join(AT, "ackWait"), error.to_string())).ok()
            });
            if stream.max_ack_pending == Some(0) {
                invalid(&join(AT, "maxAckPending"), "must be at least 1".to_owned());
            }
            JetStream {
                stream: stream.stream,
                durable: stream.durable,
                deliver_from: stream.deliver_from,
                ack_wait,
                max_ack_pending: stream.max_ack_pending,
                create: stream.create,
                replay,
            }
        });
        Self {
            servers,
            secret,
            subjects: spec.subjects,
            queue_group: spec.queue_group,
            jet_stream,
            dead_letters,
        }
    }

    pub(super) fn references(&self) -> Option<ObjectId> {
        self.secret.clone()
    }

    pub(super) fn resolve(
        &self,
        place: &Place,
        references: &References<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<NatsTransport> {
        let mut transport = NatsTransport {
            servers: self.servers.clone(),
            auth: NatsAuth::None,
            ca: None,
            client_certificate: None,
            tls_server_name: None,
            tls_first: false,
            resolve: Vec::new(),
            subjects: self.subjects.clone(),
            queue_group: self.queue_group.clone(),
            jet_stream: self.jet_stream.clone(),
            dead_letters: self.dead_letters.clone(),
        };
        let Some(id) = &self.secret else {
            return Some(transport);
        };
        let mut fault = |fault, reason: String| {
            problems.push(place.problem("/spec/nats/connectionSecretRef", fault, reason));
        };
        let contents = match references.look_up(id) {
            Lookup::Found(contents) => contents,
            Lookup::Absent(reason) | Lookup::Unusable(reason) => {
                fault(Fault::MissingReference, reason);
                return None;
            }
        };
        match connection(contents, &mut transport) {
            Ok(()) => Some(transport),
            Err(why) => {
                fault(Fault::Invalid, format!("{id}{why}"));
                None
            }
        }
    }
}

/// Fills in what the Secret holds. The message goes on after the Secret's name.
fn connection(contents: &Contents, transport: &mut NatsTransport) -> Result<(), String> {
    let mut found: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    for (key, text) in &contents.entries {
        if !KEYS.contains(&key.as_str()) {
            return Err(format!(", key {key} is unknown; a connection has the keys {}", KEYS.join(", ")));
        }
        let text = text.as_ref().map_err(|why| format!(", key {key} {why}"))?;
        // Files that people make Secrets from end with a newline.
        let text = text.trim_end_matches(['\r', '\n']);
        if text.trim().is_empty() {
            return Err(format!(", key {key} is empty"));
        }
        found.insert(key, text.into());
    }
    let mut take = |key: &str| found.remove(key);
    let together =
        |given: &str, lacking: &str| format!(" has the key {given} without {lacking}; add {lacking}");

    let listed = match (take("url"), take("urls")) {
        (Some(_), Some(_)) => return Err(" has both url and urls; keep one".to_owned()),
        (Some(url), None) => Some(("url", url)),
        (None, urls) => urls.map(|urls| ("urls", urls)),
    };
    match listed {
        Some((key, _)) if !transport.servers.is_empty() => {
            return Err(format!(", key {key} names servers, and so does spec.nats.urls; keep one"));
        }
        Some((key, text)) => {
            let urls = text.split([',', '\n']).map(str::trim).filter(|url| !url.is_empty());
            transport.servers =
                urls.map(server).collect::<Result<_, _>>().map_err(|why| format!(", key {key}: {why}"))?;
        }
        None if transport.servers.is_empty() => {
            return Err(
                " has no key url, and spec.nats.urls is not set; name a server in one of them".to_owned()
            );
        }
        None => {}
    }

    let secret = |text: Arc<str>| SecretString::from(&*text);
    let password = match (take("user"), take("password")) {
        (Some(user), Some(password)) => {
            Some(("user", NatsAuth::UserPassword { user: user.to_string(), password: secret(password) }))
        }
        (Some(_), None) => return Err(together("user", "password")),
        (None, Some(_)) => return Err(together("password", "user")),
        (None, None) => None,
    };
    let ways: Vec<(&str, NatsAuth)> = [
        password,
        take("token").map(|text| ("token", NatsAuth::Token(secret(text)))),
        take("nkey").map(|text| ("nkey", NatsAuth::Nkey(secret(text)))),
        take("creds").map(|text| ("creds", NatsAuth::Creds(secret(text)))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if ways.len() > 1 {
        let keys: Vec<_> = ways.iter().map(|(key, _)| *key).collect();
        return Err(format!(" has the keys {}; keep one way to log in", keys.join(" and ")));
    }
    if let Some((_, auth)) = ways.into_iter().next() {
        transport.auth = auth;
    }

    transport.ca = take("ca.crt").map(|text| pem("ca.crt", &text, "CERTIFICATE")).transpose()?;
    transport.client_certificate = match (take("tls.crt"), take("tls.key")) {
        (Some(certificate), Some(key)) => Some(ClientCertificate {
            certificate: pem("tls.crt", &certificate, "CERTIFICATE")?,
            key: pem("tls.key", &key, "PRIVATE KEY")?.into(),
        }),
        (Some(_), None) => return Err(together("tls.crt", "tls.key")),
        (None, Some(_)) => return Err(together("tls.key", "tls.crt")),
        (None, None) => None,
    };
    Ok(())
}

/// Whether it looks like PEM of a kind; the TLS library reads it in full.
fn pem(key: &str, text: &str, label: &str) -> Result<String, String> {
    let begins = text
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{label}-----")));
    if begins { Ok(text.to_owned()) } else { Err(format!(", key {key} is no PEM text with a {label}")) }
}

/// Checks the URL of a server. The reason does not show it.
pub(crate) fn server(url: &str) -> Result<String, &'static str> {
    let url = url.trim();
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    if !matches!(scheme, "nats" | "tls") {
        return Err("is no URL of a NATS server; write nats://host:4222 or tls://host:4222");
    }
    if rest.contains('@') {
        return Err(
            "holds credentials; put them under the keys user and password (or token) of the connection's Secret",
        );
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        // The colons of an IPv6 address are inside brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_ok = !host.is_empty()
        && !host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '*'))
        && (bracketed || !host.contains(':'));
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if host_ok && port_ok {
        Ok(format!("{scheme}://{rest}"))
    } else {
        Err("is no URL of a NATS server; write nats://host:4222 or tls://host:4222")
    }
}

/// Checks a subject to subscribe to ([NATS subjects]).
///
/// [NATS subjects]: https://docs.nats.io/nats-concepts/subjects
pub(crate) fn subject(subject: &str) -> Result<(), &'static str> {
    if subject.is_empty() || subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("is no subject: it is empty or holds spaces");
    }
    let mut tokens = subject.split('.').peekable();
    while let Some(token) = tokens.next() {
        match token {
            "" => return Err("is no subject: between dots there must be something"),
            ">" if tokens.peek().is_some() => return Err("is no subject: > may only be the last token"),
            "*" | ">" => {}
            _ if token.contains(['*', '>']) => return Err("is no subject: * and > must be whole tokens"),
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn is_jetstream_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_without_credentials() {
        for (url, normal) in [
            ("nats://a:4222", "nats://a:4222"),
            ("a.b.svc:4222", "nats://a.b.svc:4222"),
            ("tls://a", "tls://a"),
            (" nats://[::1]:4222/ ", "nats://[::1]:4222"),
        ] {
            assert_eq!(server(url).as_deref(), Ok(normal));
        }
        for url in ["", "http://a", "nats://", "nats://a:x", "nats://a:0", "nats://a b", "nats://a/b", "::1"]
        {
            assert!(server(url).is_err(), "{url}");
        }
        assert!(server("nats://u:hunter2@a").unwrap_err().contains("holds credentials"));
    }

    #[test]
    fn subjects_follow_nats() {
        for good in ["a", "a.b", "a.*.c", "a.>", ">", "user-operation"] {
            assert!(subject(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a..b", ".a", "a.", "a.>.b", "a*", "a.b>"] {
            assert!(subject(bad).is_err(), "{bad}");
        }
    }
}
