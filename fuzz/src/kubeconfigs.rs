//! A kubeconfig from a Secret. What is accepted runs no program and reads no file, and written anew it says the same; what is
//! wrong is told without credentials.

use fleet_kube::kubeconfig::{contained_in_text, from_secret};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::{Outcome, SECRET};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(input) else { return Outcome::Refused };
    let (origin, now) = ("Secret a/b", Timestamp::UNIX_EPOCH);
    let read = |text: &str| contained_in_text(origin, &SecretString::from(text), now);
    let connection = from_secret(origin, &SecretString::from(text), now);
    match read(text) {
        Ok(contained) => {
            assert_eq!(contained.credential_plugin(), None);
            let written = contained.to_yaml().expect("what was read can be written");
            let again = read(written.expose_secret()).expect("what was written can be read");
            assert_eq!(again.to_yaml().unwrap().expose_secret(), written.expose_secret());
            match (connection, again.config()) {
                (Ok(one), Ok(other)) => {
                    assert_eq!(one.cluster_url, other.cluster_url);
                    assert_eq!(one.default_namespace, other.default_namespace);
                }
                (one, other) => assert_eq!(one.is_ok(), other.is_ok()),
            }
            Outcome::Taken
        }
        Err(error) => {
            assert!(connection.is_err(), "what cannot be contained cannot be connected to");
            let told = format!("{error}: {}", error.fault);
            assert!(!only_in_credentials(text) || !told.contains(SECRET), "{told:?} shows credentials");
            Outcome::Refused
        }
    }
}

/// Whether the secret word is nowhere but in lines of credentials.
fn only_in_credentials(text: &str) -> bool {
    const CREDENTIALS: [&str; 4] =
        ["token: ", "password: ", "client-key-data: ", "client-certificate-data: "];
    let mut lines = text.lines().map(|line| line.trim_start_matches([' ', '-']));
    lines.all(|line| !line.contains(SECRET) || CREDENTIALS.iter().any(|it| line.starts_with(it)))
}
