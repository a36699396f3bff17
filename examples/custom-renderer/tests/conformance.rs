//! A template language of one's own keeps the contract of those in the box.

use std::sync::Arc;

use custom_renderer::JsonRenderer;
use fleet_core::render::{Renderer, TemplateKind, TemplateSource};
use fleet_core::testing::conformance::{NotChecked, renderer};

struct Json;

fn object(fields: &str) -> TemplateSource {
    let text =
        format!("{{\"apiVersion\": \"v1\", \"kind\": \"A\",\n\"metadata\": {{\"name\": \"a\"}},\n{fields}}}");
    TemplateSource::manifests("t", text)
}

impl renderer::Fixture for Json {
    fn renderer(&self) -> Arc<dyn Renderer> {
        Arc::new(JsonRenderer)
    }

    fn printing(&self) -> Vec<TemplateSource> {
        let parts = [
            "event.data.v",
            "event.subject",
            "event.ext",
            "message.headers.h",
            "cluster.labels.l",
            "cluster.annotations.l",
            "origin.labels.l",
            "origin.annotations.l",
        ];
        let in_each = |part| {
            let value = format!("{{\"$value\": \"{part}\"}}");
            let places = [
                format!("\"x\": {value}"),
                format!("\"x\": [{value}, {{\"y\": {value}}}]"),
                format!("\"x\": {{\"$text\": [\"a \", {value}, \"\\n\", {value}]}}"),
            ];
            places.map(|place| object(&place))
        };
        parts.into_iter().flat_map(in_each).collect()
    }

    fn text(&self) -> Result<TemplateSource, NotChecked> {
        let text = r#"{"$text": ["a/", {"$value": "event.data.v"}, "/b"]}"#;
        Ok(TemplateSource::new("t", text, TemplateKind::Text))
    }

    fn values(&self) -> Result<(TemplateSource, TemplateSource), NotChecked> {
        Err(NotChecked::because("it does not render values of charts"))
    }

    fn empty_documents(&self) -> Result<TemplateSource, NotChecked> {
        let text = r#"[null, {"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}}, null]"#;
        Ok(TemplateSource::manifests("t", text))
    }

    fn no_templates(&self) -> Vec<(TemplateSource, u32)> {
        vec![(object("\"x\": }"), 3)]
    }

    fn failing(&self) -> Vec<(TemplateSource, u32)> {
        vec![(object("\"x\": {\"$value\": \"event.data.other\"}"), 3)]
    }

    fn costly(&self) -> Result<Vec<TemplateSource>, NotChecked> {
        Err(NotChecked::because("there are no loops: what is rendered is as large as template and values"))
    }
}

renderer!(json, Json);
