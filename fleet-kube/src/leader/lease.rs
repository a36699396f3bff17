//! The Lease object, as it is read and written: what others wrote into it stays.

use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// A Lease as the API server has it, or as it is to be.
#[derive(Clone, PartialEq)]
pub(super) struct Lease(Value);

/// What candidates tell each other. Its timestamps are for people: nobody judges by them, so they stay text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Who leads; empty if nobody.
    pub(super) holder: String,
    /// So long after the last change that somebody sees, the holder counts as dead to them.
    pub(super) duration: Duration,
    pub(super) acquired: String,
    pub(super) renewed: String,
    /// How often the holder changed.
    pub(super) transitions: u64,
}

impl Lease {
    /// One that does not exist yet.
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"namespace": namespace, "name": name},
        }))
    }

    /// One that the API server sent.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(body) {
            Ok(object @ Value::Object(_)) => Ok(Self(object)),
            _ => Err("the answer is no Lease; is this an API server?".to_owned()),
        }
    }

    pub(super) fn record(&self) -> Record {
        let field = |name: &str| self.0.pointer("/spec").and_then(|spec| spec.get(name));
        let text = |name: &str| field(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| field(name).and_then(Value::as_u64).unwrap_or_default();
        Record {
            holder: text("holderIdentity"),
            duration: Duration::from_secs(number("leaseDurationSeconds")),
            acquired: text("acquireTime"),
            renewed: text("renewTime"),
            transitions: number("leaseTransitions"),
        }
    }

    /// The same Lease, of the same resourceVersion, with another record.
    pub(super) fn with(&self, record: &Record) -> Self {
        let mut lease = self.0.clone();
        let fields = [
            ("holderIdentity", json!(record.holder)),
            ("leaseDurationSeconds", json!(record.duration.as_secs())),
            ("acquireTime", json!(record.acquired)),
            ("renewTime", json!(record.renewed)),
            ("leaseTransitions", json!(record.transitions)),
        ];
        if let Some(lease) = lease.as_object_mut()
            && let Some(spec) = lease.entry("spec").or_insert_with(|| json!({})).as_object_mut()
        {
            spec.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        }
        Self(lease)
    }

    pub(super) fn body(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    #[cfg(test)]
    pub(super) fn version(&self) -> Option<&str> {
        self.0.pointer("/metadata/resourceVersion").and_then(Value::as_str)
    }

    #[cfg(test)]
    pub(super) fn of_version(mut self, version: u64) -> Self {
        self.0["metadata"]["resourceVersion"] = json!(version.to_string());
        self
    }
}

/// As Kubernetes writes a time with microseconds.
pub(super) fn written(time: Timestamp) -> String {
    format!("{time:.6}")
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.record()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays() {
        let body = br#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"x","resourceVersion":"7",
            "labels":{"a":"b"}},"spec":{"strategy":"OldestEmulationVersion","holderIdentity":"one","leaseDurationSeconds":15}}"#;
        let lease = Lease::parse(body).unwrap();
        let record = Record { holder: "two".to_owned(), transitions: 3, ..lease.record() };
        let other = Lease::parse(&lease.with(&record).body()).unwrap();
        assert_eq!(other.record(), record);
        assert_eq!(other.record().duration, Duration::from_secs(15));
        assert_eq!(other.version(), Some("7"));
        assert_eq!(other.0["metadata"]["labels"]["a"], "b");
        assert_eq!(other.0["spec"]["strategy"], "OldestEmulationVersion");
        assert!(Lease::parse(b"<html>").is_err());
    }

    #[test]
    fn times_have_microseconds() {
        assert_eq!(written(Timestamp::from_millisecond(1_500).unwrap()), "1970-01-01T00:00:01.500000Z");
    }
}
