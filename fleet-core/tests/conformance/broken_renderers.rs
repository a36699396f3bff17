//! Renderers that each break one rule, and what the suite says of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_core::manifest::Manifest;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::{
    Context, Renderer, Template, TemplateError, TemplateFault, TemplateKind, TemplateSource,
};
use fleet_core::testing::conformance::{NotChecked, renderer};
use serde_json::{Map, Value};

use crate::{assert_each_can_fail, assert_found, found};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Counts,
    PrintsText,
    CompilesLater,
    ForgetsLines,
    RenamesTemplates,
    ShowsData,
    NeverTires,
    ReadsNothing,
    KeepsEmptyDocuments,
    TrimsTexts,
    NeedsValues,
}

/// minijinja's renderer, with a fault.
struct Broken(Fault);

struct Compiled {
    inner: Result<Arc<dyn Template>, TemplateError>,
    source: TemplateSource,
    fault: Fault,
    reads: BTreeSet<String>,
}

fn error(source: &TemplateSource, reason: impl Into<String>) -> TemplateError {
    TemplateError::new(&source.name, TemplateFault::Output, reason)
}

impl Broken {
    fn spoil(fault: Fault, mut error: TemplateError) -> TemplateError {
        match fault {
            Fault::ForgetsLines => error.line = None,
            Fault::RenamesTemplates => error.template = "template".to_owned(),
            _ => {}
        }
        error
    }
}

impl Renderer for Broken {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        let (fault, source) = (self.0, source.clone());
        let inner = MinijinjaRenderer.compile(&source).map_err(|error| Self::spoil(fault, error));
        if fault != Fault::CompilesLater {
            inner.as_ref().map_err(Clone::clone)?;
        }
        let reads = match &inner {
            Ok(inner) if fault != Fault::ReadsNothing => inner.reads().clone(),
            _ => BTreeSet::new(),
        };
        Ok(Arc::new(Compiled { inner, source, fault, reads }))
    }
}

impl Compiled {
    fn inner(&self) -> Result<&dyn Template, TemplateError> {
        self.inner.as_deref().map_err(Clone::clone)
    }

    /// Prints values as they are, as a template engine does that knows nothing of YAML.
    fn printed(&self, context: &Context<'_>) -> Result<Vec<Manifest>, TemplateError> {
        let data = context.event.unwrap().to_json();
        let value = data["data"]["v"].as_str().unwrap();
        let seen = minijinja::context! { event => minijinja::context! { data => minijinja::context! { v => value } } };
        let environment = minijinja::Environment::new();
        let text = environment.render_str(&self.source.text, seen);
        let text = text.map_err(|why| error(&self.source, why.to_string()))?;
        let documents = fleet_core::yaml::documents(&text).into_iter();
        documents
            .map(|document| {
                let document = document.map_err(|_| error(&self.source, "no YAML"))?;
                Manifest::new(document.value).map_err(|why| error(&self.source, why.to_string()))
            })
            .collect()
    }
}

impl Template for Compiled {
    fn reads(&self) -> &BTreeSet<String> {
        &self.reads
    }

    fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError> {
        match self.fault {
            Fault::PrintsText if self.source.text.contains("'a {{ event.data.v") => {
                return self.printed(context);
            }
            Fault::NeverTires if self.source.text.contains("range(9999)") => {
                std::thread::sleep(Duration::from_secs(60));
            }
            Fault::KeepsEmptyDocuments if self.source.text.starts_with("---") => {
                return Err(error(&self.source, "an empty document is no object"));
            }
            _ => {}
        }
        let manifests = self.inner()?.manifests(context).map_err(|mut error| {
            if self.fault == Fault::ShowsData {
                error.reason = format!("{} with {}", error.reason, context.event.unwrap().to_json());
            }
            Broken::spoil(self.fault, error)
        })?;
        if self.fault != Fault::Counts {
            return Ok(manifests);
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = |manifest: &Manifest| {
            let mut object = Value::Object(manifest.object().clone());
            // Not in what the corpus goes through.
            if object["x"] == "constant" {
                object["count"] = COUNT.fetch_add(1, Ordering::Relaxed).into();
            }
            Manifest::new(object).unwrap()
        };
        Ok(manifests.iter().map(count).collect())
    }

    fn text<'a>(&self, context: &Context<'a>) -> Result<String, TemplateError> {
        let text = self.inner()?.text(context)?;
        Ok(if self.fault == Fault::TrimsTexts { text.replace(' ', "") } else { text })
    }

    fn values<'a>(&self, context: &Context<'a>) -> Result<Map<String, Value>, TemplateError> {
        let values = self.inner()?.values(context)?;
        if self.fault == Fault::NeedsValues && values.is_empty() {
            return Err(error(&self.source, "there are no values"));
        }
        Ok(values)
    }
}

struct Fixture(Fault);

fn object(fields: &str) -> TemplateSource {
    TemplateSource::manifests("t", format!("apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}"))
}

fn of(kind: TemplateKind, text: &str) -> TemplateSource {
    TemplateSource::new("t", text, kind)
}

impl renderer::Fixture for Fixture {
    fn renderer(&self) -> Arc<dyn Renderer> {
        Arc::new(Broken(self.0))
    }

    fn printing(&self) -> Vec<TemplateSource> {
        let places = [
            "x: constant",
            "x: 'a {{ event.data.v }}'",
            "x: |\n  {{ message.headers.h }}\n",
            "x: {{ origin.labels.l }}",
        ];
        places.map(object).into()
    }

    fn text(&self) -> Result<TemplateSource, NotChecked> {
        Ok(of(TemplateKind::Text, "a/{{ event.data.v }}/b"))
    }

    fn values(&self) -> Result<(TemplateSource, TemplateSource), NotChecked> {
        Ok((of(TemplateKind::Values, "x: ['{{ event.data.v }}']"), of(TemplateKind::Values, "# nothing")))
    }

    fn empty_documents(&self) -> Result<TemplateSource, NotChecked> {
        let text = "---\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n# nothing\n";
        Ok(TemplateSource::manifests("t", text))
    }

    fn no_templates(&self) -> Vec<(TemplateSource, u32)> {
        vec![(object("x: {{ }}"), 4)]
    }

    fn failing(&self) -> Vec<(TemplateSource, u32)> {
        vec![(object("x: {{ event.data.other }}"), 4), (object("{{ event.data.v }}: a"), 4)]
    }

    fn costly(&self) -> Result<Vec<TemplateSource>, NotChecked> {
        Ok(vec![object("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}")])
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(if self.0 == Fault::NeverTires { 1 } else { 20 })
    }
}

#[tokio::test]
async fn each_fault_is_found_by_the_check_that_is_there_for_it() {
    let cases: &[(Fault, &[&str])] = &[
        (Fault::None, &[]),
        (
            Fault::Counts,
            &[
                "the_same_input_gives_the_same_result",
                "values_never_become_structure",
                "what_is_read_is_named",
            ],
        ),
        (Fault::PrintsText, &["values_never_become_structure"]),
        (Fault::CompilesLater, &["syntax_errors_are_known_when_compiled"]),
        (Fault::ForgetsLines, &["errors_name_template_and_line"]),
        (Fault::RenamesTemplates, &["errors_name_template_and_line"]),
        (Fault::ShowsData, &["errors_never_show_a_value"]),
        (Fault::NeverTires, &["work_is_bounded"]),
        (Fault::ReadsNothing, &["what_is_read_is_named"]),
        (Fault::KeepsEmptyDocuments, &["empty_documents_are_left_out"]),
        (Fault::TrimsTexts, &["a_text_is_its_text"]),
        (Fault::NeedsValues, &["values_of_a_chart_are_one_mapping"]),
    ];
    let run = cases.iter().map(async |(fault, expected)| {
        let fixture = async || Fixture(*fault);
        (*fault, found(renderer::checks(), fixture).await, *expected)
    });
    assert_found("Renderer", &futures::future::join_all(run).await);
    assert_each_can_fail(renderer::checks::<Fixture>(), cases);
}
