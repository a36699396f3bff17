//! Who may send: whoever shows a token, or a certificate, that is good. Where neither is asked for, everybody.

use axum::response::Response;
use http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;

use super::access::{Access, Peer};
use super::problem::problem;

/// A sender that may send.
pub(super) struct Admitted {
    by_query: bool,
}

impl Admitted {
    /// An answer that nobody between here and the sender keeps, if the token stood in the address (RFC 6750, section 2.3).
    pub(super) fn finish(&self, mut response: Response) -> Response {
        if self.by_query {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        response
    }
}

/// Why a sender may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no token; and whether a certificate would do as well.
    NoToken { or_certificate: bool },
    /// There are two.
    TwoTokens,
    /// The token is none that lets send.
    BadToken,
    /// There is no certificate, and nothing else lets send.
    NoCertificate,
    /// The certificate is somebody's who may not.
    OtherName,
}

/// Looks whether the sender of a request may send.
pub(super) fn admit(access: &Access, parts: &Parts) -> Result<Admitted, Refusal> {
    let peer = parts.extensions.get().copied().unwrap_or(Peer::Unknown);
    let by_certificate = match peer {
        Peer::Verified(true) => Ok(Admitted { by_query: false }),
        Peer::Verified(false) => Err(Refusal::OtherName),
        Peer::Unknown => Err(Refusal::NoCertificate),
    };
    let certificates = access.asks_for_certificates();
    let Some(tokens) = access.tokens() else {
        return if certificates { by_certificate } else { Ok(Admitted { by_query: false }) };
    };
    let header = authorization(&parts.headers);
    let query = access_token(parts.uri.query().unwrap_or_default());
    let by_query = query.is_some();
    match (header, query) {
        (Some(_), Some(_)) => Err(Refusal::TwoTokens),
        (None, None) if peer != Peer::Unknown => by_certificate,
        (None, None) => Err(Refusal::NoToken { or_certificate: certificates }),
        (Some(token), None) | (None, Some(token)) => match token {
            Token::Bearer(token) if tokens.hold(&token) => Ok(Admitted { by_query }),
            _ => Err(Refusal::BadToken),
        },
    }
}

enum Token {
    Bearer(Vec<u8>),
    /// Something that is no bearer token, or more than one.
    Odd,
}

fn authorization(headers: &HeaderMap) -> Option<Token> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let token = match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => return Some(Token::Odd),
    };
    Some(if values.next().is_some() { Token::Odd } else { Token::Bearer(token.to_owned()) })
}

fn access_token(query: &str) -> Option<Token> {
    let mut found = query.split('&').filter_map(|pair| pair.strip_prefix("access_token="));
    let token = percent_decode_str(found.next()?).collect();
    Some(if found.next().is_some() { Token::Odd } else { Token::Bearer(token) })
}

impl Refusal {
    /// The answer. Where a token would do, it says so as RFC 6750, section 3, wants it.
    pub(super) fn answer(self) -> Response {
        let (status, detail, challenge) = match self {
            Self::NoToken { or_certificate: false } => (
                StatusCode::UNAUTHORIZED,
                "send a token (Authorization: Bearer TOKEN)",
                Some(r#"Bearer realm="fleet""#),
            ),
            Self::NoToken { or_certificate: true } => (
                StatusCode::UNAUTHORIZED,
                "send a token (Authorization: Bearer TOKEN), or show a client certificate",
                Some(r#"Bearer realm="fleet""#),
            ),
            Self::TwoTokens => (
                StatusCode::BAD_REQUEST,
                "there is a token in the Authorization header and one as access_token; send one of them",
                Some(r#"Bearer realm="fleet", error="invalid_request""#),
            ),
            Self::BadToken => (
                StatusCode::UNAUTHORIZED,
                "the token is none of those that may send (run --token-file)",
                Some(r#"Bearer realm="fleet", error="invalid_token""#),
            ),
            Self::NoCertificate => (
                StatusCode::FORBIDDEN,
                "show a client certificate that one of the authorities signed (run --client-ca)",
                None,
            ),
            Self::OtherName => (
                StatusCode::FORBIDDEN,
                "none of the names in the client certificate may send (run --client-name)",
                None,
            ),
        };
        let mut response = problem(status, detail);
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
