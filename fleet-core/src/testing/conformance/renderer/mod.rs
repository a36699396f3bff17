//! What every [`Renderer`] keeps to. See [`renderer!`](super::renderer!).

mod checks;
mod corpus;
mod setting;

use std::sync::Arc;
use std::time::Duration;

use super::{NotChecked, checks};
use crate::render::{Renderer, TemplateSource};

use self::checks::*;

pub use self::checks::expected;
pub use self::corpus::HOSTILE;
pub use self::setting::{HARMLESS, Setting};

/// A renderer under test, by templates in its language.
///
/// Templates print one text, the value. The context holds it in the event's subject (there alone not if it is empty), in its
/// extension `ext` and as `v` in its data; in the header `h` of the message; and as `l` in the labels and the annotations of
/// the target and of the origin. An object of the management cluster, `r`, holds it as `v` in its data. See [`Setting`].
pub trait Fixture: Send + Sync + 'static {
    /// The renderer.
    fn renderer(&self) -> Arc<dyn Renderer>;

    /// Templates of manifests that print the value: one for each place where the language lets it stand, and for each part
    /// of the context that it knows.
    fn printing(&self) -> Vec<TemplateSource>;

    /// A template of a text, which prints `a/`, the value, and `/b`.
    fn text(&self) -> Result<TemplateSource, NotChecked>;

    /// A template of the values of a chart, which prints the value somewhere; and one of no document at all.
    fn values(&self) -> Result<(TemplateSource, TemplateSource), NotChecked>;

    /// A template of one object, with empty documents before and after it.
    fn empty_documents(&self) -> Result<TemplateSource, NotChecked>;

    /// Texts that are no templates, and the line of each in which the mistake is.
    fn no_templates(&self) -> Vec<(TemplateSource, u32)>;

    /// Templates that compile, and cannot be rendered because of what is in the context or not in it; with the line.
    fn failing(&self) -> Vec<(TemplateSource, u32)>;

    /// Templates that ask for more than a renderer should ever do.
    fn costly(&self) -> Result<Vec<TemplateSource>, NotChecked>;

    /// How long a costly template may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// Makes one test of every rule in the contract of [`Renderer`](crate::render::Renderer), in a module of its own.
///
/// Its arguments are the name of the module, and an expression that makes a
/// [`Fixture`](crate::testing::conformance::renderer::Fixture), evaluated once for each test. Among the rules: none of some
/// hundred [hostile values](crate::testing::conformance::renderer::HOSTILE) changes the shape of what is rendered.
///
/// ```
/// # #[cfg(feature = "minijinja")]
/// # mod of_renderers {
/// use std::sync::Arc;
///
/// use fleet_core::minijinja::MinijinjaRenderer;
/// use fleet_core::render::{Renderer, TemplateKind, TemplateSource};
/// use fleet_core::testing::conformance::{NotChecked, renderer};
///
/// struct Minijinja;
///
/// fn object(fields: &str) -> TemplateSource {
///     TemplateSource::manifests("t", format!("apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}"))
/// }
///
/// fn of(kind: TemplateKind, text: &str) -> TemplateSource {
///     TemplateSource::new("t", text, kind)
/// }
///
/// impl renderer::Fixture for Minijinja {
///     fn renderer(&self) -> Arc<dyn Renderer> {
///         Arc::new(MinijinjaRenderer)
///     }
///
///     fn printing(&self) -> Vec<TemplateSource> {
///         let places = [
///             "x: {{ event.data.v }}",
///             "x: 'a {{ event.subject }}'",
///             "x: |\n  {{ message.headers.h }}\n",
///             "data: {'{{ cluster.labels.l }}': {{ origin.annotations.l }}}",
///         ];
///         places.map(object).into()
///     }
///
///     fn text(&self) -> Result<TemplateSource, NotChecked> {
///         Ok(of(TemplateKind::Text, "a/{{ event.data.v }}/b"))
///     }
///
///     fn values(&self) -> Result<(TemplateSource, TemplateSource), NotChecked> {
///         let values = |text| of(TemplateKind::Values, text);
///         Ok((values("x: ['{{ event.data.v }}']"), values("# nothing")))
///     }
///
///     fn empty_documents(&self) -> Result<TemplateSource, NotChecked> {
///         let text = "---\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n# nothing\n";
///         Ok(TemplateSource::manifests("t", text))
///     }
///
///     fn no_templates(&self) -> Vec<(TemplateSource, u32)> {
///         vec![(object("x: {{ }}"), 4)]
///     }
///
///     fn failing(&self) -> Vec<(TemplateSource, u32)> {
///         vec![(object("x: {{ event.data.other }}"), 4), (object("{{ event.data.v }}: a"), 4)]
///     }
///
///     fn costly(&self) -> Result<Vec<TemplateSource>, NotChecked> {
///         Ok(vec![object("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}")])
///     }
/// }
///
/// renderer!(minijinja, Minijinja);
/// # }
/// # fn main() {}
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_renderer {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_renderer_checks!($crate::__conformance_tests; renderer, $name, $fixture);
    };
}

/// The checks, for whoever makes something of each.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_renderer_checks {
    ($then:path; $($arguments:tt)*) => {
        $then! {
            $($arguments)*; "Renderer";
            the_same_input_gives_the_same_result: "Pure: the same source and context MUST give the same result",
            values_never_become_structure:
                "Data never becomes structure: whatever a value of the context holds, the shape of what is rendered depends on the template alone",
            syntax_errors_are_known_when_compiled:
                "Compiles a template, so that syntax errors are known before an event needs it",
            errors_name_template_and_line: "Errors name template and line",
            errors_never_show_a_value: "never show a value of the context",
            work_is_bounded: "it MUST bound its own work",
            what_is_read_is_named: "MUST NOT leave out what it reads",
            empty_documents_are_left_out: "Empty documents are left out",
            a_text_is_its_text: "Renders a one-line template, such as a key or an action, to its text",
            values_of_a_chart_are_one_mapping:
                "Renders a template of one YAML mapping, the values of a chart. No document at all is an empty mapping",
        }
    };
}

crate::__conformance_renderer_checks!(checks;);
