//! What was applied, in short.

use sha2::{Digest, Sha256};

use crate::engine::triggers::Trigger;
use crate::manifest::Manifest;
use crate::policy::SyncMode;

/// A digest over all that decides whether it has to be applied again.
pub(super) fn digest(manifests: &[Manifest], trigger: &Trigger) -> String {
    use std::fmt::Write;
    let mut hasher = Sha256::new();
    for manifest in manifests {
        // Writing into a hasher cannot fail.
        let _ = serde_json::to_writer(Hashing(&mut hasher), manifest.object());
        hasher.update([0]);
    }
    let policy = &trigger.def.policy;
    // What decides how it is applied, or what was taken note of.
    let how = (policy.sync == SyncMode::ContinuousWithDriftDetection, policy.adopt, &policy.drift_exclusions);
    hasher.update(format!("{how:?}").as_bytes());
    if let Some(identity) = &trigger.def.identity {
        hasher.update(identity.namespace.as_bytes());
        hasher.update([0]);
        hasher.update(identity.name.as_bytes());
    }
    let mut text = String::with_capacity(32);
    for byte in hasher.finalize().iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

struct Hashing<'a>(&'a mut Sha256);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
