//! What an event would mean, as a stream of YAML documents; everything else is a comment.

use std::fmt::Write as _;

use fleet_core::catalog::TriggerDef;
use fleet_core::diff::masked;
use fleet_core::engine::{Fate, Foretold, Meaning, Place};
use fleet_core::policy::SyncMode;
use fleet_core::work::Intent;
use fleet_core::yaml;
use serde_json::Value;

/// What would happen, and whether anything would fail.
#[derive(Debug, Default)]
pub struct Told {
    /// YAML.
    pub text: String,
    /// Whether the event would become a dead letter, or a Work that is stalled.
    pub faulty: bool,
}

/// What an event would mean to each trigger. Values of Secrets are masked.
pub fn text(foretold: &[Foretold]) -> Told {
    let mut told = Told::default();
    if foretold.is_empty() {
        told.comment("there is no EventTrigger among the definitions");
    }
    for Foretold { trigger, fate } in foretold {
        match fate {
            Fate::Unwanted { why } => told.comment(&format!("trigger {}, not wanted: {why}", trigger.name)),
            Fate::Refused { reason, detail } => {
                told.faulty = true;
                told.comment(&format!(
                    "trigger {}, refused as a dead letter: {reason}: {detail}",
                    trigger.name
                ));
            }
            Fate::Taken(meaning) => told.meaning(trigger, meaning),
            _ => {}
        }
    }
    told
}

impl Told {
    fn comment(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# {}", text.replace(|c: char| c.is_control(), " "));
    }

    fn meaning(&mut self, trigger: &TriggerDef, meaning: &Meaning) {
        let name = &trigger.name;
        let only_told = match (trigger.policy.sync, trigger.one_for_event) {
            (SyncMode::DryRun, _) => " (DryRun: nothing is written)",
            (_, false) => " (rendered together with the trigger's other keys, which are not known here)",
            _ => "",
        };
        if meaning.work.intent == Intent::Delete {
            return self.comment(&format!(
                "trigger {name}, Delete{only_told}: removes what this key had, in every cluster (Work {})",
                meaning.work.id
            ));
        }
        if let Some(why) = &meaning.nowhere {
            self.comment(&format!("trigger {name}, Create{only_told}, nowhere now: {why}"));
        }
        for Place { cluster, local, pieces, .. } in &meaning.places {
            let place = match local {
                None => cluster.id.to_string(),
                Some(management) => format!("{} for {}", management.id, cluster.id),
            };
            let place = format!("cluster {place}, trigger {name}, Create{only_told}");
            match pieces {
                Err(error) => {
                    self.faulty = true;
                    self.comment(&format!("{place}, stalled: {error}"));
                }
                Ok(pieces) if pieces.is_empty() => self.comment(&format!("{place}: nothing is rendered")),
                Ok(pieces) => {
                    self.comment(&place);
                    for piece in pieces {
                        let object = Value::Object(masked(piece.manifest.object()));
                        match yaml::to_string(&object) {
                            Ok(text) => {
                                let _ = write!(self.text, "---\n{}\n", text.trim_end());
                            }
                            Err(_) => self.comment(&format!("{} cannot be shown", piece.manifest.id())),
                        }
                    }
                }
            }
        }
    }
}
