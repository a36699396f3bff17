//! Who may send events over HTTP, as `run` and `agent` are told.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;

use crate::http::{AccessOptions, Clients, Origin, TlsFiles, Webhook};

/// Files are read again when they change. A Secret that is mounted is such files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Events over HTTP")]
pub(super) struct AccessArgs {
    /// Serve HTTPS with this certificate (PEM, with those between it and its authority). It is read again when it changes,
    /// as all files here are.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let those send who show a client certificate that one of these authorities signed (PEM). /healthz, /readyz and
    /// /metrics need none.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Of these only such whose certificate has this name among its alternative names: a DNS name or a URI, as
    /// spiffe://example.com/billing; may be given many times.
    #[arg(long, value_name = "NAME", requires = "client_ca")]
    client_name: Vec<String>,
    /// Let those send who send one of the tokens in this file (Authorization: Bearer TOKEN): one a line, at least 16
    /// characters, # before remarks. Several lines let tokens be replaced one after the other. With --client-ca, either of the
    /// two is enough.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Tell this sender of webhooks that it may send here, when it asks (CloudEvents' OPTIONS handshake): a DNS name, or *
    /// for all; may be given many times. Deliveries of others that say who they are are refused. It is no authorization:
    /// anybody can say that name.
    #[arg(long, value_name = "ORIGIN")]
    webhook_origin: Vec<Origin>,
    /// How many requests a minute senders of webhooks are told they may send; by default as many as are taken (too many at
    /// once are answered by 429 and Retry-After in any case).
    #[arg(long, value_name = "NUMBER", requires = "webhook_origin")]
    webhook_rate: Option<NonZeroU32>,
}

impl AccessArgs {
    pub(super) fn options(&self) -> AccessOptions {
        let clients =
            |authorities| Clients { authorities, names: self.client_name.iter().cloned().collect() };
        let tls = self.tls_cert.clone().zip(self.tls_key.clone()).map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            clients: self.client_ca.clone().map(clients),
        });
        AccessOptions {
            tls,
            tokens: self.token_file.clone(),
            webhook: Webhook { origins: self.webhook_origin.clone(), rate: self.webhook_rate },
        }
    }
}
