//! Rendering: templates and a context become manifests.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::cluster::Cluster;
use crate::event::Event;
use crate::manifest::Manifest;
use crate::resource::Referred;
use crate::source::Message;

/// Turns templates and a context into manifests.
///
/// # Contract
/// * Pure: the same source and context MUST give the same result. No environment, clock, randomness or network.
/// * Data never becomes structure: whatever a value of the context holds, the shape of what is rendered depends on
///   the template alone (and on its own `if` and `for`).
/// * Errors name template and line, and never show a value of the context.
/// * Runs on the caller's thread; it MUST bound its own work.
///
/// # Example
/// Templates in JSON, in which `"$subject"` stands for the event's subject. The value is put into the parsed tree, so it
/// cannot become structure:
///
/// ```
/// use std::collections::BTreeSet;
/// use std::sync::Arc;
///
/// use fleet_core::manifest::Manifest;
/// use fleet_core::render::{Context, Renderer, Template, TemplateError, TemplateFault, TemplateSource};
/// use serde_json::Value;
///
/// struct Json;
///
/// struct Parsed {
///     name: String,
///     tree: Value,
///     reads: BTreeSet<String>,
/// }
///
/// fn error(name: &str, fault: TemplateFault, reason: String) -> TemplateError {
///     TemplateError::new(name, fault, reason)
/// }
///
/// impl Renderer for Json {
///     fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
///         let tree = serde_json::from_str(&source.text).map_err(|why| {
///             let line = u32::try_from(why.line()).ok();
///             TemplateError { line, ..error(&source.name, TemplateFault::Syntax, "this is no JSON".into()) }
///         })?;
///         let reads = ["event.subject".to_owned()].into();
///         Ok(Arc::new(Parsed { name: source.name.clone(), tree, reads }))
///     }
/// }
///
/// impl Parsed {
///     fn fill(&self, node: &Value, subject: &str) -> Value {
///         match node {
///             Value::String(text) if text == "$subject" => subject.into(),
///             Value::Array(items) => items.iter().map(|item| self.fill(item, subject)).collect(),
///             Value::Object(fields) => {
///                 fields.iter().map(|(key, value)| (key.clone(), self.fill(value, subject))).collect()
///             }
///             other => other.clone(),
///         }
///     }
///
///     fn filled(&self, context: &Context<'_>) -> Result<Value, TemplateError> {
///         let subject = context.event.and_then(|event| event.subject()).ok_or_else(|| {
///             error(&self.name, TemplateFault::Undefined, "the event has no subject".into())
///         })?;
///         Ok(self.fill(&self.tree, subject))
///     }
/// }
///
/// impl Template for Parsed {
///     fn reads(&self) -> &BTreeSet<String> {
///         &self.reads
///     }
///
///     fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError> {
///         let manifest = Manifest::new(self.filled(context)?)
///             .map_err(|why| error(&self.name, TemplateFault::Output, why.to_string()))?;
///         Ok(vec![manifest])
///     }
///
///     fn text<'a>(&self, context: &Context<'a>) -> Result<String, TemplateError> {
///         let text = self.filled(context)?.as_str().map(str::to_owned);
///         text.ok_or_else(|| error(&self.name, TemplateFault::Output, "a string was expected".into()))
///     }
/// }
/// ```
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
pub trait Renderer: Send + Sync + 'static {
    /// Compiles a template, so that syntax errors are known before an event needs it.
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError>;
}

/// A compiled template.
// The mock needs the lifetimes by name.
#[allow(clippy::needless_lifetimes)]
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
pub trait Template: Send + Sync + 'static {
    /// The parts of the context it may read, as far as its text tells: `event.subject`, `cluster.labels.env`, `cluster`.
    /// MUST NOT leave out what it reads: what is not named is not rendered again when it changes.
    fn reads(&self) -> &BTreeSet<String>;

    /// Renders the documents of a manifest template. Empty documents are left out.
    fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError>;

    /// Renders a one-line template, such as a key or an action, to its text.
    fn text<'a>(&self, context: &Context<'a>) -> Result<String, TemplateError>;

    /// Renders a template of one YAML mapping, the values of a chart. No document at all is an empty mapping. By default
    /// an error: not every renderer has to know this kind.
    fn values<'a>(&self, _context: &Context<'a>) -> Result<Map<String, Value>, TemplateError> {
        Err(TemplateError {
            template: "values".to_owned(),
            line: None,
            fault: TemplateFault::Evaluation,
            reason: "this renderer does not render values of charts".to_owned(),
        })
    }
}

/// The text of a template and where it stands.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TemplateSource {
    /// Where it stands, as an error names it: `ConfigMap default/namespace, key namespace.yaml`.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
    /// Whether it is a template at all, or applied as it stands.
    pub kind: TemplateKind,
    /// What it is written in.
    pub language: Language,
}

impl TemplateSource {
    /// A minijinja template of YAML documents.
    pub fn manifests(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self::new(name, text, TemplateKind::Manifests)
    }

    /// A text of this kind; if it is a template, in minijinja.
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>, kind: TemplateKind) -> Self {
        Self { name: name.into(), text: text.into(), kind, language: Language::default() }
    }

    /// The same text, written in another language.
    pub fn in_language(self, language: Language) -> Self {
        Self { language, ..self }
    }
}

/// What a template is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Language {
    /// minijinja.
    #[default]
    Minijinja,
    /// Go's `text/template` with the names that Sveltos gives to things.
    Go(GoPasses),
}

/// When a Go template is rendered, which says what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoPasses {
    /// With the event (`projectsveltos.io/instantiate`): `.CloudEvent`, and as `.Cluster` the cluster that it came from.
    Event,
    /// For the target (`projectsveltos.io/template`): `.Cluster` is the target.
    Cluster,
    /// First with the event; what that gives is a template for the target.
    Both,
}

/// How the text of a [`TemplateSource`] is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TemplateKind {
    /// A template of YAML documents.
    Manifests,
    /// YAML documents, to be applied as they stand.
    Literal,
    /// A template of a single text: a key, an action.
    Text,
    /// A template of one YAML mapping: the values of a Helm chart.
    Values,
}

/// The text may come from a Secret.
impl fmt::Debug for TemplateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateSource")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("language", &self.language)
            .finish_non_exhaustive()
    }
}

/// What templates see. A part that does not exist (a key template knows no target) is undefined in templates.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// `event`: attributes, extensions, `data`.
    pub event: Option<&'a Event>,
    /// `message`: subject, tokens, headers.
    pub message: Option<&'a Message>,
    /// `events`: all keys of a trigger that renders them together, which has no `event` and no `message`.
    pub events: Option<&'a [Arrival<'a>]>,
    /// `cluster`: the target.
    pub cluster: Option<&'a Cluster>,
    /// `origin`: the cluster the event came from.
    pub origin: Option<&'a Cluster>,
    /// `resources`: objects of the management cluster, by the trigger's identifiers.
    pub resources: Option<&'a Referred>,
    /// `trigger.name`.
    pub trigger: &'a str,
}

/// The last event of a key, and how it arrived: one of `events`.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// `event`: the same as [`Context::event`].
    pub event: &'a Event,
    /// `message`: the same as [`Context::message`].
    pub message: &'a Message,
    /// `origin`: the same as [`Context::origin`].
    pub origin: Option<&'a Cluster>,
}

/// Why a template could not be compiled or rendered. Never holds a value of the context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{template}{}: {reason}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct TemplateError {
    /// The name of the template.
    pub template: String,
    /// The line in it, counted from 1.
    pub line: Option<u32>,
    /// What kind of fault it is.
    pub fault: TemplateFault,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl TemplateError {
    /// A fault of a template as a whole. Neither name nor reason may hold a value of the context.
    pub fn new(template: impl Into<String>, fault: TemplateFault, reason: impl Into<String>) -> Self {
        Self { template: template.into(), line: None, fault, reason: reason.into() }
    }
}

/// The kinds of [`TemplateError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateFault {
    /// The text is no template.
    Syntax,
    /// A variable or attribute that does not exist.
    Undefined,
    /// A value stands where only structure may, or printed text was used as a value.
    Structure,
    /// The result is not YAML, or not Kubernetes objects.
    Output,
    /// The template is too costly.
    Limit,
    /// Anything else that failed while it ran: a filter with a wrong argument.
    Evaluation,
}
