//! Desired state: what was asked for is a level that is kept.

mod dependencies;
mod drift;
mod local;
mod local_faults;
mod modes;
mod ownership;
mod profiles;
mod references;
mod rerender;
mod rollout;
mod slow;
mod together;
mod ttl;

use std::sync::Arc;

use fleet_core::catalog::TriggerDef;
use fleet_core::policy::{Policy, SyncMode};
use serde_json::Value;

use crate::rig::{Rig, Setup, cluster, object, template, trigger};

/// The login story with another payload and policy.
pub(crate) fn kept(name: &str, words: &str, policy: Policy) -> TriggerDef {
    TriggerDef { name: name.into(), payload: vec![template(words)], policy: Arc::new(policy), ..trigger() }
}

pub(crate) fn mode(sync: SyncMode) -> Policy {
    Policy { sync, ..Policy::default() }
}

/// An engine with these triggers, on one cluster.
pub(crate) fn setup(triggers: impl IntoIterator<Item = TriggerDef>) -> Setup {
    let setup = Setup::default();
    setup.clusters.remove(&cluster("c2"));
    let triggers: Vec<_> = triggers.into_iter().collect();
    setup.catalog.edit(|snapshot| {
        snapshot.triggers =
            triggers.iter().map(|trigger| (Arc::clone(&trigger.name), Arc::new(trigger.clone()))).collect();
    });
    setup
}

impl Rig {
    /// Changes a trigger's policy.
    pub(crate) fn set(&self, name: &str, edit: impl Fn(&mut TriggerDef)) {
        self.catalog.edit(|snapshot| edit(Arc::make_mut(snapshot.triggers.get_mut(name).unwrap())));
    }

    /// A value under an object's data in c1.
    pub(crate) fn value(&self, name: &str) -> Option<Value> {
        self.applier.object(&cluster("c1"), &object(name))?.object.get("data")?.get("v").cloned()
    }

    /// Sets a field of an object in c1 as somebody else would.
    pub(crate) fn somebody_sets(&self, name: &str, field: &str, value: Value) {
        self.applier.edit(&cluster("c1"), &object(name), |object| {
            object.entry("data").or_insert_with(|| Value::Object(Default::default()))[field] = value;
        });
    }

    pub(crate) fn mark(&self, name: &str) -> Option<String> {
        let object = self.applier.object(&cluster("c1"), &object(name))?.object;
        Some(object["metadata"].get("labels")?.get("fleet-events.dev/work")?.as_str()?.to_owned())
    }
}
