//! Asking a running operator.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::path::Reach;
use super::{Answer, Question};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No operator runs on this data folder.
    #[error("no operator runs on this data folder")]
    NobodyRuns,
    /// One runs, but did not answer.
    #[error("the running operator did not answer: {0}")]
    NoAnswer(String),
    /// One runs, and could not answer.
    #[error("the running operator says: {0}")]
    Refused(String),
}

/// Asks the operator that runs on a data folder.
///
/// # Errors
/// See [`CallError`].
pub async fn call(data: &Path, question: &Question) -> Result<Answer, CallError> {
    let reach = Reach::new(data).map_err(|_| CallError::NobodyRuns)?;
    let stream = UnixStream::connect(reach.socket()).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            CallError::NoAnswer("the socket belongs to another user".to_owned())
        }
        _ => CallError::NobodyRuns,
    })?;
    match timeout(PATIENCE, exchange(stream, question)).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(reason))) => Err(CallError::Refused(reason)),
        Ok(Err(error)) => Err(CallError::NoAnswer(error.to_string())),
        Err(_) => Err(CallError::NoAnswer(format!("it took longer than {} s", PATIENCE.as_secs()))),
    }
}

async fn exchange(mut stream: UnixStream, question: &Question) -> std::io::Result<Result<Answer, String>> {
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}
