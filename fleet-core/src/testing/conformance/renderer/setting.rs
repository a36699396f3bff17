//! A context that holds one value wherever it can.

use std::sync::Arc;

use crate::cluster::{Cluster, ClusterId};
use crate::event::Event;
use crate::render::Context;
use crate::resource::{Referred, Resource};
use crate::source::Message;

/// A value that could not be mistaken for anything else: it tells where values belong.
pub const HARMLESS: &str = "harmless";

/// A part of the context that holds the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Subject,
    Extension,
    Data,
    Header,
    Label,
    Annotation,
    LabelOfOrigin,
    AnnotationOfOrigin,
    Resource,
}

impl Part {
    pub(super) const ALL: [Self; 9] = [
        Self::Subject,
        Self::Extension,
        Self::Data,
        Self::Header,
        Self::Label,
        Self::Annotation,
        Self::LabelOfOrigin,
        Self::AnnotationOfOrigin,
        Self::Resource,
    ];

    /// As a template names it.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Subject => "event.subject",
            Self::Extension => "event.ext",
            Self::Data => "event.data.v",
            Self::Header => "message.headers.h",
            Self::Label => "cluster.labels.l",
            Self::Annotation => "cluster.annotations.l",
            Self::LabelOfOrigin => "origin.labels.l",
            Self::AnnotationOfOrigin => "origin.annotations.l",
            Self::Resource => "resources.r.data.v",
        }
    }
}

/// What templates see in the suite: an event, a message, two clusters and an object of the management cluster that hold a value.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `event`.
    pub event: Event,
    /// `message`.
    pub message: Message,
    /// `cluster`.
    pub cluster: Cluster,
    /// `origin`.
    pub origin: Cluster,
    /// `resources`.
    pub resources: Referred,
}

impl Setting {
    /// All parts hold this value.
    pub fn holding(value: &str) -> Self {
        Self::of(|_| value)
    }

    #[allow(clippy::expect_used, reason = "literals, but for values, which may be any text")]
    pub(super) fn of<'a>(value: impl Fn(Part) -> &'a str) -> Self {
        let mut event = Event::builder("1", "kit", "test");
        if !value(Part::Subject).is_empty() {
            event = event.subject(value(Part::Subject));
        }
        let event = event
            .extension("ext", value(Part::Extension).to_owned())
            .json(serde_json::json!({"v": value(Part::Data)}))
            .build()
            .expect("a CloudEvent");
        let cluster = |name, label, annotation| {
            let id = ClusterId::new("civo", name).expect("a name of a cluster");
            let mut cluster = Cluster::new(id, [("l", value(label))]);
            cluster.annotations.insert("l".to_owned(), value(annotation).to_owned());
            cluster
        };
        let resource = Resource::new(serde_json::json!({"data": {"v": value(Part::Resource)}}));
        let headers = vec![("h".to_owned(), value(Part::Header).to_owned())];
        Self {
            event,
            message: Message { subject: "kit.test".to_owned(), headers },
            cluster: cluster("target", Part::Label, Part::Annotation),
            origin: cluster("origin", Part::LabelOfOrigin, Part::AnnotationOfOrigin),
            resources: Referred::from([("r".into(), Some(Arc::new(resource)))]),
        }
    }

    /// As a renderer is given it.
    pub fn context(&self) -> Context<'_> {
        Context {
            event: Some(&self.event),
            message: Some(&self.message),
            events: None,
            cluster: Some(&self.cluster),
            origin: Some(&self.origin),
            resources: Some(&self.resources),
            trigger: "kit",
        }
    }
}
