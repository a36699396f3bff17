//! An event, a message, two clusters; and ways to render with them.

use std::sync::Arc;

use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::event::Event;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::{Arrival, Context, Renderer, Template, TemplateError, TemplateKind, TemplateSource};
use fleet_core::resource::{Referred, Resource};
use fleet_core::source::Message;
use serde_json::{Value, json};

pub(crate) struct Setting {
    pub(crate) event: Event,
    pub(crate) message: Message,
    pub(crate) cluster: Cluster,
    pub(crate) origin: Option<Cluster>,
    pub(crate) resources: Referred,
}

impl Default for Setting {
    fn default() -> Self {
        Self::with(json!({
            "int": 5, "float": 1.5, "one": 1.0, "big": u64::MAX, "yes": true, "nothing": null, "text": "hello",
            "no": "no", "octal": "0755", "lines": "one\ntwo\n", "list": ["a", "b"], "map": {"k": "v", "n": 1},
            "deep": {"list": [{"a": 1, "b": []}, [true, null]], "empty": {}}, "icon": "\u{f0001}"
        }))
    }
}

impl Setting {
    /// With this data in the event.
    pub(crate) fn with(data: Value) -> Self {
        let event = json!({
            "specversion": "1.0", "id": "10001", "source": "auth.example.com", "type": "auth.example.com.login",
            "subject": "mgianluc", "rank": 3, "data": data
        });
        let id = |name| ClusterId::new("civo", name).unwrap();
        let mut cluster = Cluster::new(id("cluster1"), [("env", "production")]);
        cluster.annotations.insert("example.com/note".into(), "a: b".into());
        Self {
            event: Event::from_json(event.to_string().as_bytes()).unwrap(),
            message: Message {
                subject: "user.operation".into(),
                headers: vec![
                    ("X-A".into(), "1".into()),
                    ("X-B".into(), "2".into()),
                    ("X-A".into(), "3".into()),
                ],
            },
            cluster,
            origin: Some(Cluster::new(id("origin1"), [("env", "staging")])),
            resources: Referred::new(),
        }
    }

    /// With an object of the management cluster.
    pub(crate) fn refer(&mut self, identifier: &str, resource: Option<Value>) {
        self.resources.insert(identifier.into(), resource.map(|it| Arc::new(Resource::new(it))));
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            event: Some(&self.event),
            message: Some(&self.message),
            events: None,
            cluster: Some(&self.cluster),
            origin: self.origin.as_ref(),
            resources: Some(&self.resources),
            trigger: "manage-namespace",
        }
    }

    /// Renders for the cluster of the first what came in all of these together.
    pub(crate) fn render_together(
        settings: &[Self],
        template: &dyn Template,
    ) -> Result<Vec<Value>, TemplateError> {
        let events: Vec<_> = settings
            .iter()
            .map(|it| Arrival { event: &it.event, message: &it.message, origin: it.origin.as_ref() })
            .collect();
        let context = Context {
            event: None,
            message: None,
            events: Some(&events),
            origin: None,
            ..settings[0].context()
        };
        let manifests = template.manifests(&context)?;
        Ok(manifests.iter().map(|manifest| Value::Object(manifest.object().clone())).collect())
    }

    pub(crate) fn render_as(&self, kind: TemplateKind, text: &str) -> Result<Vec<Value>, TemplateError> {
        self.render_compiled(&*compile(kind, text)?)
    }

    pub(crate) fn render_compiled(&self, template: &dyn Template) -> Result<Vec<Value>, TemplateError> {
        let manifests = template.manifests(&self.context())?;
        Ok(manifests.iter().map(|manifest| Value::Object(manifest.object().clone())).collect())
    }

    pub(crate) fn render(&self, text: &str) -> Result<Vec<Value>, TemplateError> {
        self.render_as(TemplateKind::Manifests, text)
    }

    /// Renders a template that stands in the `x` of an object, after some definitions.
    pub(crate) fn render_in(&self, definitions: &str, x: &str) -> Result<Value, TemplateError> {
        let text = format!("{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\nx: {x}\n");
        let mut manifests = self.render(&text)?;
        assert_eq!(manifests.len(), 1, "{text}");
        Ok(manifests.remove(0)["x"].take())
    }

    pub(crate) fn text(&self, text: &str) -> Result<String, TemplateError> {
        let source = TemplateSource::new("key", text, TemplateKind::Text);
        MinijinjaRenderer.compile(&source)?.text(&self.context())
    }
}

pub(crate) fn compile(kind: TemplateKind, text: &str) -> Result<Arc<dyn Template>, TemplateError> {
    let source = TemplateSource::new("ConfigMap default/t, key a.yaml", text, kind);
    MinijinjaRenderer.compile(&source)
}
