//! The renderer of minijinja templates.
//!
//! # Writing templates
//!
//! A template is YAML text with [Jinja] in it: `{{ … }}` prints a value, `{% if … %}`, `{% for … %}`, `{% set … %}` and
//! `{% macro … %}` decide, repeat and name. It knows
//! * `event`: `id`, `source`, `type`, `subject`, `time`, `datacontenttype`, `dataschema`, `specversion`, extensions by
//!   their names, and `data` (JSON as it is, text as a string, bytes as a base64 string),
//! * `message`: `subject`, its `tokens` (the parts between dots), `headers` by name,
//! * `cluster`, the target: `namespace`, `name`, `labels`, `annotations`; and `origin`, where the event came from, the
//!   same,
//! * `trigger.name`.
//!
//! Of a trigger with `oneForEvent: false` the templates see all keys together: there `events` takes the place of `event`,
//! `message` and `origin`. It is a list with one entry for each key that is live in the target cluster, sorted by
//! origin, source and subject (or by the text that the trigger's `key` gives), each as sequences of bytes, what has none
//! first. An entry has the `event`, `message` and `origin` of the key's last event:
//! ```yaml
//! data:
//! {% for it in events %}
//!   {{ it.event.subject }}: {{ it.event.data.message }}
//! {% endfor %}
//! ```
//!
//! What does not exist is undefined, and to use it is an error that names line and variable: ask
//! `{% if event.subject is defined %}`, or write `{{ event.subject | default("nobody") }}`.
//!
//! **A value that is printed stays one value.** Whatever it holds, line breaks, quotes, `: `, it never becomes a key, a
//! second line or a comment, so it needs no quotes and no indentation:
//! ```yaml
//! apiVersion: v1
//! kind: ConfigMap
//! metadata:
//!   name: login-{{ event.subject }}            # part of a text
//!   labels: {user: "{{ event.subject }}"}      # a text, in quotes or not
//! data:
//!   message: {{ event.data.message }}          # a text that stays a text, also if it is `no` or `0755`
//!   count: "{{ event.data.count }}"            # in quotes a number becomes a text; without, it stays a number
//!   log: |
//!     {{ event.data.log }}
//! ```
//! * Null, a list or a mapping cannot be printed as such: print what is in it, or all of it with `tojson` or `toyaml`:
//!   `resources: {{ event.data.resources | toyaml | nindent(2) }}`, `args: {{ event.data.args | tojson }}`.
//!   Within a larger text both give JSON, which is how text for another program is made safe:
//!   `app.json: '{"user": {{ event.subject | tojson }}}'`.
//! * `quote` and `squote` make a value a text; within a larger text they add the quotes.
//! * A key can be printed only in mappings of data: under `labels`, `annotations`, `matchLabels`, `nodeSelector`,
//!   `selector`, `data`, `stringData` and `binaryData`. `apiVersion` and `kind` of the object cannot be printed at all,
//!   nor can anchors and tags. To choose structure, write it: `{% if … %}kind: A{% else %}kind: B{% endif %}`.
//! * Text made by a macro, `{% call %}`, `{% filter %}`, `{% set x %}…{% endset %}`, `tojson` or `toyaml` is printed
//!   text: print it, join it with `~`, pass it to `indent`, `nindent` or `trim`. It has no value to ask for: apply other
//!   filters before, to the values. `indent` and `nindent` are for printed text only.
//! * `safe`, `escape`, `pprint`, `debug`, `{% autoescape %}` and other templates (`include`, `import`, `extends`) are
//!   not available. Work is limited, as are size and depth of the result.
//!
//! What the template's own text means is what it means to `kubectl apply` (see [`yaml`]); that a key comes
//! twice is an error. Documents are separated by `---`; empty ones are left out. A text that is no template (applied as
//! it stands) follows the same rules, without any of the above.
//!
//! The guarantee ends at YAML: text that some program will parse again needs `tojson`, or that program's own quoting.
//!
//! [Jinja]: https://docs.rs/minijinja/latest/minijinja/syntax/
//!
//! # How it works
//!
//! Every printed result writes one private-use character (module `printed`), the text is parsed as YAML, and the characters
//! are replaced inside the scalars that were parsed (module `fill`). They come from a plane that occurs neither in the
//! template nor in what it reads, so that text which was taken apart is noticed.

mod context;
mod environment;
mod error;
mod fill;
mod filters;
mod lines;
mod printed;
mod reads;
mod structure;

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::Environment;
use serde_json::{Map, Value as Json};

use self::context::Root;
use self::environment::NAME;
use self::fill::Printed;
use self::lines::Lines;
use self::printed::{Planes, Sink};
use self::reads::Reads;
use crate::manifest::Manifest;
use crate::render::{
    Context, Language, Renderer, Template, TemplateError, TemplateFault, TemplateKind, TemplateSource,
};
use crate::yaml::{self, Fault, FaultKind, Fill, Reader};

/// How long a rendered text may be, in bytes, before values are filled in.
const LONGEST: usize = 4 << 20;

/// Renders minijinja templates. The module says what templates may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct MinijinjaRenderer;

impl Renderer for MinijinjaRenderer {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        if source.language != Language::Minijinja {
            let reason = "is not written in minijinja, and this renderer knows nothing else".to_owned();
            let (template, line) = (source.name.clone(), None);
            return Err(TemplateError { template, line, fault: TemplateFault::Syntax, reason });
        }
        let is_template = ["{{", "{%", "{#"].iter().any(|tag| source.text.contains(tag));
        match source.kind {
            TemplateKind::Literal => Ok(Arc::new(Constant::new(source)?)),
            TemplateKind::Manifests if !is_template => Ok(Arc::new(Constant::new(source)?)),
            TemplateKind::Manifests | TemplateKind::Text | TemplateKind::Values => {
                Ok(Arc::new(Compiled::new(source)?))
            }
        }
    }
}

/// Documents that are the same whatever happened.
struct Constant {
    name: String,
    manifests: Vec<Manifest>,
    reads: BTreeSet<String>,
}

impl Constant {
    fn new(source: &TemplateSource) -> Result<Self, TemplateError> {
        let manifests = manifests(&source.text, &yaml::Nothing)
            .map_err(|fault| output_error(&source.name, Some(fault.at.line), fault))?;
        Ok(Self { name: source.name.clone(), manifests, reads: BTreeSet::new() })
    }
}

impl Template for Constant {
    fn reads(&self) -> &BTreeSet<String> {
        &self.reads
    }

    fn manifests(&self, _context: &Context<'_>) -> Result<Vec<Manifest>, TemplateError> {
        Ok(self.manifests.clone())
    }

    fn text(&self, _context: &Context<'_>) -> Result<String, TemplateError> {
        Err(wrong_kind(&self.name, TemplateKind::Literal, TemplateKind::Text))
    }

    fn values(&self, _context: &Context<'_>) -> Result<Map<String, Json>, TemplateError> {
        Err(wrong_kind(&self.name, TemplateKind::Literal, TemplateKind::Values))
    }
}

struct Compiled {
    name: String,
    kind: TemplateKind,
    /// Holds the one template.
    environment: Environment<'static>,
    reads: Reads,
    planes: Planes,
}

/// What a rendering wrote, before values are filled in.
struct Rendered {
    text: String,
    lines: Lines,
    printed: Printed,
}

impl Compiled {
    fn new(source: &TemplateSource) -> Result<Self, TemplateError> {
        let name = source.name.clone();
        let mut environment = environment::environment();
        let explain = |error| error::explain(&error, &name, &source.text);
        environment.add_template_owned(NAME, source.text.to_string()).map_err(explain)?;
        let reads = Reads::of(&source.text);
        let mut planes = Planes::default();
        planes.see(&source.text);
        Ok(Self { name, kind: source.kind, environment, reads, planes })
    }

    fn render(&self, context: &Context<'_>) -> Result<Rendered, TemplateError> {
        let error =
            |fault, reason: String| TemplateError { template: self.name.clone(), line: None, fault, reason };
        let mut planes = self.planes;
        let root = Root::new(context, &self.reads, &mut planes);
        let Some(plane) = planes.unused() else {
            let reason = "template and event together hold private-use characters of both U+F0000 and U+100000, one of \
                          which rendering needs"
                .to_owned();
            return Err(error(TemplateFault::Limit, reason));
        };
        let sink = Arc::new(Sink::new(plane));
        let template = self.environment.get_template(NAME).map_err(|error| self.explain(&error, ""))?;
        let (text, spans) = template
            .render_with_spans(root.with_sink(&sink))
            .map_err(|error| error::with_hint(self.explain(&error, template.source()), context))?;
        if text.len() > LONGEST {
            let reason = format!("the rendered text is longer than {LONGEST} bytes; split the template");
            return Err(error(TemplateFault::Limit, reason));
        }
        Ok(Rendered { text, lines: Lines::new(spans), printed: Printed::new(sink.plane(), sink.take()) })
    }

    fn is_of(&self, wanted: TemplateKind) -> Result<(), TemplateError> {
        if self.kind == wanted { Ok(()) } else { Err(wrong_kind(&self.name, self.kind, wanted)) }
    }

    fn explain(&self, error: &minijinja::Error, text: &str) -> TemplateError {
        error::explain(error, &self.name, text)
    }
}

impl Template for Compiled {
    fn reads(&self) -> &BTreeSet<String> {
        self.reads.paths()
    }

    fn manifests(&self, context: &Context<'_>) -> Result<Vec<Manifest>, TemplateError> {
        self.is_of(TemplateKind::Manifests)?;
        let Rendered { text, lines, printed } = self.render(context)?;
        manifests(&text, &printed)
            .map_err(|fault| output_error(&self.name, lines.line(&text, fault.at.offset), fault))
    }

    fn values(&self, context: &Context<'_>) -> Result<Map<String, Json>, TemplateError> {
        self.is_of(TemplateKind::Values)?;
        let Rendered { text, lines, printed } = self.render(context)?;
        mapping(&text, &printed)
            .map_err(|fault| output_error(&self.name, lines.line(&text, fault.at.offset), fault))
    }

    fn text(&self, context: &Context<'_>) -> Result<String, TemplateError> {
        self.is_of(TemplateKind::Text)?;
        let Rendered { text, printed, .. } = self.render(context)?;
        printed.text(&text, LONGEST).map_err(|misfit| TemplateError {
            template: self.name.clone(),
            line: None,
            fault: fault_of(misfit.kind),
            reason: misfit.reason,
        })
    }
}

/// Reads the documents of a text as manifests.
fn manifests<F: Fill>(text: &str, fill: &F) -> Result<Vec<Manifest>, Fault> {
    let mut reader = Reader::new(text, fill);
    let mut manifests = Vec::new();
    let mut index = 0;
    while let Some(document) = reader.next_document() {
        let document = document?;
        if !document.value.is_null() {
            let manifest = Manifest::new(document.value).map_err(|error| Fault {
                at: field(text, fill, index, error.field).unwrap_or(document.start),
                kind: FaultKind::Text,
                reason: error.reason,
            })?;
            manifests.push(manifest);
        }
        index += 1;
    }
    Ok(manifests)
}

/// Reads a text as one mapping.
fn mapping<F: Fill>(text: &str, fill: &F) -> Result<Map<String, Json>, Fault> {
    let mut reader = Reader::new(text, fill);
    let mut mapping = Map::new();
    while let Some(document) = reader.next_document() {
        let document = document?;
        let fault =
            |reason: &str| Fault { at: document.start, kind: FaultKind::Text, reason: reason.to_owned() };
        match document.value {
            Json::Null => {}
            Json::Object(values) if mapping.is_empty() => mapping = values,
            Json::Object(_) => return Err(fault("values are one document; merge the others into the first")),
            _ => return Err(fault("is not a mapping; the values of a chart are one")),
        }
    }
    Ok(mapping)
}

/// Where a field of a document stands. Reads the text again: only documents at fault pay for positions.
fn field<F: Fill>(text: &str, fill: &F, document: usize, pointer: &str) -> Option<yaml::Mark> {
    let mut reader = Reader::new(text, fill).with_positions();
    std::iter::from_fn(|| reader.next_document()).nth(document)?.ok()?.positions.nearest(pointer)
}

fn output_error(template: &str, line: Option<u32>, fault: Fault) -> TemplateError {
    TemplateError { template: template.to_owned(), line, fault: fault_of(fault.kind), reason: fault.reason }
}

fn fault_of(kind: FaultKind) -> TemplateFault {
    match kind {
        FaultKind::Text => TemplateFault::Output,
        FaultKind::Place => TemplateFault::Structure,
        FaultKind::Limit => TemplateFault::Limit,
    }
}

fn wrong_kind(name: &str, is: TemplateKind, wanted: TemplateKind) -> TemplateError {
    let reason = format!("the template is one of {is:?}, not of {wanted:?}");
    TemplateError { template: name.to_owned(), line: None, fault: TemplateFault::Evaluation, reason }
}
