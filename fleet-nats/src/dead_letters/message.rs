//! A dead letter as messages of a stream, and back.

use std::borrow::Cow;
use std::str::FromStr;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::position::{Domain, Position};
use fleet_core::source::Message;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What our headers begin with.
const PREFIX: &str = "Fleet-Dead-Letter-";
const ID: &str = "Fleet-Dead-Letter-Id";
const SOURCE: &str = "Fleet-Dead-Letter-Source";
const TRIGGER: &str = "Fleet-Dead-Letter-Trigger";
const REASON: &str = "Fleet-Dead-Letter-Reason";
const DETAIL: &str = "Fleet-Dead-Letter-Detail";
const TIME: &str = "Fleet-Dead-Letter-Time";
const POSITION: &str = "Fleet-Dead-Letter-Position";
const ORIGIN: &str = "Fleet-Dead-Letter-Origin";
const SUBJECT: &str = "Fleet-Dead-Letter-Subject";
/// All original headers, as JSON, where they would not come back from the message's own as they were.
const HEADERS: &str = "Fleet-Dead-Letter-Headers";
/// How many pieces a letter has that is too large for one message.
const PIECES: &str = "Fleet-Dead-Letter-Pieces";

/// The server's own: given again, they would tell the stream to do something.
const SERVERS: &str = "Nats-";
/// Room for what is added when a message is published.
const PUBLISH_HEADERS: usize = 1024;
/// A stream takes no larger headers.
const LARGEST_HEADERS: usize = u16::MAX as usize - PUBLISH_HEADERS;
/// Room for the headers of a piece.
const PIECE_HEADERS: usize = 4096;
/// More pieces than that are no letter any more.
const MOST_PIECES: usize = 1024;

/// Why a letter cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

/// What to publish for a letter, but for the subject.
#[derive(Debug)]
pub(super) enum Written {
    /// One message: the original one, with headers of ours.
    Whole(Content),
    /// The letter as JSON, in pieces. The first has the headers that describe it; it is to be published last.
    Pieces(Vec<Content>),
}

/// Headers and body of a message.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What was read of a message.
#[derive(Debug)]
pub(super) enum Read {
    /// It is a letter.
    Letter(Box<DeadLetter>),
    /// It is the first of so many pieces of one.
    FirstOf(usize),
    /// It is nothing of ours.
    Foreign,
}

/// Writes a letter as a message of at most `limit` bytes, headers included; or as several. `None`: as too many.
pub(super) fn write(letter: &DeadLetter, limit: usize) -> Option<Written> {
    let limit = limit.saturating_sub(PUBLISH_HEADERS);
    let headers = headers(letter);
    let size = wire_length(&headers);
    if size <= LARGEST_HEADERS && size + letter.raw.len() <= limit {
        return Some(Written::Whole(Content { headers, body: letter.raw.clone() }));
    }
    let room = limit.saturating_sub(PIECE_HEADERS).max(limit / 2).max(1);
    let text = Bytes::from(serde_json::to_vec(letter).ok()?);
    let count = text.len().div_ceil(room);
    if count > MOST_PIECES {
        return None;
    }
    let piece = |number: usize| {
        let body = text.slice(number * room..text.len().min((number + 1) * room));
        let headers = if number == 0 { description(letter, Some(count)) } else { HeaderMap::new() };
        Content { headers, body }
    };
    Some(Written::Pieces((0..count).map(piece).collect()))
}

/// Reads a message: its headers as they came over the wire, and its body.
pub(super) fn read(headers: &[u8], body: Vec<u8>) -> Result<Read, Unreadable> {
    let pairs = parse(headers).ok_or(Unreadable("its headers are not those of a message"))?;
    let of_ours = |name: &str| {
        let value = pairs.iter().find(|(found, _)| *found == name).map(|(_, value)| decoded(value));
        value.transpose()
    };
    let needed = |name: &str| of_ours(name)?.ok_or(Unreadable("a header of Fleet's is missing"));
    let Some(id) = of_ours(ID)? else {
        return Ok(Read::Foreign);
    };
    if let Some(pieces) = of_ours(PIECES)? {
        let pieces = pieces.parse().ok().filter(|pieces| (1..=MOST_PIECES).contains(pieces));
        return pieces.map(Read::FirstOf).ok_or(Unreadable("the number of its pieces makes no sense"));
    }
    let position = of_ours(POSITION)?.map(|text| position(&text));
    let origin = of_ours(ORIGIN)?.map(|text| text.parse());
    let headers = match of_ours(HEADERS)? {
        Some(all) => {
            serde_json::from_str(&all).map_err(|_| Unreadable("its original headers are no JSON"))?
        }
        None => {
            let mut own: Vec<(String, String)> = pairs
                .iter()
                .filter(|(name, _)| !is_reserved(name))
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            own.sort_by(|(a, _), (b, _)| a.cmp(b));
            own
        }
    };
    Ok(Read::Letter(Box::new(DeadLetter {
        source: needed(SOURCE)?,
        trigger: of_ours(TRIGGER)?,
        reason: needed(REASON)?,
        detail: needed(DETAIL)?,
        time: needed(TIME)?.parse().map_err(|_| Unreadable("its time is none"))?,
        position: position.transpose()?,
        origin: origin.transpose().map_err(|_| Unreadable("its origin is no cluster"))?,
        message: Message { subject: needed(SUBJECT)?, headers },
        raw: body.into(),
        id,
    })))
}

/// Reads a letter that was in pieces.
pub(super) fn join(pieces: &[Vec<u8>]) -> Result<DeadLetter, Unreadable> {
    serde_json::from_slice(&pieces.concat()).map_err(|_| Unreadable("its pieces do not fit together"))
}

fn headers(letter: &DeadLetter) -> HeaderMap {
    let mut headers = description(letter, None);
    let mut put = |name: &str, value: &str| put(&mut headers, name, value);
    put(DETAIL, &letter.detail);
    put(SUBJECT, &letter.message.subject);
    if let Some(position) = &letter.position {
        put(POSITION, &position.to_string());
    }
    if let Some(origin) = &letter.origin {
        put(ORIGIN, &origin.to_string());
    }
    let original = &letter.message.headers;
    let sorted = original.is_sorted_by(|(a, _), (b, _)| a <= b);
    let own: Vec<_> = original.iter().filter_map(|(name, value)| as_it_stands(name, value)).collect();
    if (own.len() < original.len() || !sorted)
        && let Ok(all) = serde_json::to_string(original)
    {
        put(HEADERS, &all);
    }
    for (name, value) in own {
        headers.append(name, value);
    }
    headers
}

/// What a person needs to know of it first.
fn description(letter: &DeadLetter, pieces: Option<usize>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, ID, &letter.id);
    put(&mut headers, SOURCE, &letter.source);
    if let Some(trigger) = &letter.trigger {
        put(&mut headers, TRIGGER, trigger);
    }
    put(&mut headers, REASON, &letter.reason);
    put(&mut headers, TIME, &letter.time.to_string());
    if let Some(pieces) = pieces {
        put(&mut headers, PIECES, &pieces.to_string());
    }
    headers
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    // Encoded, a value is plain ASCII.
    if let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(&encoded(value))) {
        headers.insert(name, value);
    }
}

/// An original header, if it comes back as it was.
fn as_it_stands(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    if is_reserved(name) || name.is_empty() || value.trim() != value {
        return None;
    }
    Some((HeaderName::from_str(name).ok()?, HeaderValue::from_str(value).ok()?))
}

fn is_reserved(name: &str) -> bool {
    let begins = |prefix: &str| {
        name.split_at_checked(prefix.len()).is_some_and(|(head, _)| head.eq_ignore_ascii_case(prefix))
    };
    begins(PREFIX) || begins(SERVERS)
}

/// Readable as it is, but for what a header cannot hold, and the percent sign.
pub(super) fn encoded(value: &str) -> Cow<'_, str> {
    const NEVER: &AsciiSet = &CONTROLS.add(b'%');
    const NOR_SPACES: &AsciiSet = &NEVER.add(b' ');
    // Spaces around a value do not survive.
    utf8_percent_encode(value, if value.trim() == value { NEVER } else { NOR_SPACES }).into()
}

fn decoded(value: &str) -> Result<String, Unreadable> {
    let text = percent_decode_str(value).decode_utf8();
    text.map(Cow::into_owned).map_err(|_| Unreadable("a header of Fleet's is not UTF-8"))
}

fn position(text: &str) -> Result<Position, Unreadable> {
    let read = || {
        let (domain, place) = text.rsplit_once('@')?;
        let (epoch, sequence) = place.split_once('.')?;
        let (epoch, sequence) = (epoch.parse().ok()?, sequence.parse().ok()?);
        Some(Position { domain: Domain::new(domain), epoch, sequence })
    };
    read().ok_or(Unreadable("its position is none"))
}

/// The bytes that headers take in a message.
fn wire_length(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| {
        let name = AsRef::<str>::as_ref(name).len();
        values.iter().map(move |value| name + value.as_str().len() + ": \r\n".len())
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

/// Reads headers. The client library's own reader of stored messages forgets repeated ones.
fn parse(headers: &[u8]) -> Option<Vec<(&str, &str)>> {
    if headers.is_empty() {
        return Some(Vec::new());
    }
    let lines = std::str::from_utf8(headers).ok()?.strip_prefix("NATS/1.0")?.split("\r\n").skip(1);
    lines
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(':').map(|(name, value)| (name, value.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            id: "0001790230470-ab".to_owned(),
            source: "orders.eu".to_owned(),
            trigger: Some("t".to_owned()),
            reason: "ActionInvalid".to_owned(),
            detail: " 100 % ü\r\nNats-Rollup: all ".to_owned(),
            time: "2026-11-24T16:35:00.123456789Z".parse().unwrap(),
            position: Some(Position { domain: Domain::new("a@b/c"), epoch: 1_790_230_470, sequence: 7 }),
            origin: Some("civo/cluster1".parse().unwrap()),
            message: Message { subject: "orders.ü%.>".to_owned(), headers: Vec::new() },
            raw: Bytes::from_static(b"\0\r\nraw\xff"),
        }
    }

    fn wire(headers: &HeaderMap) -> Vec<u8> {
        let mut wire = b"NATS/1.0\r\n".to_vec();
        for (name, values) in headers.iter() {
            for value in values {
                wire.extend(format!("{name}: {value}\r\n").bytes());
            }
        }
        wire.extend(b"\r\n");
        assert_eq!(wire.len(), wire_length(headers));
        wire
    }

    /// Through messages of at most this size, and back; in how many.
    fn survives(letter: &DeadLetter, limit: usize) -> usize {
        match write(letter, limit).unwrap() {
            Written::Whole(Content { headers, body }) => {
                assert_eq!(body, letter.raw, "the original bytes are the body");
                let Ok(Read::Letter(found)) = read(&wire(&headers), body.to_vec()) else { panic!() };
                assert!(*found == *letter);
                1
            }
            Written::Pieces(pieces) => {
                let all: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.body.to_vec()).collect();
                let sizes = pieces.iter().map(|piece| wire_length(&piece.headers) + piece.body.len());
                assert!(sizes.max().unwrap() <= limit);
                let first = read(&wire(&pieces[0].headers), all[0].clone());
                assert!(matches!(first, Ok(Read::FirstOf(count)) if count == all.len()), "{first:?}");
                assert!(join(&all).unwrap() == *letter);
                pieces.len()
            }
        }
    }

    #[test]
    fn anything_survives() {
        for headers in [
            vec![],
            vec![("a", "1"), ("a", "0"), ("b", "2 %41")],
            vec![("b", "1"), ("a", "2"), ("b", "3")],
            vec![("Nats-Rollup", "all"), ("nats-msg-id", "x")],
            vec![("fleet-dead-letter-id", "theirs"), ("Fleet-Dead-Letter-Reason", "theirs")],
            vec![("", "x"), ("a b", "x"), ("a:b", "x"), ("ü", "x")],
            vec![("a", " x "), ("b", "x\r\nc: d"), ("c", ""), ("d", "\u{85}ü\t"), ("e", "\0")],
        ] {
            let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let mut letter = letter();
            letter.message.headers = headers.collect();
            assert_eq!(survives(&letter, 1 << 20), 1);
            letter.raw = vec![7; 40_000].into();
            assert!(survives(&letter, 10_000) > 1);
        }
        let bare = DeadLetter { trigger: None, position: None, origin: None, raw: Bytes::new(), ..letter() };
        assert_eq!(survives(&bare, 1 << 20), 1);
        let mut wordy = letter();
        wordy.message.headers = vec![("a".to_owned(), "x".repeat(70_000))];
        assert_eq!(survives(&wordy, 1 << 20), 1, "in one piece");
        wordy.raw = vec![7; 5 << 20].into();
        assert!(write(&wordy, 100).is_none());
    }

    #[test]
    fn what_is_not_ours_or_broken_is_said() {
        assert!(matches!(read(b"", b"x".to_vec()), Ok(Read::Foreign)));
        assert!(matches!(read(b"NATS/1.0\r\na: b\r\n\r\n", Vec::new()), Ok(Read::Foreign)));
        assert!(read(b"NATS/1.0\r\nFleet-Dead-Letter-Id: x\r\n\r\n", Vec::new()).is_err());
        assert!(read(b"\xff", Vec::new()).is_err());
        assert!(join(&[b"{".to_vec()]).is_err());
    }
}
