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
//! * `trigger.name`,
//! * `resources`: objects of the management cluster, by the identifiers that the trigger gives them
//!   (`templateResourceRefs`), each as it is there: `resources.tenants.data.plan`. What a Secret holds is base64:
//!   `resources.login.data.password | b64decode`. One that is optional and does not exist is undefined.
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
//! * `b64encode` and `b64decode` turn text into base64 and back, as the data of Secrets needs it.
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
//! What the template's own text means is what it means to `kubectl apply` (see [`yaml`](crate::yaml)); that a key comes
//! twice is an error. Documents are separated by `---`; empty ones are left out. A text that is no template (applied as
//! it stands) follows the same rules, without any of the above.
//!
//! The guarantee ends at YAML: text that some program will parse again needs `tojson`, or that program's own quoting.
//!
//! [Jinja]: https://docs.rs/minijinja/latest/minijinja/syntax/
//!
//! # How it works
//!
//! As `printed` says: every printed result writes one private-use character, the text is parsed as YAML, and the
//! characters are replaced inside the scalars that were parsed. They come from a plane that occurs neither in the template
//! nor in what it reads, so that text which was taken apart is noticed.

mod context;
mod environment;
mod error;
mod filters;
mod print;
mod reads;
mod scalar;
mod structure;

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::{Environment, OutputSpan, OutputSpanKind};
use serde_json::{Map, Value as Json};

use self::context::Root;
use self::environment::NAME;
use self::reads::Reads;
use crate::manifest::Manifest;
use crate::printed::{
    Constant, LONGEST, Lines, Planes, Refusal, Rendered, Sink, Span, no_plane, too_long, wrong_kind,
};
use crate::render::{
    Context, Language, Renderer, Template, TemplateError, TemplateFault, TemplateKind, TemplateSource,
};

/// Renders minijinja templates. The module says what templates may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct MinijinjaRenderer;

impl Renderer for MinijinjaRenderer {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        if source.language != Language::Minijinja {
            let reason = "is not written in minijinja, and this renderer knows nothing else";
            return Err(Refusal::new(TemplateFault::Syntax, reason).at(&source.name, None));
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

struct Compiled {
    name: String,
    kind: TemplateKind,
    /// Holds the one template.
    environment: Environment<'static>,
    reads: Reads,
    planes: Planes,
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
        let mut planes = self.planes;
        let root = Root::new(context, &self.reads, &mut planes);
        let plane = planes.unused().ok_or_else(|| no_plane().at(&self.name, None))?;
        let sink = Arc::new(Sink::new(plane));
        let template = self.environment.get_template(NAME).map_err(|error| self.explain(&error, ""))?;
        let (text, spans) = template
            .render_with_spans(root.with_sink(&sink))
            .map_err(|error| error::with_hint(self.explain(&error, template.source()), context))?;
        if text.len() > LONGEST {
            return Err(too_long().at(&self.name, None));
        }
        Ok(Rendered { text, lines: Lines::new(spans.iter().map(span).collect()), printed: sink.take() })
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

fn span(span: &OutputSpan) -> Span {
    let raw = matches!(span.kind(), OutputSpanKind::Raw);
    Span { start: span.output_range().start, line: span.line(), raw }
}
