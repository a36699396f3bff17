//! The control socket: how `show` and its kin talk to a running operator.
//!
//! A Unix socket in the data folder, for its owner alone. One request and one answer a connection, each a line of JSON.
//! Never reachable over the network.

mod client;
mod path;
mod server;

use fleet_core::cluster::ClusterId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::show::Sought;

pub use self::client::{CallError, call};
pub use self::server::{Answering, Control};

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Question {
    /// What is in the clusters: [`AddonRow`](crate::show::AddonRow)s.
    Addons,
    /// The clusters: [`ClusterRow`](crate::show::ClusterRow)s.
    Clusters,
    /// The EventSources: [`SourceRow`](crate::show::SourceRow)s.
    Sources,
    /// The EventTriggers: [`TriggerRow`](crate::show::TriggerRow)s.
    Triggers,
    /// What came lately, and what came of it: [`EventRow`](crate::show::EventRow)s.
    Events,
    /// What would be done where a trigger says DryRun: [`DryRunRow`](crate::show::DryRunRow)s.
    DryRun,
    /// What triggers render from: [`UsageRow`](crate::show::UsageRow)s.
    Usage,
    /// Objects that carry a mark without being any Work's: [`StrayRow`](crate::show::StrayRow)s.
    Strays,
    /// Why an object is in a cluster, or is not: an [`Explanation`](crate::show::Explanation).
    Explain {
        /// The object.
        object: Sought,
        /// The cluster.
        cluster: ClusterId,
    },
    /// What is recorded of a Work in each cluster: [`AppliedWork`](fleet_core::work::AppliedWork)s.
    Applied {
        /// The Work.
        work: String,
    },
    /// What never became Work, and which Works are stalled: [`DeadLetterRow`](crate::show::DeadLetterRow)s.
    DeadLetters,
    /// All of one of these: a [`DeadLetterDetail`](crate::show::DeadLetterDetail).
    DeadLetter {
        /// Its id.
        id: String,
    },
    /// Sends one of these again, or tries a Work again now: a [`HandledRow`](crate::show::HandledRow).
    Resend {
        /// Its id.
        id: String,
        /// Whether it is to be the newest of its key.
        as_new: bool,
    },
    /// Drops one of these: a [`HandledRow`](crate::show::HandledRow).
    DropDeadLetter {
        /// Its id.
        id: String,
    },
    /// Lets withdrawals that wait for a confirmation go ahead. No rows.
    ConfirmWithdrawals,
}

/// An answer: rows, and what a reader should know besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The rows, as the question says.
    pub rows: Vec<Value>,
    /// Sentences for a human reader: definitions that cannot be used, withdrawals that wait.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Answer {
    /// An answer of these rows.
    ///
    /// # Errors
    /// When a row cannot be written as JSON.
    pub fn new<T: Serialize>(rows: &[T], notes: Vec<String>) -> Result<Self, String> {
        let rows = rows
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        Ok(Self { rows, notes })
    }
}

/// The longest request, in bytes.
const LONGEST_REQUEST: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use async_trait::async_trait;
    use tokio_util::sync::CancellationToken;

    use super::*;

    struct Parrot;

    #[async_trait]
    impl Answering for Parrot {
        async fn answer(&self, question: Question) -> Result<Answer, String> {
            match question {
                Question::Addons => Answer::new(&["a"], vec!["a note".to_owned()]),
                _ => Err("no idea".to_owned()),
            }
        }
    }

    async fn asks_and_is_answered(data: &std::path::Path) {
        assert!(matches!(call(data, &Question::Addons).await, Err(CallError::NobodyRuns)));
        std::fs::write(data.join("control.sock"), "left behind by an operator that was killed").unwrap();
        let control = Control::bind(data).unwrap();
        let mode = std::fs::metadata(data.join("control.sock")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(control.run(Arc::new(Parrot), shutdown.clone()));
        let answer = call(data, &Question::Addons).await.unwrap();
        assert_eq!(answer, Answer { rows: vec!["a".into()], notes: vec!["a note".to_owned()] });
        assert!(
            matches!(call(data, &Question::Clusters).await, Err(CallError::Refused(why)) if why == "no idea")
        );
        shutdown.cancel();
        running.await.unwrap();
        assert!(matches!(call(data, &Question::Addons).await, Err(CallError::NobodyRuns)));
        assert_eq!(std::fs::read_dir(data).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_running_operator_is_asked_over_its_socket() {
        asks_and_is_answered(tempfile::tempdir().unwrap().path()).await;
    }

    #[tokio::test]
    async fn a_long_path_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        asks_and_is_answered(&long).await;
    }
}
