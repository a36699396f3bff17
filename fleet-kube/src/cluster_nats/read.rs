//! From the text of the Secret to what is read.

use std::time::Duration;

use serde_json::Value;

use super::ClusterFeed;
use super::authorization::authorization;
use super::node::{Mistake, Node};
use crate::api::{DeliverFrom, parse_duration};
use crate::definitions::{JetStream, NatsAuth, NatsTransport, is_jetstream_name, server, subject};

/// So many servers, subjects or streams are read at most.
const MOST: usize = 64;
const MOST_SERVERS: usize = 16;

/// Reads the JSON that Sveltos' agents read, and what is ours in it. What is wrong is told with its place and without any
/// value.
///
/// # Errors
/// The first mistake.
pub fn read(text: &str) -> Result<Vec<ClusterFeed>, Mistake> {
    let value: Value = serde_json::from_str(text).map_err(|error| Mistake {
        path: String::new(),
        reason: format!("is no JSON (line {}, column {})", error.line(), error.column()),
    })?;
    let root = Node::new(String::new(), &value, &["nats", "jetstream"])?;
    let mut feeds = Vec::new();
    // What waits in a stream is known to wait as soon as anything is read.
    if let Some(jetstream) = root.node("jetstream", &["configuration"])? {
        streams(&jetstream, &mut feeds)?;
    }
    if let Some(nats) = root.node("nats", &["configuration"])? {
        let known = ["url", "urls", "subjects", "authorization", "tls"];
        let configuration = configuration(&nats, &known)?;
        let mut transport = connection(&configuration)?;
        transport.subjects = subjects(&configuration)?;
        if transport.subjects.is_empty() {
            return Err(configuration.wrong("subjects", "is missing; name at least one subject"));
        }
        feeds.push(ClusterFeed { name: "nats".to_owned(), transport });
    }
    if feeds.is_empty() {
        return Err(root.wrong("", "has neither nats nor jetstream; say what to connect to in one of them"));
    }
    Ok(feeds)
}

fn configuration<'a>(node: &Node<'a>, known: &[&str]) -> Result<Node<'a>, Mistake> {
    node.node("configuration", known)?.ok_or_else(|| node.wrong("configuration", "is missing"))
}

fn subjects(node: &Node<'_>) -> Result<Vec<String>, Mistake> {
    node.texts("subjects", MOST, |text| subject(text).map(|()| text.to_owned()).map_err(str::to_owned))
}

fn streams(node: &Node<'_>, feeds: &mut Vec<ClusterFeed>) -> Result<(), Mistake> {
    let known = ["url", "urls", "streams", "subjects", "authorization", "tls"];
    let configuration = configuration(node, &known)?;
    let transport = connection(&configuration)?;
    let mut read = Vec::new();
    for (at, item) in configuration.list("streams", MOST)? {
        let known = ["name", "subjects", "durable", "deliverFrom", "ackWait", "maxAckPending"];
        let stream = Node::new(configuration.wrong(&at, "").path, item, &known)?;
        read.push((format!("{at}.name"), subjects(&stream)?, one(&stream)?));
    }
    if read.is_empty() {
        // As agents before Sveltos 1.0 read it: each subject is the name of a stream.
        let names = configuration.list("subjects", MOST)?;
        let streams = configuration.texts("subjects", MOST, |text| {
            if is_jetstream_name(text) { Ok(plain(text)) } else { Err(NO_NAME.to_owned()) }
        })?;
        read.extend(names.into_iter().zip(streams).map(|((at, _), stream)| (at, Vec::new(), stream)));
    } else if configuration.has("subjects") {
        let reason = "is how older agents name streams; keep streams, and put subjects into each of them";
        return Err(configuration.wrong("subjects", reason));
    }
    if read.is_empty() {
        return Err(configuration.wrong("streams", "is missing; name at least one stream"));
    }
    for (at, subjects, stream) in read {
        let name = format!("jetstream/{}", stream.stream);
        if feeds.iter().any(|feed| feed.name == name) {
            return Err(configuration.wrong(&at, "is named twice; put its subjects together"));
        }
        let transport = NatsTransport { subjects, jet_stream: Some(stream), ..transport.clone() };
        feeds.push(ClusterFeed { name, transport });
    }
    Ok(())
}

const NO_NAME: &str = "must be a name: not empty, without spaces and any of . * > / \\";

fn plain(stream: &str) -> JetStream {
    JetStream {
        stream: stream.to_owned(),
        durable: None,
        deliver_from: DeliverFrom::All,
        ack_wait: None,
        max_ack_pending: None,
        create: false,
        replay: 0,
    }
}

fn one(node: &Node<'_>) -> Result<JetStream, Mistake> {
    let name = |field| match node.text(field)? {
        Some(name) if !is_jetstream_name(name) => Err(node.wrong(field, NO_NAME)),
        name => Ok(name),
    };
    let stream = name("name")?.ok_or_else(|| node.wrong("name", "is missing"))?;
    let deliver_from = match node.text("deliverFrom")? {
        None | Some("all") => DeliverFrom::All,
        Some("new") => DeliverFrom::New,
        Some(_) => return Err(node.wrong("deliverFrom", "must be all or new")),
    };
    let ack_wait = match node.text("ackWait")?.map(parse_duration) {
        None => None,
        Some(Ok(wait)) if wait >= Duration::from_secs(1) => Some(wait),
        Some(_) => return Err(node.wrong("ackWait", "must be a duration of a second or more, such as 30s")),
    };
    let max_ack_pending = match node.number("maxAckPending")? {
        None => None,
        Some(most @ 1..=1_000_000) => u32::try_from(most).ok(),
        Some(_) => return Err(node.wrong("maxAckPending", "must be between 1 and 1000000")),
    };
    let durable = name("durable")?.map(str::to_owned);
    Ok(JetStream { durable, deliver_from, ack_wait, max_ack_pending, ..plain(stream) })
}

/// What is said of the connection.
fn connection(node: &Node<'_>) -> Result<NatsTransport, Mistake> {
    let url = |text: &str| {
        if text.contains('@') {
            return Err("holds credentials; put them under authorization".to_owned());
        }
        server(text).map_err(str::to_owned)
    };
    let servers = match (node.text("url")?, node.has("urls")) {
        (Some(_), true) => return Err(node.wrong("urls", "stands beside url; keep one of them")),
        (Some(listed), false) => {
            let urls: Result<Vec<_>, _> = listed.split(',').map(url).collect();
            urls.map_err(|why| node.wrong("url", why))?
        }
        (None, _) => node.texts("urls", MOST_SERVERS, url)?,
    };
    if servers.is_empty() || servers.len() > MOST_SERVERS {
        return Err(node.wrong("url", format!("must name a server, and at most {MOST_SERVERS}")));
    }
    let mut transport = NatsTransport {
        servers,
        auth: NatsAuth::None,
        ca: None,
        client_certificate: None,
        tls_server_name: None,
        tls_first: false,
        resolve: Vec::new(),
        subjects: Vec::new(),
        queue_group: None,
        jet_stream: None,
        dead_letters: None,
    };
    let ways = ["user", "token", "nkey", "creds", "clientCert", "rootCA"];
    if let Some(node) = node.node("authorization", &ways)? {
        authorization(&node, &mut transport)?;
    }
    if let Some(tls) = node.node("tls", &["serverName", "first"])? {
        transport.tls_server_name = tls.text("serverName")?.map(str::to_owned);
        transport.tls_first = tls.flag("first")?;
    }
    Ok(transport)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\n";

    fn names(feeds: &[ClusterFeed]) -> Vec<&str> {
        feeds.iter().map(|feed| feed.name.as_str()).collect()
    }

    /// As the article has it.
    #[test]
    fn core_nats_with_a_user_is_read() {
        let text = "{\n  \"nats\":\n   {\n     \"configuration\":\n\t{\n\t    \"url\": \
                    \"nats://nats.nats.svc.cluster.local:4222\",\n\t    \"subjects\": [\n\t\t\"user-operation\"\n\t    \
                    ],\n\t    \"authorization\": {\n\t\t\"user\": {\n\t\t    \"user\": \"admin\",\n\t\t    \
                    \"password\": \"my-password\"\n\t\t}\n\t    }\n\t}\n   }\n}\n";
        let feeds = read(text).unwrap();
        assert_eq!(names(&feeds), ["nats"]);
        let transport = &feeds[0].transport;
        assert_eq!(transport.servers, ["nats://nats.nats.svc.cluster.local:4222"]);
        assert_eq!(transport.subjects, ["user-operation"]);
        let NatsAuth::UserPassword { user, password } = &transport.auth else { panic!() };
        assert_eq!((user.as_str(), password.expose_secret()), ("admin", "my-password"));
        assert!(!format!("{feeds:?}").contains("my-password"));
    }

    #[test]
    fn streams_are_read_as_new_and_old_agents_do_and_with_what_is_ours() {
        let text = json!({
            "jetstream": {"configuration": {"urls": ["a", "tls://b:1"], "authorization": {"token": "t"},
                "tls": {"serverName": "nats.svc", "first": true},
                "streams": [{"name": "users", "subjects": ["users.>"], "durable": "sveltos-agent",
                    "deliverFrom": "new", "ackWait": "30s", "maxAckPending": 7}, {"name": "orders"}]}},
            "nats": {"configuration": {"url": "a,b", "subjects": ["x"], "authorization": null}},
        });
        let feeds = read(&text.to_string()).unwrap();
        assert_eq!(names(&feeds), ["jetstream/users", "jetstream/orders", "nats"]);
        let users = &feeds[0].transport;
        assert_eq!(users.servers, ["nats://a", "tls://b:1"]);
        assert_eq!((users.tls_server_name.as_deref(), users.tls_first), (Some("nats.svc"), true));
        assert_eq!(users.subjects, ["users.>"]);
        let stream = users.jet_stream.as_ref().unwrap();
        assert_eq!(stream.durable.as_deref(), Some("sveltos-agent"));
        assert_eq!((stream.deliver_from, stream.max_ack_pending), (DeliverFrom::New, Some(7)));
        assert_eq!(stream.ack_wait, Some(Duration::from_secs(30)));
        let orders = feeds[1].transport.jet_stream.as_ref().unwrap();
        assert_eq!((orders, &feeds[1].transport.auth), (&plain("orders"), &users.auth));
        assert_eq!(feeds[2].transport.servers, ["nats://a", "nats://b"]);

        let old = json!({"jetstream": {"configuration": {"url": "a", "subjects": ["users", "orders"]}}});
        let feeds = read(&old.to_string()).unwrap();
        assert_eq!(names(&feeds), ["jetstream/users", "jetstream/orders"]);
        assert!(feeds[0].transport.subjects.is_empty());
    }

    #[test]
    fn certificates_are_pem_or_base64_of_it() {
        let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        for (pem, key) in [(PEM.to_owned(), KEY.to_owned()), (encoded(PEM), format!("{}\n", encoded(KEY)))] {
            let text = json!({"nats": {"configuration": {"url": "a", "subjects": ["x"],
                "authorization": {"rootCA": pem, "clientCert": {"certPem": pem, "keyPem": key}}}}});
            let transport = read(&text.to_string()).unwrap().remove(0).transport;
            assert_eq!(transport.ca.as_deref(), Some(PEM));
            let client = transport.client_certificate.unwrap();
            assert_eq!((client.certificate.as_str(), client.key.expose_secret()), (PEM, KEY));
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_place_and_never_with_a_value() {
        let nats = |field: &str, value: Value| {
            let mut text = json!({"nats": {"configuration": {"url": "a", "subjects": ["x"]}}});
            text["nats"]["configuration"][field] = value;
            text.to_string()
        };
        let stream = |field: &str, value: Value| {
            let mut text = json!({"jetstream": {"configuration": {"url": "a", "streams": [{"name": "s"}]}}});
            text["jetstream"]["configuration"]["streams"][0][field] = value;
            text.to_string()
        };
        let access = |value: Value| nats("authorization", value);
        let jetstream = |value: Value| json!({"jetstream": {"configuration": value}}).to_string();
        for (text, expected) in [
            (String::new(), "is no JSON (line 1, column 0)"),
            ("{\"hunter2\": \"hunter2".to_owned(), "is no JSON (line 1, column 20)"),
            ("[\"hunter2\"]".to_owned(), "must be a mapping"),
            ("{}".to_owned(), "has neither nats nor jetstream"),
            (json!({"nat": {}}).to_string(), "nat: is unknown; expected nats, jetstream"),
            (json!({"nats": {}}).to_string(), "nats.configuration: is missing"),
            (nats("server", json!("hunter2")), "nats.configuration.server: is unknown; expected url, urls"),
            (nats("url", json!(null)), "nats.configuration.url: must name a server"),
            (nats("url", json!(" ")), "nats.configuration.url: is empty"),
            (nats("url", json!("http://hunter2")), "nats.configuration.url: is no URL of a NATS server"),
            (nats("url", json!("nats://u:hunter2@a")), "nats.configuration.url: holds credentials"),
            (nats("urls", json!(["b"])), "nats.configuration.urls: stands beside url; keep one"),
            (nats("subjects", json!([])), "nats.configuration.subjects: is missing"),
            (nats("subjects", json!("hunter2")), "nats.configuration.subjects: must be a list"),
            (nats("subjects", json!(["x", 7])), "nats.configuration.subjects[1]: must be a text"),
            (nats("subjects", json!(["a..b"])), "nats.configuration.subjects[0]: is no subject"),
            (nats("subjects", json!(vec!["x"; 65])), "nats.configuration.subjects: has 65 items; at most 64"),
            (nats("tls", json!({"insecure": true})), "nats.configuration.tls.insecure: is unknown"),
            (nats("tls", json!({"first": "yes"})), "nats.configuration.tls.first: must be true or false"),
            (access(json!("hunter2")), "nats.configuration.authorization: must be a mapping"),
            (
                access(json!({"user": {"user": "me"}})),
                "nats.configuration.authorization.user.password: is missing",
            ),
            (access(json!({"token": 12345})), "nats.configuration.authorization.token: must be a text"),
            (
                access(json!({"token": "hunter2", "nkey": "hunter2"})),
                "nats.configuration.authorization: has both token and nkey; keep one way to log in",
            ),
            (access(json!({"rootCA": "hunter2"})), "nats.configuration.authorization.rootCA: is no PEM text"),
            (
                access(json!({"clientCert": {"certPem": PEM, "keyPem": PEM}})),
                "nats.configuration.authorization.clientCert.keyPem: is no PEM text with a PRIVATE KEY",
            ),
            (jetstream(json!({"url": "a"})), "jetstream.configuration.streams: is missing"),
            (
                jetstream(json!({"url": "a", "subjects": ["users.>"]})),
                "jetstream.configuration.subjects[0]: must be a name",
            ),
            (
                jetstream(json!({"url": "a", "streams": [{"name": "s"}], "subjects": ["t"]})),
                "jetstream.configuration.subjects: is how older agents name streams",
            ),
            (
                jetstream(json!({"url": "a", "streams": [{"name": "s"}, {"name": "s"}]})),
                "jetstream.configuration.streams[1].name: is named twice",
            ),
            (stream("name", json!("a b")), "jetstream.configuration.streams[0].name: must be a name"),
            (stream("name", json!(null)), "jetstream.configuration.streams[0].name: is missing"),
            (stream("durable", json!("a.b")), "jetstream.configuration.streams[0].durable: must be a name"),
            (
                stream("deliverFrom", json!("last")),
                "jetstream.configuration.streams[0].deliverFrom: must be all or",
            ),
            (
                stream("ackWait", json!("1ms")),
                "jetstream.configuration.streams[0].ackWait: must be a duration",
            ),
            (
                stream("maxAckPending", json!(0)),
                "jetstream.configuration.streams[0].maxAckPending: must be between",
            ),
            (
                stream("maxAckPending", json!(-1)),
                "jetstream.configuration.streams[0].maxAckPending: must be a number",
            ),
        ] {
            let mistake = read(&text).unwrap_err().to_string();
            assert!(mistake.starts_with(expected), "{text}\nexpected {expected}\nfound    {mistake}");
            assert!(!mistake.contains("hunter2") && !mistake.contains("12345"), "{mistake}");
        }
    }
}
