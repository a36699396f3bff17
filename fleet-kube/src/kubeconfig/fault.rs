//! Why a kubeconfig cannot be used.

use jiff::Timestamp;

/// Why a kubeconfig cannot be used, and where it came from. Shows none of its content.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {fault}")]
pub struct KubeconfigError {
    /// The file, or the Secret and its key.
    pub origin: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a kubeconfig.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read.
    #[error("the kubeconfig cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// It is not YAML, or not a kubeconfig.
    #[error(
        "this is no kubeconfig: line {line}, column {column} cannot be understood; expected what `kubectl config view --raw` prints"
    )]
    NotKubeconfig {
        /// Where, from 1.
        line: u64,
        /// Where, from 1.
        column: u64,
    },
    /// There is nothing in it.
    #[error("the kubeconfig has no clusters; expected what `kubectl config view --raw` prints")]
    Empty,
    /// It does not say which context to use.
    #[error("the kubeconfig has no current-context; set it with `kubectl config use-context`")]
    NoCurrentContext,
    /// The context is not there.
    #[error("the kubeconfig has no context {0:?}")]
    NoSuchContext(String),
    /// The context's cluster is not there.
    #[error("context {context:?} of the kubeconfig names cluster {cluster:?}, which it does not have")]
    NoSuchCluster {
        /// The context.
        context: String,
        /// Its cluster.
        cluster: String,
    },
    /// The context's user is not there.
    #[error("context {context:?} of the kubeconfig names user {user:?}, which it does not have")]
    NoSuchUser {
        /// The context.
        context: String,
        /// Its user.
        user: String,
    },
    /// It asks to run a program.
    #[error(
        "{field} would run a program on the operator's machine, which a kubeconfig from a Secret may not; use a token (`fleet-operator register cluster --create-service-account`)"
    )]
    RunsProgram {
        /// The field.
        field: String,
    },
    /// It asks to read a file.
    #[error(
        "{field} would read a file of the operator's machine, which a kubeconfig from a Secret may not; put the content in its place (`kubectl config view --raw --flatten`)"
    )]
    ReadsFile {
        /// The field.
        field: String,
    },
    /// A file that it names cannot be read.
    #[error("{field}: {path} cannot be read: {source}")]
    FileUnreadable {
        /// The field.
        field: String,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A field is missing.
    #[error("{field} is missing in the kubeconfig")]
    Missing {
        /// The field.
        field: String,
    },
    /// A field cannot be understood.
    #[error("{field} is malformed in the kubeconfig; expected {expected}")]
    Malformed {
        /// The field.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field that cannot be obeyed.
    #[error("{field} is not supported; remove it, or reach the cluster without")]
    Unsupported {
        /// The field.
        field: String,
    },
    /// The client certificate has expired.
    #[error("{field}: the client certificate expired at {since}; put a new one in its place")]
    Expired {
        /// The field.
        field: String,
        /// Since when it cannot be used.
        since: Timestamp,
    },
    /// Something else.
    #[error("the kubeconfig cannot be used: {0}")]
    Unusable(String),
}

impl Fault {
    /// The place only: the parser's own message may show content.
    pub(super) fn of_yaml(error: &serde_saphyr::Error) -> Self {
        let location = error.location();
        let (line, column) = location.map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        Self::NotKubeconfig { line, column }
    }
}
