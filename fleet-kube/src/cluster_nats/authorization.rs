//! Who we are to a NATS server, as the Secret says it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::node::{Mistake, Node};
use crate::definitions::{ClientCertificate, NatsAuth, NatsTransport};

/// Fills in what the mapping says.
pub(super) fn authorization(node: &Node<'_>, transport: &mut NatsTransport) -> Result<(), Mistake> {
    let user = match node.node("user", &["user", "password"])? {
        None => None,
        Some(login) => {
            let user = login.needed_text("user")?.to_owned();
            let password = login.needed_text("password")?.into();
            Some(("user", NatsAuth::UserPassword { user, password }))
        }
    };
    let ways = [
        user,
        node.text("token")?.map(|text| ("token", NatsAuth::Token(text.into()))),
        node.text("nkey")?.map(|text| ("nkey", NatsAuth::Nkey(text.trim().into()))),
        node.text("creds")?.map(|text| ("creds", NatsAuth::Creds(text.into()))),
    ];
    let mut ways = ways.into_iter().flatten();
    if let Some((first, auth)) = ways.next() {
        if let Some((second, _)) = ways.next() {
            return Err(node.wrong("", format!("has both {first} and {second}; keep one way to log in")));
        }
        transport.auth = auth;
    }
    if let Some(certificate) = node.node("clientCert", &["certPem", "keyPem"])? {
        transport.client_certificate = Some(ClientCertificate {
            certificate: pem(&certificate, "certPem", "CERTIFICATE")?,
            key: pem(&certificate, "keyPem", "PRIVATE KEY")?.into(),
        });
    }
    if node.has("rootCA") {
        transport.ca = Some(pem(node, "rootCA", "CERTIFICATE")?);
    }
    Ok(())
}

/// PEM text as it stands, or base64 of it: Sveltos' documentation shows the first, and its code reads the second.
fn pem(node: &Node<'_>, field: &str, label: &str) -> Result<String, Mistake> {
    let text = node.needed_text(field)?;
    let text = if text.contains("-----BEGIN ") {
        Some(text.to_owned())
    } else {
        let bare: String = text.split_whitespace().collect();
        STANDARD.decode(bare).ok().and_then(|bytes| String::from_utf8(bytes).ok())
    };
    let ends = format!("{label}-----");
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&ends);
    match text {
        Some(text) if text.lines().any(begins) => Ok(text),
        _ => Err(node.wrong(field, format!("is no PEM text with a {label}, and no base64 of one"))),
    }
}
