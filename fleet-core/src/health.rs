//! Whether what was applied is as it should be: the rules of kstatus (the library in kubernetes-sigs/cli-utils that
//! `kubectl` plugins and GitOps tools share), and a trigger's own checks.

use serde::{Deserialize, Serialize};

/// How an object, or all that a Work has in a cluster, is doing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "status", rename_all_fields = "camelCase")]
pub enum Health {
    /// It is as it should be.
    Ready,
    /// It may become so by itself.
    Progressing {
        /// What is waited for. No values of Secrets.
        message: String,
    },
    /// It will not become so by itself.
    Failed {
        /// What is wrong. No values of Secrets.
        message: String,
    },
}
