//! A request: headers, an empty line, the body. What is accepted are CloudEvents, which come back as they were, and a dead letter
//! is decoded as its request was.

use fleet_operator::http::decoded;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Outcome, message, specification};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Some((pairs, body)) = message(input) else { return Outcome::Refused };
    let mut headers = HeaderMap::new();
    for (name, value) in &pairs {
        // No other header gets here.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes()))
        {
            headers.append(name, value);
        }
    }
    let mut taken = Outcome::Refused;
    for (raw, event) in decoded::events(&headers, &body) {
        match event {
            Ok(event) => {
                taken = Outcome::Taken;
                specification::hold(&event);
                specification::comes_back(&event);
                let kept = decoded::kept("/events", &headers, &raw);
                assert_eq!(kept.as_ref(), Ok(&event), "a dead letter is another event than its request");
            }
            Err(error) => assert!(!error.reason.is_empty()),
        }
    }
    taken
}
