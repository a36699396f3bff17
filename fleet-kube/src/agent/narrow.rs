//! Makes definitions, which are for a fleet, those of one cluster. Pure.

use std::sync::Arc;

use fleet_core::catalog::{OriginRule, SourceDef};
use fleet_core::cluster::ClusterId;
use fleet_core::filter::{Filter, Pattern};
use fleet_core::resolve::Resolve;

use crate::connection::{ClusterDefinition, Connection};
use crate::definitions::{Definitions, Transport};

/// Leaves of the clusters only this one, reached as told, and of the events only its own.
pub(super) fn narrow(
    definitions: &mut Definitions,
    id: &ClusterId,
    connection: &Connection,
    resolve: &[Resolve],
) {
    let Definitions { catalog, transports, clusters, leaving, .. } = definitions;
    for all in [clusters, leaving] {
        all.retain(|cluster| cluster.id == *id);
        for ClusterDefinition { connection: how, resolve: names, .. } in all {
            *how = connection.clone();
            names.retain(|old| !resolve.iter().any(|new| new.is_for(old.host(), old.port())));
            names.extend_from_slice(resolve);
        }
    }
    // An agent knows no management cluster.
    for trigger in catalog.triggers.values_mut().filter(|trigger| !trigger.local.is_empty()) {
        Arc::make_mut(trigger).local.clear();
    }
    for (name, source) in &mut catalog.sources {
        let has_origin =
            matches!(transports.get(name), Some(Transport::ClusterNats(_) | Transport::Objects(_)));
        if !has_origin {
            let mut own = SourceDef::clone(source);
            own_events(&mut own, id);
            *source = Arc::new(own);
        }
    }
    for (name, transport) in transports {
        let Transport::Nats(nats) = transport else { continue };
        nats.resolve = resolve.to_vec();
        // The hub, and other agents, may read the same: each is to get everything.
        let suffix = format!("_{}_{}", id.namespace(), id.name()).replace('.', "-");
        if let Some(stream) = &mut nats.jet_stream {
            let durable = stream.durable.take().unwrap_or_else(|| format!("fleet-{name}").replace('.', "-"));
            stream.durable = Some(durable + &suffix);
        }
        if let Some(group) = &mut nats.queue_group {
            group.push_str(&suffix);
        }
    }
}

/// Events of a source that says no origin come from this cluster; of one that says it, those that do count.
fn own_events(source: &mut SourceDef, id: &ClusterId) {
    let only = match &source.origin {
        None => {
            source.origin = Some(OriginRule::Fixed(id.clone()));
            return;
        }
        Some(OriginRule::Fixed(_)) => return,
        Some(OriginRule::Extension(name)) => Filter::Exact([(name.clone(), id.to_string())].into()),
        Some(OriginRule::SubjectTokens { namespace, name }) => {
            let tokens = (0..=(*namespace).max(*name)).map(|place| match place {
                place if place == *namespace => exactly(id.namespace()),
                place if place == *name => exactly(id.name()),
                _ => "[^.]*".to_owned(),
            });
            let tokens: Vec<String> = tokens.collect();
            match Pattern::new(&format!(r"^{}(\.|$)", tokens.join(r"\."))) {
                Ok(pattern) => Filter::MessageSubject(pattern),
                // Names and a few tokens are never too large for a pattern.
                Err(_) => Filter::Any(Vec::new()),
            }
        }
    };
    source.filter = Filter::All(vec![std::mem::take(&mut source.filter), only]);
}

/// A name as a pattern: letters, digits, hyphens and dots.
fn exactly(name: &str) -> String {
    name.replace('.', r"\.")
}

#[cfg(test)]
mod tests {
    use fleet_core::event::Event;
    use fleet_core::filter::Facts;
    use fleet_core::source::Message;

    use super::*;

    #[test]
    fn only_its_own_events_count() {
        let id = ClusterId::new("civo", "c1").unwrap();
        let event = |origin: &str| {
            let text =
                format!(r#"{{"specversion":"1.0","type":"t","source":"s","id":"1","from":"{origin}"}}"#);
            Event::from_json(text.as_bytes()).unwrap()
        };
        let counts = |source: &SourceDef, event: &Event, message: &Message| {
            source.filter.matches(&Facts::new(event, message)).unwrap()
        };
        let sent_to = |subject: &str| Message { subject: subject.to_owned(), headers: Vec::new() };
        let mut tokens = SourceDef::new("s");
        tokens.origin = Some(OriginRule::SubjectTokens { namespace: 2, name: 1 });
        own_events(&mut tokens, &id);
        for (subject, expected) in [
            ("users.c1.civo", true),
            ("users.c1.civo.login", true),
            ("users.c2.civo.login", false),
            ("users.c1.civo2", false),
            ("users.xc1.civo", false),
            ("a.users.c1.civo", false),
        ] {
            assert_eq!(counts(&tokens, &event(""), &sent_to(subject)), expected, "{subject}");
        }
        let mut extension = SourceDef::new("s");
        extension.origin = Some(OriginRule::Extension("from".to_owned()));
        own_events(&mut extension, &id);
        assert!(counts(&extension, &event("civo/c1"), &sent_to("")));
        assert!(!counts(&extension, &event("civo/c2"), &sent_to("")));
        let mut none = SourceDef::new("s");
        own_events(&mut none, &id);
        assert_eq!(none.origin, Some(OriginRule::Fixed(id)));
    }
}
