//! The manifest of a release: what should be installed, checked when it is read.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use fleet_core::manifest::{Gvk, Manifest, names};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::api::{GROUP, HelmAction, HelmOptions, VERSION, parse_duration};

/// The kind of a release of a chart: it is never sent to an API server, but brought about by the `helm` program.
pub const KIND: &str = "HelmRelease";

/// How long one run of helm may take unless the release says otherwise, as with helm itself.
const USUAL_TIMEOUT: Duration = Duration::from_secs(300);
/// No run takes longer.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);
/// Helm refuses longer names.
const LONGEST_NAME: usize = 53;

/// Group, version and kind of a release.
pub fn kind() -> Gvk {
    Gvk { group: GROUP.into(), version: VERSION.into(), kind: KIND.into() }
}

/// Whether something is a release of a chart.
pub fn is_release(kind: &Gvk) -> bool {
    *kind.group == *GROUP && &*kind.kind == KIND
}

/// A release as it should be.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) spec: Spec,
    pub(super) timeout: Duration,
    /// A hash over all that decides what is installed, as a label holds it.
    pub(super) inputs: String,
}

/// The `spec` of the manifest of a release.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    #[serde(rename = "repositoryURL")]
    pub(super) repository_url: String,
    #[serde(default)]
    repository_name: Option<String>,
    chart_name: String,
    #[serde(default)]
    pub(super) chart_version: Option<String>,
    #[serde(default)]
    pub(super) action: HelmAction,
    #[serde(default)]
    pub(super) values: Map<String, Value>,
    #[serde(default)]
    pub(super) credentials: Credentials,
    #[serde(default)]
    pub(super) options: HelmOptions,
}

/// How a repository is reached.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Credentials {
    #[serde(default)]
    pub(super) username: Option<String>,
    #[serde(default)]
    pub(super) password: Option<SecretString>,
    /// Certificates in PEM.
    #[serde(default)]
    pub(super) ca: Option<String>,
    #[serde(default, rename = "insecureSkipTLSVerify")]
    pub(super) insecure_skip_tls_verify: bool,
    #[serde(default, rename = "plainHTTP")]
    pub(super) plain_http: bool,
}

/// Values and credentials stay out.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("chart", &self.chart()).finish_non_exhaustive()
    }
}

impl Release {
    /// Reads a manifest.
    ///
    /// # Errors
    /// The field at fault, why, and what to do; no values.
    pub(super) fn read(manifest: &Manifest) -> Result<Self, String> {
        let id = manifest.id();
        if id.namespace.is_none() {
            return Err("releaseNamespace is missing".to_owned());
        }
        let name = id.name.to_string();
        if names::dns_label(&name).is_err() || name.len() > LONGEST_NAME {
            return Err(format!(
                "releaseName: helm takes at most {LONGEST_NAME} small letters, digits and dashes; give it another name"
            ));
        }
        let spec = manifest.object().get("spec").cloned().unwrap_or_default();
        let inputs = inputs(&spec);
        // What serde says of a value may show it.
        let spec: Spec = serde_path_to_error::deserialize(spec)
            .map_err(|error| format!("spec.{} cannot be used; correct the helmCharts entry", error.path()))?;
        check_url(&spec)?;
        let chart = spec.chart();
        if chart.is_empty()
            || !chart.split('/').all(|part| names::path_segment(part).is_ok() && !part.starts_with('-'))
        {
            return Err(format!("chartName: {chart:?} is no name of a chart"));
        }
        if spec.chart_version.as_deref().is_some_and(|version| version.is_empty() || version.starts_with('-'))
        {
            return Err("chartVersion is no version; leave it out for the latest".to_owned());
        }
        let timeout = match &spec.options.timeout {
            None => USUAL_TIMEOUT,
            Some(text) => parse_duration(text).map_err(|error| format!("options.timeout: {error}"))?,
        };
        Ok(Self { name, spec, timeout: timeout.min(LONGEST_TIMEOUT), inputs })
    }
}

fn check_url(spec: &Spec) -> Result<(), String> {
    let url = &spec.repository_url;
    let uri = url.parse::<http::Uri>().ok();
    let scheme = uri.as_ref().and_then(|uri| uri.scheme_str()).unwrap_or_default();
    let fault = match scheme {
        "http" | "https" | "oci" => None,
        _ => Some("write a URL that begins with https://, http:// or oci://"),
    };
    let authority = uri.as_ref().and_then(|uri| uri.authority()).map(|it| it.as_str()).unwrap_or_default();
    let fault = fault.or_else(|| authority.is_empty().then_some("the host is missing"));
    let fault = fault.or_else(|| {
        authority
            .contains('@')
            .then_some("credentials do not belong into the URL; name a Secret in registryCredentialsConfig")
    });
    match fault {
        Some(why) => Err(format!("repositoryURL: {why}")),
        None => Ok(()),
    }
}

impl Spec {
    pub(super) fn is_oci(&self) -> bool {
        self.repository_url.starts_with("oci://")
    }

    /// The chart's name in its repository: `repo/chart` names the repository once more.
    pub(super) fn chart(&self) -> &str {
        let name = self.chart_name.trim_matches('/');
        let repository = self.repository_name.as_deref().unwrap_or_default();
        match name.split_once('/') {
            Some((first, rest)) if first == repository || !self.is_oci() => rest,
            _ => name,
        }
    }

    /// The version, if it names one and no range.
    pub(super) fn exact_version(&self) -> Option<&str> {
        self.chart_version.as_deref().filter(|version| is_exact(version))
    }
}

/// Whether a version is one and no range of them: three numbers, and what may follow these.
fn is_exact(version: &str) -> bool {
    let core = version.strip_prefix('v').unwrap_or(version);
    let core = core.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    core.split('.').count() == 3
        && core.split('.').all(is_number)
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
}

impl Credentials {
    pub(super) fn hash(&self, hasher: &mut Sha256) {
        let password = self.password.as_ref().map(|password| password.expose_secret()).unwrap_or_default();
        for part in
            [self.username.as_deref().unwrap_or_default(), password, self.ca.as_deref().unwrap_or_default()]
        {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.update([u8::from(self.insecure_skip_tls_verify), u8::from(self.plain_http)]);
    }
}

/// Credentials may be renewed without anything else being installed for that.
fn inputs(spec: &Value) -> String {
    let mut spec = spec.clone();
    if let Value::Object(spec) = &mut spec {
        spec.remove("credentials");
    }
    hex(&Sha256::digest(sorted(&spec)), 20)
}

/// A value as text, whatever the order of the fields in it.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, String> =
                fields.iter().map(|(name, value)| (name, sorted(value))).collect();
            format!("{fields:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        scalar => scalar.to_string(),
    }
}

pub(super) fn hex(bytes: &[u8], most: usize) -> String {
    bytes.iter().take(most).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: Value) -> Result<Release, String> {
        let object = json!({
            "apiVersion": "fleet-events.dev/v1alpha1", "kind": KIND,
            "metadata": {"name": "nats", "namespace": "nats"}, "spec": spec,
        });
        Release::read(&Manifest::new(object).unwrap())
    }

    #[test]
    fn mistakes_name_the_field_and_no_value() {
        let good = json!({"repositoryURL": "https://charts.example.com", "chartName": "nats/nats", "chartVersion": "1.2.9"});
        let release = read(good.clone()).unwrap();
        assert_eq!((release.spec.chart(), release.spec.exact_version()), ("nats", Some("1.2.9")));
        for (field, value, named) in [
            ("repositoryURL", json!("file:///etc"), "repositoryURL"),
            ("repositoryURL", json!("https://user:s3cret@charts.example.com"), "repositoryURL"),
            ("repositoryURL", json!("--s3cret"), "repositoryURL"),
            ("chartName", json!("--s3cret"), "chartName"),
            ("chartName", json!("../../s3cret"), "chartName"),
            ("chartVersion", json!("--s3cret"), "chartVersion"),
            ("values", json!("s3cret"), "spec.values"),
            ("credentials", json!({"username": 5, "password": "s3cret"}), "spec.credentials.username"),
            ("options", json!({"timeout": "soon"}), "options.timeout"),
            ("action", json!("s3cret"), "spec.action"),
            ("unknown", json!("s3cret"), "spec"),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let error = read(bad).unwrap_err();
            assert!(error.starts_with(named), "{field}: {error}");
            assert!(field == "chartName" || !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_range_is_no_version() {
        for exact in ["1.2.3", "v1.2.3", "1.2.3-rc.1", "1.2.3+build.5"] {
            assert!(is_exact(exact), "{exact}");
        }
        for range in ["1", "1.2", "^1.2.3", "1.2.x", ">=1.0.0", "1.2.3 - 1.4.0", "*", "1.2.3 || 2.0.0"] {
            assert!(!is_exact(range), "{range}");
        }
    }

    #[test]
    fn inputs_differ_where_something_else_would_be_installed() {
        let spec = |more: Value| {
            let mut spec = json!({"repositoryURL": "https://charts.example.com", "chartName": "nats"});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read(spec).unwrap().inputs
        };
        let plain = spec(json!({"values": {"a": 1, "b": 2}}));
        assert_eq!(plain, spec(json!({"values": {"b": 2, "a": 1}})));
        assert_eq!(plain, spec(json!({"values": {"a": 1, "b": 2}, "credentials": {"username": "u"}})));
        assert_ne!(plain, spec(json!({"values": {"a": 1, "b": 3}})));
        assert_ne!(plain, spec(json!({"values": {"a": 1, "b": 2}, "chartVersion": "1.0.0"})));
    }
}
