//! What a NATS server asks of its clients, and what they show.

use std::fmt;
use std::fs;
use std::path::Path;

use nkeys::KeyPair;

use super::jwt::{self, Account, Operator};
use super::{NatsAuth, quoted};
use crate::{LabError, Result, certificate, private};

const USER: &str = "lab";

/// What a client must show to a [`Nats`](super::Nats) server. Debug output leaves the secrets out.
#[derive(Clone)]
#[non_exhaustive]
pub enum NatsAccess {
    /// Nothing.
    None,
    /// A user and its password.
    UserPassword {
        /// The user's name.
        user: String,
        /// Its password.
        password: String,
    },
    /// A token.
    Token(String),
    /// A user's nkey.
    NKey {
        /// The private key, as text that starts with `SU`.
        seed: String,
        /// The public key, as text that starts with `U`.
        public: String,
    },
    /// A creds file.
    Creds {
        /// What stands in the file: a JWT and a private key.
        creds: String,
        /// The server's side: who the operator and the accounts are.
        #[doc(hidden)]
        resolver: String,
    },
}

impl NatsAccess {
    /// The one in the folder, made if there is none yet, so that a client's stays valid when the server starts again.
    pub(super) fn in_folder(dir: &Path, auth: NatsAuth) -> Result<Self> {
        Ok(match auth {
            NatsAuth::None => NatsAccess::None,
            NatsAuth::UserPassword => NatsAccess::UserPassword {
                user: USER.to_owned(),
                password: kept(dir, "password", "secret", secret)?,
            },
            NatsAuth::Token => NatsAccess::Token(kept(dir, "token", "secret", secret)?),
            NatsAuth::NKey => {
                let seed = kept(dir, "nkey", "seed", || jwt::seed(&KeyPair::new_user()))?;
                let public = KeyPair::from_seed(&seed).map_err(jwt::failed)?.public_key();
                NatsAccess::NKey { seed, public }
            }
            NatsAuth::Creds => {
                let dir = dir.join("creds");
                certificate::folder_once(&dir, creds)?;
                NatsAccess::Creds {
                    creds: read(&dir.join("user.creds"))?,
                    resolver: read(&dir.join("resolver.conf"))?,
                }
            }
        })
    }

    /// What the server's configuration file says of it.
    pub(super) fn configuration(&self) -> Option<String> {
        match self {
            NatsAccess::None => None,
            NatsAccess::UserPassword { user, password } => {
                Some(format!("authorization {{ user: {}, password: {} }}", quoted(user), quoted(password)))
            }
            NatsAccess::Token(token) => Some(format!("authorization {{ token: {} }}", quoted(token))),
            NatsAccess::NKey { public, .. } => {
                Some(format!("authorization {{ users: [ {{ nkey: {} }} ] }}", quoted(public)))
            }
            NatsAccess::Creds { resolver, .. } => Some(resolver.clone()),
        }
    }
}

impl fmt::Debug for NatsAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NatsAccess::None => "None",
            NatsAccess::UserPassword { .. } => "UserPassword",
            NatsAccess::Token(_) => "Token",
            NatsAccess::NKey { .. } => "NKey",
            NatsAccess::Creds { .. } => "Creds",
        })
    }
}

fn secret() -> Result<String> {
    private::secret().map_err(|error| LabError::Credential { what: "a secret", reason: error.to_string() })
}

/// A secret in a folder of its own.
fn kept(dir: &Path, kind: &str, name: &'static str, make: impl FnOnce() -> Result<String>) -> Result<String> {
    let folder = dir.join(kind);
    certificate::folder_once(&folder, || Ok(vec![(name, make()?)]))?;
    read(&folder.join(name))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(LabError::file("read", file))
}

/// An operator with two accounts, and a user in one of them.
fn creds() -> Result<Vec<(&'static str, String)>> {
    let operator = Operator::new();
    let system = Account::new("SYS");
    let account = Account::new("LAB");
    let resolver = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{\n  {}: {}\n  {}: {}\n}}\n",
        operator.jwt(&system)?,
        system.id(),
        system.id(),
        operator.account_jwt(&system, false)?,
        account.id(),
        operator.account_jwt(&account, true)?,
    );
    Ok(vec![("resolver.conf", resolver), ("user.creds", account.user_creds(USER)?)])
}
