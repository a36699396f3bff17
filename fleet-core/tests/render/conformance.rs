//! Both renderers keep the contract: in every position that there is for a value.

use std::sync::Arc;

use fleet_core::languages::Languages;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::{GoPasses, Language, Renderer, TemplateKind, TemplateSource};
use fleet_core::testing::conformance::renderer::Fixture;
use fleet_core::testing::conformance::{NotChecked, renderer};

use crate::positions::{POSITIONS, SOURCES};

const OBJECT: &str = "apiVersion: v1\nkind: A\nmetadata: {name: a}\n";
const EMPTY_DOCUMENTS: &str = "---\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n# nothing\n---\n";

/// What stands on the fourth line of a template.
fn fourth(fields: &str) -> TemplateSource {
    TemplateSource::manifests("ConfigMap default/t, key a.yaml", format!("{OBJECT}{fields}\n"))
}

struct Minijinja;

impl Fixture for Minijinja {
    fn renderer(&self) -> Arc<dyn Renderer> {
        Arc::new(MinijinjaRenderer)
    }

    fn printing(&self) -> Vec<TemplateSource> {
        let template = |(definitions, fields): (&str, &str), source: &str| {
            let text = format!("{definitions}{OBJECT}{fields}").replace("VALUE", source);
            TemplateSource::manifests("t", text)
        };
        let everywhere =
            ("", "labels: {'k-{{ VALUE }}': '{{ VALUE }}'}\nx: |\n  {{ VALUE }}\ny: {{ VALUE }}\n");
        let in_all_positions = POSITIONS.iter().map(|position| template(*position, SOURCES[0]));
        in_all_positions.chain(SOURCES.iter().map(|source| template(everywhere, source))).collect()
    }

    fn text(&self) -> Result<TemplateSource, NotChecked> {
        Ok(TemplateSource::new("t", "a/{{ event.data.v }}/b", TemplateKind::Text))
    }

    fn values(&self) -> Result<(TemplateSource, TemplateSource), NotChecked> {
        let values = |text| TemplateSource::new("t", text, TemplateKind::Values);
        Ok((values("x: ['{{ event.data.v }}', {{ event.data.v | tojson }}]"), values("# nothing")))
    }

    fn empty_documents(&self) -> Result<TemplateSource, NotChecked> {
        Ok(TemplateSource::manifests("t", EMPTY_DOCUMENTS))
    }

    fn no_templates(&self) -> Vec<(TemplateSource, u32)> {
        ["x: {{ }}", "x: {% if event %}", "x: ["].map(|it| (fourth(it), 4)).into()
    }

    fn failing(&self) -> Vec<(TemplateSource, u32)> {
        let mistakes = [
            "x: {{ event.data.other }}",
            "{{ event.data.v }}: a",
            "x: {{ event.data }}",
            "x: {{ event.data.v | int }}",
            "x: {{ event.data.v | no_such_filter }}",
        ];
        mistakes.map(|it| (fourth(it), 4)).into()
    }

    fn costly(&self) -> Result<Vec<TemplateSource>, NotChecked> {
        let costly = [
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}x: {{ m() }}",
            "x: '{% for a in range(9999) %}{{ event.data.v * 9999 }}{% endfor %}'",
        ];
        Ok(costly.map(fourth).into())
    }
}

renderer!(minijinja, Minijinja);

#[cfg(feature = "go-templates")]
struct Go(GoPasses);

#[cfg(feature = "go-templates")]
impl Go {
    fn of(&self, source: TemplateSource) -> TemplateSource {
        source.in_language(Language::Go(self.0))
    }
}

#[cfg(feature = "go-templates")]
impl Fixture for Go {
    fn renderer(&self) -> Arc<dyn Renderer> {
        Arc::new(Languages)
    }

    fn printing(&self) -> Vec<TemplateSource> {
        use crate::go::positions::{IN_THE_SECOND_PASS, POSITIONS, SOURCES, text};
        let template = |position, source| self.of(TemplateSource::manifests("t", text(position, source)));
        let everywhere =
            ("", "labels: {'k-{{ VALUE }}': '{{ VALUE }}'}\nx: |\n  {{ VALUE }}\ny: {{ VALUE }}\n");
        if self.0 == GoPasses::Cluster {
            return vec![template(everywhere, "$.Cluster.metadata.labels.l")];
        }
        let later = if self.0 == GoPasses::Both { IN_THE_SECOND_PASS } else { &[] };
        let in_all_positions = POSITIONS.iter().chain(later).map(|position| template(*position, SOURCES[0]));
        in_all_positions.chain(SOURCES.iter().map(|source| template(everywhere, source))).collect()
    }

    fn text(&self) -> Result<TemplateSource, NotChecked> {
        if self.0 == GoPasses::Cluster {
            return Err(NotChecked::because("keys and actions are not about a target"));
        }
        Ok(self.of(TemplateSource::new("t", "a/{{ .CloudEvent.data.v }}/b", TemplateKind::Text)))
    }

    fn values(&self) -> Result<(TemplateSource, TemplateSource), NotChecked> {
        let values = |text: &str| self.of(TemplateSource::new("t", text, TemplateKind::Values));
        let value = "{{ .Cluster.metadata.labels.l }}";
        Ok((values(&format!("x: ['{value}', {value}]")), values("# nothing")))
    }

    fn empty_documents(&self) -> Result<TemplateSource, NotChecked> {
        Ok(self.of(TemplateSource::manifests("t", EMPTY_DOCUMENTS)))
    }

    fn no_templates(&self) -> Vec<(TemplateSource, u32)> {
        ["x: {{ }}", "x: {{ noSuchFunction }}", "x: {{ \"a }}", "x: ["]
            .map(|it| (self.of(fourth(it)), 4))
            .into()
    }

    fn failing(&self) -> Vec<(TemplateSource, u32)> {
        let mistakes = [
            "x: {{ .Cluster.metadata.labels.other }}",
            "{{ .Cluster.metadata.labels.l }}: a",
            "x: {{ fail .Cluster.metadata.labels.l }}",
        ];
        mistakes.map(|it| (self.of(fourth(it)), 4)).into()
    }

    fn costly(&self) -> Result<Vec<TemplateSource>, NotChecked> {
        let costly = [
            "{{ range until 9999 }}{{ range until 9999 }}x{{ end }}{{ end }}",
            "x: {{ repeat 99999999 \"abcdefgh\" }}",
        ];
        Ok(costly.map(|it| self.of(fourth(it))).into())
    }
}

#[cfg(feature = "go-templates")]
renderer!(go_with_the_event, Go(GoPasses::Event));
#[cfg(feature = "go-templates")]
renderer!(go_for_the_target, Go(GoPasses::Cluster));
#[cfg(feature = "go-templates")]
renderer!(go_in_two_passes, Go(GoPasses::Both));
