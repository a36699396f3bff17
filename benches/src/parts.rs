//! Parts that the measurements share.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::catalog::{Payload, SourceDef, Tells, TriggerDef};
use fleet_core::event::Event;
use fleet_core::filter::Filter;
use fleet_core::manifest::Manifest;
use fleet_core::position::Position;
use fleet_core::render::{Context, Renderer, Template, TemplateError, TemplateSource};
use fleet_core::selector::LabelSelector;
use fleet_core::source::{Delivery, EventSource, Settle, SourceError, SourceItem};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;

/// Does as little as a renderer can: an object that is named after the subject, and Create.
#[derive(Default)]
pub(crate) struct Nothing {
    reads: BTreeSet<String>,
}

impl Renderer for Nothing {
    fn compile(&self, _source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        Ok(Arc::new(Self::default()))
    }
}

impl Template for Nothing {
    fn reads(&self) -> &BTreeSet<String> {
        &self.reads
    }

    fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError> {
        let name = context.event.and_then(Event::subject);
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        Ok(Manifest::new(object).into_iter().collect())
    }

    fn text<'a>(&self, _context: &Context<'a>) -> Result<String, TemplateError> {
        Ok("Create".to_owned())
    }
}

/// Delivers so many login events, of so many users in turn, as fast as they are taken.
pub(crate) struct Logins {
    pub(crate) count: usize,
    pub(crate) users: usize,
}

/// The article's login event for a user.
pub(crate) fn login(user: &str) -> Event {
    let json = json!({
        "specversion": "1.0", "type": "auth.example.com.login", "source": "auth.example.com", "id": "10001",
        "subject": user, "datacontenttype": "application/json", "data": {"message": "logged in"},
    });
    // A constant but for the name, which is not empty.
    #[allow(clippy::unwrap_used)]
    Event::from_json(json.to_string().as_bytes()).unwrap()
}

#[async_trait]
impl EventSource for Logins {
    fn name(&self) -> &'static str {
        "user-operation"
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let users: Vec<_> = (0..self.users).map(|number| login(&format!("user-{number}"))).collect();
        let events = users.into_iter().cycle().take(self.count).map(|event| {
            SourceItem::Delivery(Delivery {
                event: Ok(event),
                origin: None,
                message: Arc::default(),
                raw: bytes::Bytes::new(),
                position: None,
                published: None,
                settle: Settle::nothing(),
            })
        });
        Ok(futures::stream::iter(events).chain(futures::stream::pending()).boxed())
    }
}

/// The quickstart's EventSource.
pub(crate) fn source() -> SourceDef {
    SourceDef {
        name: "user-operation".into(),
        filter: Filter::default(),
        origin: None,
        max_event_bytes: 262_144,
        dedupe: None,
        tells: Tells::Events,
        only_here: false,
    }
}

/// The quickstart's trigger, with the template given.
pub(crate) fn trigger(template: &str) -> TriggerDef {
    // A constant that is valid.
    #[allow(clippy::unwrap_used)]
    let production = LabelSelector::labels([("env", "production")]).unwrap();
    TriggerDef {
        action: Some(
            "{% if event.type == \"auth.example.com.logout\" %}Delete{% else %}Create{% endif %}".to_owned(),
        ),
        payload: vec![Payload::Template(TemplateSource::manifests(
            "ConfigMap default/namespace, key namespace.yaml",
            template,
        ))],
        ..TriggerDef::new("manage-namespace", "user-operation", production)
    }
}
