//! The JWTs of NATS' decentralised authentication: an operator signs accounts, an account signs users.
//!
//! Version 2 of the format, as `github.com/nats-io/jwt` describes it.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::{LabError, Result};

/// Who vouches for the accounts.
pub(super) struct Operator {
    key: KeyPair,
}

/// Who vouches for its users, and keeps their messages apart from those of other accounts.
pub(super) struct Account {
    key: KeyPair,
    name: &'static str,
}

impl Operator {
    pub(super) fn new() -> Self {
        Operator { key: KeyPair::new_operator() }
    }

    pub(super) fn jwt(&self, system: &Account) -> Result<String> {
        let claims = json!({"type": "operator", "version": 2, "system_account": system.id()});
        sign(&self.key, &self.key.public_key(), "lab", claims)
    }

    pub(super) fn account_jwt(&self, account: &Account, jetstream: bool) -> Result<String> {
        // -1 is "no limit", and 0 "none of it": JetStream is off where its storage is 0.
        let storage = if jetstream { -1 } else { 0 };
        let claims = json!({
            "type": "account",
            "version": 2,
            "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                "conn": -1, "leaf": -1,
                "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
            },
            "default_permissions": {"pub": {}, "sub": {}},
        });
        sign(&self.key, &account.id(), account.name, claims)
    }
}

impl Account {
    pub(super) fn new(name: &'static str) -> Self {
        Account { key: KeyPair::new_account(), name }
    }

    pub(super) fn id(&self) -> String {
        self.key.public_key()
    }

    /// A creds file for a new user of this account.
    pub(super) fn user_creds(&self, name: &str) -> Result<String> {
        let user = KeyPair::new_user();
        let claims = json!({
            "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
        });
        let jwt = sign(&self.key, &user.public_key(), name, claims)?;
        let seed = seed(&user)?;
        Ok(format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        ))
    }
}

/// A private key as text.
pub(super) fn seed(key: &KeyPair) -> Result<String> {
    key.seed().map_err(failed)
}

pub(super) fn failed(error: nkeys::error::Error) -> LabError {
    LabError::Credential { what: "NATS credentials", reason: error.to_string() }
}

fn sign(issuer: &KeyPair, subject: &str, name: &str, claims: Value) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default();
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let body = json!({
        // Any unique text will do.
        "jti": format!("{subject}-{now}"),
        "iat": now,
        "iss": issuer.public_key(),
        "name": name,
        "sub": subject,
        "nats": claims,
    });
    let text = [header, body].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = issuer.sign(text.as_bytes()).map_err(failed)?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
