//! From YAML text to JSON values, one document at a time.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Value};

use super::fault::{Fault, FaultKind, place_fault, scan_fault, text_fault, too_deep};
use super::fill::Fill;
use super::{MAX_DEPTH, Mark, Positions, position, resolve};

/// How many values a document may have, aliases expanded.
const MAX_VALUES: usize = 500_000;
/// How much text the documents of one source may have after filling in and expanding aliases, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// One document.
pub(crate) struct Parsed {
    /// Where its content begins.
    pub(crate) start: Mark,
    /// Its content.
    pub(crate) value: Value,
    /// Where each part stands, if the reader was asked to remember.
    pub(crate) positions: Positions,
}

/// Reads documents, one after the other. After a fault it goes on with the next document.
pub(crate) struct Reader<'t, F> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    fill: &'t F,
    /// Complete nodes with an anchor; one that is not in here although an alias names it is still open.
    anchors: HashMap<usize, Node>,
    values: usize,
    bytes: usize,
    positions: Option<(String, Positions)>,
    broken: bool,
}

#[derive(Clone)]
struct Node {
    value: Value,
    /// Whether something in it was filled in.
    filled: bool,
    /// Whether it is a mapping, or a list of mappings, with a key that was filled in.
    filled_keys: bool,
    height: usize,
    values: usize,
    bytes: usize,
}

/// Where a node stands.
#[derive(Clone, Copy)]
struct Place<'p> {
    depth: usize,
    /// The key of the mapping entry that it is the value of.
    under: Option<&'p str>,
}

impl<'t, F: Fill> Reader<'t, F> {
    pub(crate) fn new(text: &'t str, fill: &'t F) -> Self {
        let options = granit_parser::options! {
            emit_anchor_events: true,
            emit_comments: false,
            disallow_directives: true,
            block_scalar_eof_without_line_feed: true,
        };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            text,
            fill,
            anchors: HashMap::new(),
            values: 0,
            bytes: 0,
            positions: None,
            broken: false,
        }
    }

    /// Remembers where each part of a document stands.
    pub(crate) fn with_positions(mut self) -> Self {
        self.positions = Some(Default::default());
        self
    }

    /// The next document, `None` after the last.
    pub(crate) fn next_document(&mut self) -> Option<Result<Parsed, Fault>> {
        if std::mem::take(&mut self.broken) && !matches!(self.parser.proceed_next_document(), Ok(true)) {
            return None;
        }
        let result = self.document().transpose()?;
        self.broken = result.is_err();
        Some(result)
    }

    fn document(&mut self) -> Result<Option<Parsed>, Fault> {
        loop {
            match self.parser.next_event() {
                None | Some(Ok((Event::StreamEnd, _))) => return Ok(None),
                Some(Ok((Event::DocumentStart(..), _))) => break,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(scan_fault(&error)),
            }
        }
        self.anchors.clear();
        self.values = 0;
        let (event, span) = self.event()?;
        let start = span.start.into();
        self.note(start);
        let node = self.node(event, span, Place { depth: 0, under: None })?;
        // Whatever follows in the document is a fault, which the parser reports.
        self.event()?;
        let positions = match &mut self.positions {
            Some((_, positions)) => std::mem::take(positions),
            None => Positions::default(),
        };
        Ok(Some(Parsed { start, value: node.value, positions }))
    }

    fn event(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_fault(&error)),
            None => Err(Fault {
                at: Mark { offset: self.text.len(), line: 1, column: 1 },
                kind: FaultKind::Text,
                reason: "the text ends in the middle".to_owned(),
            }),
        }
    }

    /// Reads the node that begins with an event.
    fn node(&mut self, event: Event<'t>, span: Span, place: Place<'_>) -> Result<Node, Fault> {
        let at = Mark::from(span.start);
        if place.depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let (values, bytes) = (self.values, self.bytes);
        self.charge(at, 1, 0)?;
        let (anchor, mut node) = match event {
            Event::Alias(id) => return self.alias(id, at, place),
            Event::Scalar(text, style, anchor, tag) => {
                self.name_of_anchor(anchor)?;
                let (value, filled) = self.scalar(text, style, tag.as_deref(), span)?;
                (anchor, leaf(value, filled))
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.name_of_anchor(anchor)?;
                self.no_places_in_tag(tag.as_deref(), at)?;
                (anchor, self.sequence(place)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.name_of_anchor(anchor)?;
                self.no_places_in_tag(tag.as_deref(), at)?;
                (anchor, self.mapping(place)?)
            }
            _ => return Err(text_fault(at, "a value was expected".to_owned())),
        };
        if anchor != 0 {
            (node.values, node.bytes) = (self.values - values, self.bytes - bytes);
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Mark, place: Place<'_>) -> Result<Node, Fault> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(text_fault(at, "the alias stands inside of what it refers to".to_owned()));
        };
        if node.filled_keys && !self.fill.keys_allowed(place.under) {
            return Err(place_fault(at, "an alias must not bring printed keys here".to_owned()));
        }
        let (values, bytes) = (node.values, node.bytes);
        if place.depth + node.height > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let node = node.clone();
        self.charge(at, values, bytes)?;
        Ok(node)
    }

    fn sequence(&mut self, place: Place<'_>) -> Result<Node, Fault> {
        let mut node = leaf(Value::Null, false);
        let mut items = Vec::new();
        loop {
            let (event, span) = self.event()?;
            if matches!(event, Event::SequenceEnd) {
                node.value = Value::Array(items);
                return Ok(node);
            }
            let outside = self.enter(|| items.len().to_string());
            self.note(span.start.into());
            let item = self.node(event, span, Place { depth: place.depth + 1, under: None })?;
            self.leave(outside);
            node.take_in(&item);
            node.filled_keys |= item.filled_keys;
            items.push(item.value);
        }
    }

    fn mapping(&mut self, place: Place<'_>) -> Result<Node, Fault> {
        let mut node = leaf(Value::Null, false);
        let mut entries = Map::new();
        // Keys that a merge brought: those may come again.
        let mut merged: Vec<String> = Vec::new();
        loop {
            let (event, span) = self.event()?;
            if matches!(event, Event::MappingEnd) {
                node.value = Value::Object(entries);
                return Ok(node);
            }
            let at = Mark::from(span.start);
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let (key, filled) = self.key(event, span, place)?;
            node.filled |= filled;
            node.filled_keys |= filled;
            let outside = self.enter(|| key.clone());
            self.note(at);
            let (event, span) = self.event()?;
            let value_at = Mark::from(span.start);
            // What a printed key names must not decide about the keys below it.
            let under = Some(key.as_str()).filter(|_| !filled);
            let value = self.node(event, span, Place { depth: place.depth + 1, under })?;
            self.leave(outside);
            node.take_in(&value);
            if merge {
                // As kubectl does: what is merged replaces what stands before it, and yields to what comes after.
                for (key, value) in merge_sources(value, place, value_at)? {
                    merged.push(key.clone());
                    entries.insert(key, value);
                }
                continue;
            }
            if place.depth == 0 && value.filled && matches!(key.as_str(), "apiVersion" | "kind") {
                return Err(place_fault(
                    value_at,
                    format!(
                        "{key} must be written in the template, not printed; use if to choose between two"
                    ),
                ));
            }
            if let Some(first) = merged.iter().position(|merged| *merged == key) {
                merged.swap_remove(first);
                entries.insert(key, value.value);
            } else if entries.contains_key(&key) {
                let key = if filled { "a printed key".to_owned() } else { format!("the key {key:?}") };
                let kind = if filled { FaultKind::Place } else { FaultKind::Text };
                return Err(Fault { at, kind, reason: format!("{key} comes twice in one mapping") });
            } else {
                entries.insert(key, value.value);
            }
        }
    }

    /// The text of a key, and whether something in it was filled in.
    fn key(&mut self, event: Event<'t>, span: Span, place: Place<'_>) -> Result<(String, bool), Fault> {
        let at = Mark::from(span.start);
        if let Event::Scalar(text, style, anchor, tag) = &event
            && self.fill.places(text) > 0
        {
            self.name_of_anchor(*anchor)?;
            self.no_escaped_places(text, *style, span)?;
            self.no_places_in_tag(tag.as_deref(), at)?;
            let room = MAX_BYTES.saturating_sub(self.bytes);
            let key = self
                .fill
                .key(text, *style == ScalarStyle::Plain, place.under, room)
                .map_err(|misfit| misfit.at(at))?;
            self.charge(at, 1, key.len())?;
            return Ok((key, true));
        }
        let alias = matches!(event, Event::Alias(_));
        let node = self.node(event, span, Place { depth: place.depth + 1, under: None })?;
        if alias && node.filled {
            return Err(place_fault(at, "a key must not be an alias of something printed".to_owned()));
        }
        let key = resolve::key(node.value).map_err(|reason| text_fault(at, reason))?;
        Ok((key, false))
    }

    /// The value of a scalar, and whether something in it was filled in.
    fn scalar(
        &mut self,
        text: Cow<'t, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(Value, bool), Fault> {
        let at = Mark::from(span.start);
        self.no_places_in_tag(tag, at)?;
        let places = self.fill.places(&text);
        if places == 0 {
            self.charge(at, 0, text.len())?;
            let value = match (tag, style) {
                (Some(tag), _) => resolve::tagged(core_tag(tag).as_deref(), &text),
                (None, ScalarStyle::Plain) => resolve::plain(&text),
                (None, _) => Ok(Value::String(text.into_owned())),
            };
            return Ok((value.map_err(|reason| text_fault(at, reason))?, false));
        }
        self.no_escaped_places(&text, style, span)?;
        if tag.is_none()
            && style == ScalarStyle::Plain
            && let Some(value) = self.fill.whole(&text)
        {
            let value = value.map_err(|misfit| misfit.at(at))?;
            self.charge(at, 0, value.as_str().map_or(8, str::len))?;
            return Ok((value, true));
        }
        let room = MAX_BYTES.saturating_sub(self.bytes);
        let text = self.fill.text(&text, room).map_err(|misfit| misfit.at(at))?;
        self.charge(at, 0, text.len())?;
        let value = match tag {
            Some(tag) => resolve::tagged(core_tag(tag).as_deref(), &text).map_err(|reason| Fault {
                at,
                kind: FaultKind::Place,
                reason,
            })?,
            None => Value::String(text),
        };
        Ok((value, true))
    }

    /// A `"\U000F0000"` in the text itself must not pass for a place.
    fn no_escaped_places(&self, text: &str, style: ScalarStyle, span: Span) -> Result<(), Fault> {
        let as_written = span.slice(self.text).map_or(0, |written| self.fill.places(written));
        if style == ScalarStyle::DoubleQuoted && as_written != self.fill.places(text) {
            return Err(text_fault(
                span.start.into(),
                "an escape stands for a private-use character that rendering needs; write the character itself"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The name of an anchor, which the parser gives after the node's first event.
    fn name_of_anchor(&mut self, anchor: usize) -> Result<(), Fault> {
        if anchor == 0 {
            return Ok(());
        }
        match self.event()? {
            (Event::Anchor(_, name), span) if self.fill.places(&name) > 0 => {
                Err(place_fault(span.start.into(), "an anchor must not be printed".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn no_places_in_tag(&self, tag: Option<&Tag>, at: Mark) -> Result<(), Fault> {
        match tag {
            Some(tag) if self.fill.places(&tag.original()) > 0 => {
                Err(place_fault(at, "a tag must not be printed".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn charge(&mut self, at: Mark, values: usize, bytes: usize) -> Result<(), Fault> {
        self.values = self.values.saturating_add(values);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.values > MAX_VALUES || self.bytes > MAX_BYTES {
            let reason =
                format!("the documents are too large: {MAX_VALUES} values and {MAX_BYTES} bytes are allowed");
            return Err(Fault { at, kind: FaultKind::Limit, reason });
        }
        Ok(())
    }

    /// Lengthens the path of where we are; tells how long it was.
    fn enter(&mut self, member: impl FnOnce() -> String) -> usize {
        let Some((path, _)) = &mut self.positions else {
            return 0;
        };
        let outside = path.len();
        position::push(path, &member());
        outside
    }

    fn leave(&mut self, outside: usize) {
        if let Some((path, _)) = &mut self.positions {
            path.truncate(outside);
        }
    }

    fn note(&mut self, at: Mark) {
        if let Some((path, positions)) = &mut self.positions {
            positions.insert(path, at);
        }
    }
}

/// The entries that a merge key brings, the strongest last.
fn merge_sources(node: Node, place: Place<'_>, at: Mark) -> Result<Vec<(String, Value)>, Fault> {
    let no_mapping = || text_fault(at, "a merge key (<<) needs a mapping, or a list of mappings".to_owned());
    let mappings = match node.value {
        Value::Object(mapping) => vec![mapping],
        Value::Array(items) => {
            let mappings = items.into_iter().rev().map(|item| match item {
                Value::Object(mapping) => Ok(mapping),
                _ => Err(no_mapping()),
            });
            mappings.collect::<Result<_, _>>()?
        }
        _ => return Err(no_mapping()),
    };
    if node.filled_keys {
        return Err(place_fault(
            at,
            "printed keys must not be merged: they could replace written ones".to_owned(),
        ));
    }
    let names_the_object =
        |mapping: &Map<String, Value>| mapping.contains_key("apiVersion") || mapping.contains_key("kind");
    if place.depth == 0 && node.filled && mappings.iter().any(names_the_object) {
        return Err(place_fault(
            at,
            "apiVersion and kind must not be merged from something printed".to_owned(),
        ));
    }
    Ok(mappings.into_iter().flatten().collect())
}

impl Node {
    fn take_in(&mut self, child: &Node) {
        self.filled |= child.filled;
        self.height = self.height.max(child.height + 1);
    }
}

fn leaf(value: Value, filled: bool) -> Node {
    Node { value, filled, filled_keys: false, height: 0, values: 1, bytes: 0 }
}

/// The name of a tag after `tag:yaml.org,2002:`.
fn core_tag(tag: &Tag) -> Option<Cow<'_, str>> {
    tag.suffix_in_namespace("tag:yaml.org,2002:")
}
