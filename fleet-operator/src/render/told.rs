//! What an event would mean, or ClusterProfiles do, as a stream of YAML documents; everything else is a comment.

use std::fmt::Write as _;

use fleet_core::catalog::TriggerDef;
use fleet_core::diff::masked;
use fleet_core::engine::{Fate, Foretold, Meaning, Place};
use fleet_core::policy::SyncMode;
use fleet_core::work::Intent;
use fleet_core::yaml;
use fleet_kube::helm::is_release;
use serde_json::Value;

use super::{called, chart};

/// What would happen, and whether anything would fail.
#[derive(Debug, Default)]
pub struct Told {
    /// YAML.
    pub text: String,
    /// Whether there would be a dead letter, or a Work that is stalled.
    pub faulty: bool,
}

/// What an event would mean to each trigger, or each ClusterProfile means. Values of Secrets are masked.
pub fn text(foretold: &[Foretold]) -> Told {
    let mut told = Told::default();
    for Foretold { trigger, fate } in foretold {
        let name = called(trigger);
        match fate {
            Fate::Unwanted { why } => told.comment(&format!("{name}, not wanted: {why}")),
            Fate::Refused { reason, detail } => {
                told.faulty = true;
                told.comment(&format!("{name}, refused as a dead letter: {reason}: {detail}"));
            }
            Fate::Taken(meaning) => told.meaning(trigger, meaning),
            _ => {}
        }
    }
    told
}

impl Told {
    /// What there is nothing to tell of.
    pub fn nothing(text: &str) -> Self {
        let mut told = Self::default();
        told.comment(text);
        told
    }

    fn comment(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# {}", text.replace(|c: char| c.is_control(), " "));
    }

    fn meaning(&mut self, trigger: &TriggerDef, meaning: &Meaning) {
        let only_told = match (trigger.policy.sync, trigger.one_for_event) {
            (SyncMode::DryRun, _) => " (DryRun: nothing is written)",
            (_, false) => " (rendered together with the trigger's other keys, which are not known here)",
            _ => "",
        };
        // A profile has no event, and so no action.
        let action = match (&trigger.source, meaning.work.intent) {
            (None, _) => "",
            (Some(_), Intent::Create) => ", Create",
            (Some(_), Intent::Delete) => ", Delete",
        };
        let rule = format!("{}{action}{only_told}", called(trigger));
        if meaning.work.intent == Intent::Delete {
            return self.comment(&format!(
                "{rule}: removes what this key had, in every cluster (Work {})",
                meaning.work.id
            ));
        }
        if let Some(why) = &meaning.nowhere {
            self.comment(&format!("{rule}, nowhere now: {why}"));
        }
        for Place { cluster, local, pieces, .. } in &meaning.places {
            let place = match local {
                None => cluster.id.to_string(),
                Some(management) => format!("{} for {}", management.id, cluster.id),
            };
            let place = format!("cluster {place}, {rule}");
            match pieces {
                Err(error) => {
                    self.faulty = true;
                    self.comment(&format!("{place}, stalled: {error}"));
                }
                Ok(pieces) if pieces.is_empty() => self.comment(&format!("{place}: nothing is rendered")),
                Ok(pieces) => {
                    self.comment(&place);
                    for piece in pieces {
                        let mut object = masked(piece.manifest.object());
                        piece.hide(&mut object);
                        let object = Value::Object(object);
                        if is_release(&piece.manifest.id().gvk) {
                            chart::lines(&object).iter().for_each(|line| self.comment(line));
                            continue;
                        }
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
