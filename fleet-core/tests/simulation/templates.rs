//! A renderer that needs no template language. The text of a template is a list of words, each of which becomes one
//! object; the word `broken` cannot be rendered.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_core::catalog::{Payload, SourceDef, TriggerDef};
use fleet_core::manifest::Manifest;
use fleet_core::render::{Context, Renderer, Template, TemplateError, TemplateFault, TemplateSource};
use fleet_core::selector::LabelSelector;
use serde_json::json;

use crate::source::SOURCE;

pub(crate) const BROKEN: &str = "broken";

pub(crate) struct Words;

struct Compiled {
    source: TemplateSource,
    reads: BTreeSet<String>,
}

impl Renderer for Words {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        Ok(Arc::new(Compiled { source: source.clone(), reads: BTreeSet::new() }))
    }
}

impl Template for Compiled {
    fn reads(&self) -> &BTreeSet<String> {
        &self.reads
    }

    fn text<'a>(&self, context: &Context<'a>) -> Result<String, TemplateError> {
        let action = match context.event.unwrap().ty() {
            "Login" => "Create",
            "Logout" => "Delete",
            other => other,
        };
        Ok(action.to_owned())
    }

    fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError> {
        let event = context.event.unwrap();
        let manifest = |word: &str| {
            let name = name(context.trigger, event.subject().unwrap(), word);
            Manifest::new(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"event": event.id()},
            }))
            .unwrap()
        };
        if &*self.source.text == BROKEN {
            let (template, reason) = (self.source.name.clone(), "it is broken".to_owned());
            return Err(TemplateError { template, line: None, fault: TemplateFault::Evaluation, reason });
        }
        Ok(self.source.text.split(' ').map(manifest).collect())
    }
}

/// The name of the object that a trigger makes for a key.
pub(crate) fn name(trigger: &str, key: &str, word: &str) -> String {
    format!("{trigger}-{key}-{word}")
}

pub(crate) fn source() -> SourceDef {
    SourceDef::new(SOURCE)
}

pub(crate) fn payload(words: &str) -> Vec<Payload> {
    vec![Payload::Template(TemplateSource::manifests("words", words))]
}

/// A trigger for logins and logouts, in all clusters whose label `env` has a value.
pub(crate) fn trigger(name: &str, env: &str, words: &str) -> TriggerDef {
    TriggerDef {
        action: Some("the event's type".to_owned()),
        payload: payload(words),
        ..TriggerDef::new(name, SOURCE, LabelSelector::labels([("env", env)]).unwrap())
    }
}
