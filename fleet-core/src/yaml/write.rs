//! JSON values as YAML text.

use serde_json::Value;

/// Writes a value as a YAML document, so that [`documents`](super::documents) and kubectl read the same value back.
///
/// # Errors
/// When the value cannot be written: not for values that came out of the reader.
pub fn to_string(value: &Value) -> Result<String, WriteError> {
    serde_saphyr::to_string(value).map_err(|error| WriteError { reason: error.to_string() })
}

/// Why a value could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be written as YAML: {reason}")]
pub struct WriteError {
    /// What the writer says.
    pub reason: String,
}
