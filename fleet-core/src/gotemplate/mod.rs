//! The renderer of Go templates: `text/template` with Sveltos' names, so that Sveltos' manifests work as they are.
//!
//! # Writing templates
//!
//! The language is Go's [`text/template`] with `missingkey=error`; the functions are Go's, those of [sprig] that depend on
//! nothing but their arguments, and `toYaml`, `fromYaml`, `toJson`, `fromJson`. A template knows
//! * `.CloudEvent`, where it is rendered with the event: the event as it is in JSON; of a trigger with
//!   `oneForEvent: false` instead `.CloudEvents`, a list of them,
//! * `.Resource`, if that event tells of an object of Kubernetes: the object, and `.MatchingResource`, which refers to it
//!   (`apiVersion`, `kind`, `namespace`, `name`, `uid`); instead `.Resources` and `.MatchingResources` where there is a list,
//! * `.Cluster`: the cluster as the object that Sveltos has for it, `.Cluster.metadata.name`, `.namespace`, `.labels`,
//!   `.annotations`. With the event it is the cluster that the event came from (the target, where no origin is known); at
//!   deployment it is the target,
//! * `.Message` (`subject`, `tokens`, `headers`) and `.Trigger.name`, which Sveltos has not.
//!
//! **A value that is printed stays one value**, whatever it holds; the rules are those of [minijinja's
//! renderer](crate::minijinja): no quotes and no indentation are needed, keys can be printed only in mappings of data,
//! `apiVersion` and `kind` of the object cannot be printed.
//!
//! What is otherwise than in Go:
//! * A string stays a string: `port: {{ .CloudEvent.data.port }}` with `"8080"` is a text; `| int` makes it a number.
//! * Nil, a list or a map cannot be printed as such, where Go prints `<no value>` and `map[…]`.
//! * `{{ "a: 1" }}` prints a value too; structure is written as text of the template.
//! * `toYaml` and `toJson` print structure, also behind `indent`, `nindent` and `trim`. As an argument of `quote`,
//!   `squote`, `b64enc`, `b64dec`, `sha256sum`, `len`, `eq`, `contains`, `fromYaml` and their like it is its text; other
//!   functions refuse it. JSON within a larger text is in one line, with spaces, and does not escape `<`, `>` and `&`.
//! * `indent` and `nindent` of a value indent the place where it stands.
//! * Numbers of JSON without a fraction are whole numbers, not floats: ten million prints as `10000000`, and whole and
//!   other numbers compare with each other.
//! * `keys` and `values` are sorted, `trunc` and its like cut between characters, not bytes, `b64dec`, `fromYaml` and
//!   `fromJson` of a wrong text are errors.
//! * What depends on anything but its arguments is left out: `env`, `now`, `uuidv4`, `genCA`, `getHostByName` and others.
//!
//! Work, nesting and size are limited.
//!
//! With [`GoPasses::Both`] the text that the first pass writes is the template of the second. What the first one printed is
//! no text of it: it stands for its value also there, even within a string (`{{ "{{" }} index .Cluster.metadata.labels
//! "{{ .CloudEvent.subject }}" {{ "}}" }}`), and never becomes an action. In the first pass a constant (`{{ "{{" }}`) is text
//! of the template.
//!
//! [`text/template`]: https://pkg.go.dev/text/template
//! [sprig]: https://masterminds.github.io/sprig/
//!
//! # How it works
//!
//! [`parse`] makes the tree ([`ast`]), `run` walks it, `value` is what it computes with. Where a value is printed, the
//! output step writes a character that stands for it, as Go's `html/template` appends an escaper to each action; the rest is
//! what all renderers do (`printed`).

pub mod ast;
mod context;
mod format;
mod functions;
mod lex;
mod literal;
mod parse;
mod reads;
mod run;
#[cfg(test)]
mod tests;
mod value;
mod written;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

pub use self::parse::{SyntaxError, parse};

use self::ast::Tree;
use self::context::Seen;
use self::lex::Literals;
use self::run::{Fault, Output, run};
use self::value::Heap;
use crate::manifest::Manifest;
use crate::printed::{Constant, LONGEST, Lines, Planes, Refusal, Rendered, Sink, Span, no_plane, wrong_kind};
use crate::render::{
    Context, GoPasses, Language, Renderer, Template, TemplateError, TemplateFault, TemplateKind,
    TemplateSource,
};

/// Renders Go templates. The module says what templates may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoRenderer;

impl Renderer for GoRenderer {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        let Language::Go(passes) = source.language else {
            let reason = "is not written in Go's template language, and this renderer knows nothing else";
            return Err(Refusal::new(TemplateFault::Syntax, reason).at(&source.name, None));
        };
        match source.kind {
            TemplateKind::Literal => Ok(Arc::new(Constant::new(source)?)),
            TemplateKind::Manifests if !source.text.contains("{{") => Ok(Arc::new(Constant::new(source)?)),
            TemplateKind::Manifests | TemplateKind::Text | TemplateKind::Values => {
                Ok(Arc::new(Compiled::new(source, passes)?))
            }
        }
    }
}

struct Compiled {
    name: String,
    kind: TemplateKind,
    passes: GoPasses,
    tree: Tree,
    reads: BTreeSet<String>,
    planes: Planes,
}

impl Compiled {
    fn new(source: &TemplateSource, passes: GoPasses) -> Result<Self, TemplateError> {
        let mut planes = Planes::default();
        planes.see(&source.text);
        let seen = SeenLiterals(std::cell::Cell::new(planes));
        let tree = parse::parse_with(&source.text, &seen)
            .map_err(|error| not_go(error).at_template(&source.name))?;
        let reads = reads::reads(&tree, passes);
        let (name, kind, planes) = (source.name.clone(), source.kind, seen.0.get());
        Ok(Self { name, kind, passes, tree, reads, planes })
    }

    fn is_of(&self, wanted: TemplateKind) -> Result<(), TemplateError> {
        if self.kind == wanted { Ok(()) } else { Err(wrong_kind(&self.name, self.kind, wanted)) }
    }

    fn render(&self, context: &Context<'_>) -> Result<Rendered, TemplateError> {
        let first = match self.passes {
            GoPasses::Cluster => Seen::for_target(context),
            GoPasses::Event | GoPasses::Both => Seen::with_event(context),
        };
        let target = (self.passes == GoPasses::Both).then(|| Seen::for_target(context));
        let (mut heap, mut planes) = (Heap::default(), self.planes);
        let root = first.root(&self.reads, &mut heap, &mut planes);
        // The planes of both passes are one: what the first printed stands for its value in the second too.
        let target = target.map(|seen| {
            let mut heap = Heap::default();
            let root = seen.root(&self.reads, &mut heap, &mut planes);
            (seen, heap, root)
        });
        let plane = planes.unused().ok_or_else(|| no_plane().at(&self.name, None))?;
        let sink = Sink::new(plane);
        // The text of a text template is what Go prints.
        let sink_if = match (self.kind, self.passes) {
            (TemplateKind::Text, GoPasses::Event | GoPasses::Cluster) => None,
            _ => Some(&sink),
        };
        let output = Output { sink: sink_if, constants_are_text: target.is_some() };
        let at = |fault: Fault| fault.refusal.at(&self.name, Some(fault.line));
        let written = run(&self.tree, &mut heap, root, output).map_err(|fault| first.with_hint(at(fault)))?;
        let (text, lines) = (written.text, Lines::new(written.spans));
        let Some((seen, mut heap, root)) = target else {
            return Ok(Rendered { text, lines, printed: sink.take() });
        };
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(index, _)| index + 1));
        // Lines of the second template, which the first one wrote, as lines of the first.
        let line_of = |line: usize| lines.line(&text, *starts.get(line.saturating_sub(1))?);
        let there = |mut error: TemplateError| {
            error.line = error.line.and_then(|line| line_of(usize::try_from(line).ok()?));
            error
        };
        let tree = parse::parse_with(&text, &Filled(&sink))
            .map_err(|error| there(not_go(error).at_template(&self.name)))?;
        let output = Output { sink: sink_if, constants_are_text: false };
        let written =
            run(&tree, &mut heap, root, output).map_err(|fault| there(seen.with_hint(at(fault))))?;
        let spans = written.spans.iter().enumerate().flat_map(|(index, span)| {
            let end = written.spans.get(index + 1).map_or(written.text.len(), |next| next.start);
            let text = written.text.get(span.start..end).filter(|_| span.raw).unwrap_or_default();
            let breaks = text.match_indices('\n').map(|(at, _)| span.start + at + 1);
            let start = move |(row, start)| {
                let line = line_of(span.line + row).and_then(|line| usize::try_from(line).ok());
                Span { start, line: line.unwrap_or(1), raw: false }
            };
            std::iter::once(span.start).chain(breaks).enumerate().map(start)
        });
        let lines = Lines::new(spans.collect());
        Ok(Rendered { text: written.text, lines, printed: sink.take() })
    }
}

impl Template for Compiled {
    fn reads(&self) -> &BTreeSet<String> {
        &self.reads
    }

    fn manifests(&self, context: &Context<'_>) -> Result<Vec<Manifest>, TemplateError> {
        self.is_of(TemplateKind::Manifests)?;
        self.render(context)?.manifests(&self.name)
    }

    fn values(&self, context: &Context<'_>) -> Result<Map<String, Json>, TemplateError> {
        self.is_of(TemplateKind::Values)?;
        self.render(context)?.mapping(&self.name)
    }

    fn text(&self, context: &Context<'_>) -> Result<String, TemplateError> {
        self.is_of(TemplateKind::Text)?;
        self.render(context)?.text(&self.name)
    }
}

/// Looks at the strings of a template, whose escapes may stand for characters that its text does not have.
struct SeenLiterals(std::cell::Cell<Planes>);

impl Literals for SeenLiterals {
    fn is_place(&self, _char: char) -> bool {
        false
    }

    fn text(&self, _written: &str, text: String) -> Result<String, String> {
        let mut planes = self.0.get();
        planes.see(&text);
        self.0.set(planes);
        Ok(text)
    }
}

/// The strings of the second pass, in which the first one printed values.
struct Filled<'s>(&'s Sink);

impl Literals for Filled<'_> {
    fn is_place(&self, char: char) -> bool {
        self.0.places(char.encode_utf8(&mut [0; 4])) > 0
    }

    fn text(&self, written: &str, text: String) -> Result<String, String> {
        if self.0.places(written) != self.0.places(&text) {
            return Err("an escape in a string stands for a character that rendering needs".to_owned());
        }
        self.0.filled(&text, LONGEST).map_err(|refusal| refusal.reason)
    }
}

fn not_go(error: SyntaxError) -> SyntaxError {
    SyntaxError { reason: format!("not a Go template: {}", error.reason), ..error }
}

impl SyntaxError {
    fn at_template(self, name: &str) -> TemplateError {
        Refusal::new(TemplateFault::Syntax, self.reason).at(name, Some(self.line))
    }
}
