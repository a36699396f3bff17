//! Charts: each becomes a release, whose texts and values are rendered for every cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_core::catalog::{Composed, Payload};
use fleet_core::policy::JsonPointer;
use fleet_core::render::{Language, TemplateKind, TemplateSource};
use serde_json::{Map, Value, json};

use super::contents::Contents;
use super::object::{Fault, Kind, ObjectId, Place, Problem, join};
use super::payload;
use super::references::{Lookup, References};
use crate::api::{HelmChart, PolicyKind, RegistryCredentialsConfig, SecretName, ValuesFrom, parse_duration};
use crate::helm::kind;

const HELM_CHARTS: &str = "/spec/helmCharts";
/// Helm refuses longer names of releases.
const LONGEST_NAME: usize = 53;

/// Finds what is wrong with charts by themselves.
pub(super) fn check(place: &Place, charts: &[HelmChart], problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (index, chart) in charts.iter().enumerate() {
        let at = join(HELM_CHARTS, &index.to_string());
        let mut invalid = |field: &str, reason: String| {
            problems.push(place.problem(&format!("{at}/{field}"), Fault::Invalid, reason));
        };
        for (field, text, _) in texts(chart) {
            if text.trim().is_empty() {
                invalid(field, "is empty".to_owned());
            }
        }
        if !is_template(&chart.repository_url)
            && !["https://", "http://", "oci://"]
                .iter()
                .any(|scheme| chart.repository_url.starts_with(scheme))
        {
            invalid("repositoryURL", "must begin with https://, http:// or oci://".to_owned());
        }
        if !is_template(&chart.release_name) && chart.release_name.len() > LONGEST_NAME {
            invalid("releaseName", format!("is longer than {LONGEST_NAME} characters, which helm refuses"));
        }
        let key = (&chart.release_namespace, &chart.release_name);
        if !is_template(&chart.release_name) && !is_template(&chart.release_namespace) && !seen.insert(key) {
            let reason = format!("release {}/{} is named twice", chart.release_namespace, chart.release_name);
            invalid("releaseName", reason);
        }
        if let Some(Err(error)) = chart.options.timeout.as_deref().map(parse_duration) {
            invalid("options/timeout", error.to_string());
        }
        if chart.options.upgrade_options.max_history.is_some_and(|most| !(2..=100).contains(&most)) {
            invalid("options/upgradeOptions/maxHistory", "must be from 2 to 100".to_owned());
        }
    }
}

/// The ConfigMaps and Secrets that charts refer to.
pub(super) fn references(charts: &[HelmChart]) -> impl Iterator<Item = ObjectId> {
    charts.iter().flat_map(|chart| {
        let config = chart.registry_credentials_config.as_ref();
        let secrets = config.into_iter().flat_map(|config| [&config.credentials, &config.ca]).flatten();
        chart.values_from.iter().map(source).chain(secrets.map(secret))
    })
}

/// What charts add to a payload, their templates in a language. What is missing is told as a problem, too.
pub(super) fn releases(
    place: &Place,
    charts: &[HelmChart],
    language: Language,
    references: &References<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Payload> {
    let owner = place.id.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut payload = Vec::with_capacity(charts.len());
    for (index, chart) in charts.iter().enumerate() {
        let name = format!("{owner}, helmCharts[{index}]");
        match release(chart, &name, language, references) {
            Ok(composed) => payload.push(Payload::Composed(Arc::new(composed))),
            Err(Missing { field, reason }) => {
                let pointer = format!("{}{field}", join(HELM_CHARTS, &index.to_string()));
                problems.push(place.problem(&pointer, Fault::MissingReference, reason.clone()));
                payload.push(Payload::Missing { reason: format!("{name}: {reason}") });
            }
        }
    }
    payload
}

/// Something that a chart refers to and that cannot be used.
struct Missing {
    /// The field, as a JSON pointer from the chart.
    field: String,
    reason: String,
}

fn release(
    chart: &HelmChart,
    name: &str,
    language: Language,
    references: &References<'_>,
) -> Result<Composed, Missing> {
    let template = |field: &str, text: &str, kind| {
        TemplateSource::new(format!("{name}, {field}"), text, kind).in_language(language)
    };
    let gvk = kind();
    let Value::Object(mut object) = json!({
        "apiVersion": gvk.api_version(), "kind": gvk.kind, "metadata": {},
        "spec": {"action": chart.helm_chart_action, "options": chart.options},
    }) else {
        return Err(Missing { field: String::new(), reason: "cannot be put together".to_owned() });
    };
    let mut rendered = Vec::new();
    for (field, text, pointer) in texts(chart) {
        let pointer = at(pointer)?;
        if is_template(text) {
            rendered.push((pointer, template(field, text, TemplateKind::Text)));
        } else {
            pointer.put(&mut object, Value::String(text.to_owned()));
        }
    }
    if let Some(config) = &chart.registry_credentials_config {
        let credentials = Value::Object(credentials(config, references)?);
        at("/spec/credentials")?.put(&mut object, credentials);
    }
    let mut values = Vec::new();
    for (index, from) in chart.values_from.iter().enumerate() {
        let field = format!("/valuesFrom/{index}");
        for (key, text, language) in
            texts_of(from, references).map_err(|reason| Missing { field: field.clone(), reason })?
        {
            let name = format!("{}, key {key}", source(from));
            let source = if let Some(language) = language {
                TemplateSource::new(name, text, TemplateKind::Values).in_language(language)
            } else {
                let text = as_it_stands(&text)
                    .map_err(|reason| Missing { field: field.clone(), reason: format!("{name} {reason}") })?;
                TemplateSource::new(name, text, TemplateKind::Values)
            };
            values.push((at("/spec/values")?, source));
        }
    }
    if let Some(text) = &chart.values {
        values.push((at("/spec/values")?, template("values", text, TemplateKind::Values)));
    }
    let mut hidden = vec![at("/spec/credentials")?];
    if chart.values_from.iter().any(|from| from.kind == PolicyKind::Secret) {
        hidden.push(at("/spec/values")?);
    }
    Ok(Composed { name: name.into(), object, texts: rendered, values, hidden })
}

/// The texts of a chart that may be templates: the field, and where it goes.
fn texts(chart: &HelmChart) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
    let texts = [
        ("repositoryURL", Some(&chart.repository_url), "/spec/repositoryURL"),
        ("repositoryName", chart.repository_name.as_ref(), "/spec/repositoryName"),
        ("chartName", Some(&chart.chart_name), "/spec/chartName"),
        ("chartVersion", chart.chart_version.as_ref(), "/spec/chartVersion"),
        ("releaseName", Some(&chart.release_name), "/metadata/name"),
        ("releaseNamespace", Some(&chart.release_namespace), "/metadata/namespace"),
    ];
    texts.into_iter().filter_map(|(field, text, pointer)| Some((field, text?.as_str(), pointer)))
}

fn is_template(text: &str) -> bool {
    ["{{", "{%"].iter().any(|tag| text.contains(tag))
}

fn at(pointer: &str) -> Result<JsonPointer, Missing> {
    JsonPointer::parse(pointer).map_err(|why| Missing { field: String::new(), reason: why.to_owned() })
}

/// A text that is no template, as one that renders to it.
fn as_it_stands(text: &str) -> Result<Arc<str>, String> {
    if !["{{", "{%", "{#"].iter().any(|tag| text.contains(tag)) {
        return Ok(text.into());
    }
    if text.contains("endraw") {
        return Err("holds the word `endraw` beside braces; make it a template by the annotation \
                    fleet-events.dev/template: \"true\""
            .to_owned());
    }
    Ok(format!("{{% raw %}}{text}{{% endraw %}}").into())
}

fn source(from: &ValuesFrom) -> ObjectId {
    let ValuesFrom { kind, namespace, name, .. } = from;
    payload::object_id(*kind, namespace, name)
}

fn secret(of: &SecretName) -> ObjectId {
    ObjectId::namespaced(Kind::Secret, &of.namespace, &of.name)
}

/// A key, its text, and the language that this is a template in.
type ValuesText = (String, Arc<str>, Option<Language>);

/// The texts that values come from, by key, and what each is written in if it is a template.
fn texts_of(from: &ValuesFrom, references: &References<'_>) -> Result<Vec<ValuesText>, String> {
    let id = source(from);
    let contents = match references.look_up(&id) {
        Lookup::Found(contents) => contents,
        Lookup::Absent(_) if from.optional => return Ok(Vec::new()),
        Lookup::Absent(reason) | Lookup::Unusable(reason) => return Err(reason),
    };
    let text = |(key, text): (&String, &Result<Arc<str>, &'static str>)| match text {
        Ok(text) => Ok((key.clone(), Arc::clone(text), contents.template)),
        Err(why) => Err(format!("{id}, key {key} {why}")),
    };
    contents.entries.iter().map(text).collect()
}

fn credentials(
    config: &RegistryCredentialsConfig,
    references: &References<'_>,
) -> Result<Map<String, Value>, Missing> {
    let mut credentials = Map::new();
    let missing = |field: &str| {
        let field = format!("/registryCredentialsConfig/{field}");
        move |reason| Missing { field, reason }
    };
    if let Some(named) = &config.credentials {
        for key in ["username", "password"] {
            let text = references.text(&secret(named), key).map_err(missing("credentials"))?;
            credentials.insert(key.to_owned(), Value::String(text.trim_end_matches('\n').to_owned()));
        }
    }
    if let Some(named) = &config.ca {
        let text = authority(&secret(named), references).map_err(missing("ca"))?;
        credentials.insert("ca".to_owned(), Value::String(text.to_string()));
    }
    credentials.insert("insecureSkipTLSVerify".to_owned(), config.insecure_skip_tls_verify.into());
    credentials.insert("plainHTTP".to_owned(), config.plain_http.into());
    Ok(credentials)
}

/// The certificates under `ca.crt`, or under the only key that there is.
fn authority(id: &ObjectId, references: &References<'_>) -> Result<Arc<str>, String> {
    const USUAL: &str = "ca.crt";
    match references.look_up(id) {
        Lookup::Found(Contents { entries, .. }) if !entries.contains_key(USUAL) && entries.len() == 1 => {
            let only = entries.keys().next().map(String::as_str).unwrap_or(USUAL);
            references.text(id, only)
        }
        _ => references.text(id, USUAL),
    }
}
