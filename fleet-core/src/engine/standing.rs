//! Works that no event makes and none changes: a ClusterProfile's, and that of a trigger which renders all its keys
//! together.

use std::sync::Arc;

use jiff::Timestamp;

use crate::catalog::TriggerDef;
use crate::engine::Shared;
use crate::engine::triggers::Trigger;
use crate::event::{DecodeError, Event};
use crate::position::Positions;
use crate::source::Message;
use crate::store::StoreError;
use crate::work::{EventKey, Intent, Work, WorkId};

impl Shared {
    /// Stores such a Work, unless it is there.
    pub(super) async fn set_standing(&self, trigger: &Trigger, key: EventKey) -> Result<(), StoreError> {
        let id = WorkId::new(&trigger.def.name, &key);
        if self.store.work(&id).await?.is_some() {
            return Ok(());
        }
        let work = standing(&trigger.def, key, self.now());
        let work = work.map_err(|error| StoreError::Corrupt(error.to_string()))?;
        match self.store.put_work(Arc::new(work), None, Vec::new()).await {
            Ok(_) => self.note_live(false, true),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Such a Work, with an event that nobody sent.
pub(super) fn standing(def: &TriggerDef, key: EventKey, received: Timestamp) -> Result<Work, DecodeError> {
    let name = &def.name;
    let (path, ty) = match key {
        EventKey::Always => ("clusterprofiles", "dev.fleet-events.profile"),
        _ => ("eventtriggers", "dev.fleet-events.aggregate"),
    };
    let shown = name.rsplit('/').next().unwrap_or(name);
    let event = Event::builder("standing", format!("/{path}/{shown}"), ty).build()?;
    Ok(Work {
        id: WorkId::new(name, &key),
        trigger: Arc::clone(name),
        source: def.source.clone().unwrap_or_default(),
        key,
        origin: None,
        generation: 1,
        intent: Intent::Create,
        event: Arc::new(event),
        message: Arc::new(Message::default()),
        positions: Positions::default(),
        received,
        published: None,
        recent: Vec::new(),
    })
}
