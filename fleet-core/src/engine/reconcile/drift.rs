//! Telling drift from what is nobody's business: what was seen in the cluster, against what was applied.

use std::sync::Arc;

use jiff::SignedDuration;

use super::Step;
use crate::engine::holdings::Sight;
use crate::engine::record::Record;
use crate::engine::summary::Summary;
use crate::engine::triggers::Trigger;
use crate::manifest::Manifest;
use crate::policy::SyncMode;

/// A manifest whose object is not as it should be, and who made it so, as far as that is known.
pub(super) struct Drifted {
    manifest: Manifest,
    by: Option<Arc<str>>,
}

impl Step<'_> {
    /// Which manifests have to be applied again because of what was seen. What others changed beside us is remembered as
    /// seen, so that it is not looked at again.
    pub(super) fn drifted(
        &mut self,
        record: &mut Record,
        manifests: &[Manifest],
        trigger: &Trigger,
    ) -> Vec<Drifted> {
        let policy = &trigger.def.policy;
        let repairs = policy.sync == SyncMode::ContinuousWithDriftDetection;
        let mut drifted = Vec::new();
        for (object, sight) in std::mem::take(&mut self.sights) {
            let Some(manifest) = manifests.iter().find(|manifest| manifest.id().same_object(&object)) else {
                continue;
            };
            let Some(item) = record.item(&object) else { continue };
            let by = match sight {
                Sight::Gone { .. } => {
                    if repairs {
                        // What was known of it is over: the Applier need not find that out.
                        item.version = None;
                    }
                    None
                }
                Sight::Changed(seen) => {
                    let is_ours = item.uid.as_ref() == Some(&seen.uid)
                        && *seen.mark == *self.job.work.hash()
                        && !seen.going;
                    let marked = manifest.marked(&self.job.work);
                    if is_ours && (!repairs || seen.owned.cover(&marked, policy.excluded(&object))) {
                        item.print = Some(seen.print);
                        item.version = seen.version;
                        continue;
                    }
                    if is_ours {
                        // The repair goes on from there, without another look.
                        item.version = seen.version;
                    }
                    seen.other
                }
            };
            if repairs {
                drifted.push(Drifted { manifest: manifest.clone(), by });
            }
        }
        drifted
    }

    /// Those that are repaired now. Who undoes that all the time is reported, and gets a pause.
    pub(super) fn not_contested(&self, drifted: Vec<Drifted>, summary: &mut Summary) -> Arc<[Manifest]> {
        let (shared, cluster) = (self.shared, &self.lane.cluster);
        let most = shared.config.most_repairs;
        let mut repaired = Vec::new();
        for Drifted { manifest, by } in drifted {
            let Some(pauses) = shared.holdings.repair(manifest.id(), cluster, most) else {
                repaired.push(manifest);
                continue;
            };
            let pause = shared.pause(shared.config.contested, pauses);
            let until =
                SignedDuration::try_from(pause).ok().and_then(|pause| shared.now().checked_add(pause).ok());
            let until = until.map(|until| format!(" at {until:.0}")).unwrap_or_default();
            let who = by.map_or_else(|| "somebody".to_owned(), |by| format!("field manager {by}"));
            let reason = format!(
                "{}: {who} undoes what is applied again and again; it is repaired next{until}; have that stopped, or leave \
                 the field to them with driftExclusions",
                manifest.id()
            );
            shared.counters.contested.add();
            summary.contested.get_or_insert((pause, reason));
        }
        repaired.into()
    }
}
