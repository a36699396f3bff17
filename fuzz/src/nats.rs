//! A message of NATS: headers, an empty line, the payload. What is accepted is a CloudEvent, and comes back as it was, also
//! through a message that we publish.

use async_nats::HeaderMap;
use fleet_nats::binding::{decode, decode_pairs, encode};

use crate::{Outcome, message, specification};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Some((pairs, payload)) = message(input) else { return Outcome::Refused };
    let decoded = decode_pairs(&pairs, payload.clone());
    as_the_client_gives_them(&pairs, &payload, &decoded);
    match decoded {
        Ok(event) => {
            specification::hold(&event);
            specification::comes_back(&event);
            let (headers, payload) = encode(&event);
            assert_eq!(
                decode(Some(&headers), payload).as_ref(),
                Ok(&event),
                "published, it is another event"
            );
            Outcome::Taken
        }
        Err(error) => {
            assert!(!error.reason.is_empty());
            Outcome::Refused
        }
    }
}

/// The client library gives the same headers in an order of its own, which makes no difference unless a name comes twice.
fn as_the_client_gives_them(
    pairs: &[(String, String)],
    payload: &bytes::Bytes,
    decoded: &Result<fleet_core::event::Event, fleet_core::event::DecodeError>,
) {
    let mut headers = HeaderMap::new();
    for (index, (name, value)) in pairs.iter().enumerate() {
        let again = pairs[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let (Ok(name), Ok(value)) =
            (name.parse::<async_nats::HeaderName>(), value.parse::<async_nats::HeaderValue>())
        else {
            return;
        };
        if again {
            return;
        }
        headers.insert(name, value);
    }
    let given = decode(Some(&headers), payload.clone());
    assert_eq!(given.as_ref().ok(), decoded.as_ref().ok());
}
