//! A release of a chart, as people read it: nothing of it is an object that one could apply.

use fleet_core::yaml;
use serde_json::Value;

/// Which chart is installed as what, and its values.
pub(super) fn lines(release: &Value) -> Vec<String> {
    let text = |pointer: &str| release.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = match text("/spec/chartVersion") {
        "" => "in its latest version".to_owned(),
        version => version.to_owned(),
    };
    let which = format!("chart {} {version} from {}", text("/spec/chartName"), text("/spec/repositoryURL"));
    let release_name =
        format!("release {} in namespace {}", text("/metadata/name"), text("/metadata/namespace"));
    if text("/spec/action") == "Uninstall" {
        return vec![format!("{which}: {release_name} is uninstalled")];
    }
    let values =
        release.pointer("/spec/values").filter(|values| *values != &Value::Object(serde_json::Map::new()));
    let Some(values) = values else { return vec![format!("{which}, as {release_name}, without values")] };
    let mut lines = vec![format!("{which}, as {release_name}, with the values")];
    let written = yaml::to_string(values).unwrap_or_else(|_| "(cannot be shown)".to_owned());
    lines.extend(written.trim_end().lines().map(|line| format!("  {line}")));
    lines
}
