//! Bearer tokens, as a file holds them.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// A token that can be guessed protects nothing.
const SHORTEST: usize = 16;

/// The tokens that are good now. Only their digests are kept, so that nothing can show them.
#[derive(Clone)]
pub(super) struct Tokens(Vec<[u8; 32]>);

/// Why a file's lines are no tokens. Never holds anything of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A line is too short to be a secret.
    #[error("line {0} is shorter than {SHORTEST} characters; put a random token there")]
    Short(usize),
    /// A line holds what no header can.
    #[error(
        "line {0} holds something else than letters, digits and -._~+/=; put one token on a line, and # before remarks"
    )]
    Characters(usize),
}

impl Tokens {
    /// Reads a file's text: a token a line; empty lines and those that begin with `#` are left out.
    pub(super) fn parse(text: &[u8]) -> Result<Self, TokenError> {
        let mut tokens = Vec::new();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            // RFC 6750, b64token.
            let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
            if !line.iter().all(allowed) {
                return Err(TokenError::Characters(number));
            }
            if line.len() < SHORTEST {
                return Err(TokenError::Short(number));
            }
            tokens.push(Sha256::digest(line).into());
        }
        Ok(Self(tokens))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is one of them. How long that takes tells nothing of them.
    pub(super) fn hold(&self, token: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let found = self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&digest));
        found.into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_token() {
        let tokens = Tokens::parse(b"# old\nfirst-token-0123456789\r\n\n  second/token+01234==\n").unwrap();
        assert!(tokens.hold(b"first-token-0123456789") && tokens.hold(b"second/token+01234=="));
        for other in [&b""[..], b"# old", b"first-token-012345678", b"first-token-0123456789\r"] {
            assert!(!tokens.hold(other));
        }
        assert!(Tokens::parse(b"# none\n").unwrap().is_empty());
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[test]
    fn what_is_no_token_is_told_by_its_line() {
        assert_eq!(Tokens::parse(b"\nhunter2\n").unwrap_err(), TokenError::Short(2));
        for line in ["two tokens on one line", "a-token-with-\u{fc}mlauts"] {
            let error = Tokens::parse(line.as_bytes()).unwrap_err();
            assert_eq!(error, TokenError::Characters(1));
            assert!(!error.to_string().contains("token-with") && !error.to_string().contains("two tokens"));
        }
    }
}
