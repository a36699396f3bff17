//! Where definitions come from: a folder, or a management cluster.

use fleet_core::catalog::{Condition, Subject};

use crate::folder::Folder;

/// What the engine said of definitions, to be shown.
pub(super) trait Conditions: Send + Sync + 'static {
    /// What was said last.
    fn condition(&self, subject: &Subject) -> Option<Condition>;
}

impl Conditions for Folder {
    fn condition(&self, subject: &Subject) -> Option<Condition> {
        Folder::condition(self, subject)
    }
}
