//! Charts of triggers and profiles.

use fleet_core::catalog::{Composed, Payload, profile_name};
use fleet_core::cluster::{Cluster, ClusterId, Labels};
use fleet_core::manifest::Manifest;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::{Context, Renderer};
use serde_json::{Value, json};

use crate::{problems, read};

const SECRETS: &str = r#"apiVersion: v1
kind: Secret
metadata: {name: registry, namespace: charts}
stringData: {username: reader, password: s3cret}
---
apiVersion: v1
kind: Secret
metadata: {name: authority, namespace: charts}
stringData: {root.pem: "-----BEGIN CERTIFICATE-----"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: plain, namespace: charts}
data: {"values.yaml": "a: '{{ as it stands }}'\nb: {v: 1, w: 1}\n"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: template, namespace: charts, annotations: {fleet-events.dev/template: "true"}}
data: {"values.yaml": "b: {w: '{{ cluster.name }}'}\n"}
---
"#;

fn profile(chart: &str) -> String {
    format!(
        "{SECRETS}apiVersion: fleet-events.dev/v1alpha1\nkind: ClusterProfile\nmetadata: {{name: nats}}\nspec:\n  \
         clusterSelector: {{}}\n  helmCharts:\n{chart}"
    )
}

const CHART: &str = r#"  - repositoryURL: https://nats-io.github.io/k8s/helm/charts/
    repositoryName: nats
    chartName: nats/nats
    chartVersion: "{{ cluster.labels.nats }}"
    releaseName: nats
    releaseNamespace: "nats-{{ cluster.name }}"
    helmChartAction: Install
    values: |-
      b: {z: "{{ cluster.labels.env }}"}
    valuesFrom:
    - {kind: ConfigMap, namespace: charts, name: plain}
    - {kind: ConfigMap, namespace: charts, name: template}
    - {kind: Secret, namespace: charts, name: nobody, optional: true}
    registryCredentialsConfig:
      credentials: {namespace: charts, name: registry}
      ca: {namespace: charts, name: authority}
    options: {timeout: 2m, wait: true}
"#;

/// What the engine makes of it, in short.
fn put_together(composed: &Composed) -> Value {
    let labels =
        [("env", "prod: x"), ("nats", "1.2.9")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let cluster = Cluster::new(ClusterId::new("civo", "one").unwrap(), Labels::from(labels));
    let context = Context {
        event: None,
        message: None,
        events: None,
        cluster: Some(&cluster),
        origin: None,
        resources: None,
        trigger: "t",
    };
    let mut object = composed.object.clone();
    for (field, source) in &composed.texts {
        let text = MinijinjaRenderer.compile(source).unwrap().text(&context).unwrap();
        assert!(field.put(&mut object, Value::String(text)));
    }
    let values = composed.values.iter().map(|(_, source)| {
        Value::Object(MinijinjaRenderer.compile(source).unwrap().values(&context).unwrap())
    });
    object.insert("values".to_owned(), values.collect());
    Value::Object(object)
}

#[test]
fn a_chart_becomes_a_release_of_texts_and_values() {
    let definitions = read(&profile(CHART));
    assert_eq!(problems(&definitions), [""; 0]);
    assert_eq!(definitions.references.len(), 5, "all are followed, there or not");
    let trigger = &definitions.catalog.triggers[&profile_name("nats")];
    let [Payload::Composed(composed)] = &trigger.payload[..] else { panic!("{:?}", trigger.payload) };
    assert_eq!(&*composed.name, "ClusterProfile nats, helmCharts[0]");
    let mut object = put_together(composed);
    assert_eq!(
        object.as_object_mut().unwrap().remove("values").unwrap(),
        json!([
            {"a": "{{ as it stands }}", "b": {"v": 1, "w": 1}},
            {"b": {"w": "one"}},
            {"b": {"z": "prod: x"}},
        ])
    );
    assert_eq!(
        object,
        json!({
            "apiVersion": "fleet-events.dev/v1alpha1", "kind": "HelmRelease",
            "metadata": {"name": "nats", "namespace": "nats-one"},
            "spec": {
                "repositoryURL": "https://nats-io.github.io/k8s/helm/charts/", "repositoryName": "nats",
                "chartName": "nats/nats", "chartVersion": "1.2.9", "action": "Install",
                "credentials": {
                    "username": "reader", "password": "s3cret", "ca": "-----BEGIN CERTIFICATE-----",
                    "insecureSkipTLSVerify": false, "plainHTTP": false,
                },
                "options": {"timeout": "2m", "wait": true},
            },
        })
    );
    assert!(Manifest::new(object).is_ok());
    assert!(!format!("{definitions:?}").contains("s3cret"));
}

#[test]
fn one_clear_problem_for_each_mistake_in_a_chart() {
    for (right, wrong, expected) in [
        ("https://nats-io", "file://nats-io", "spec.helmCharts[0].repositoryURL: must begin with https://"),
        ("releaseName: nats\n", "releaseName: \"\"\n", "spec.helmCharts[0].releaseName: is empty"),
        ("timeout: 2m", "timeout: soon", "spec.helmCharts[0].options.timeout: \"soon\" is not made of"),
        ("wait: true", "wate: true", "spec.helmCharts[0].options.wate: unknown field `wate`"),
        (
            "name: plain",
            "name: plane",
            "spec.helmCharts[0].valuesFrom[0]: ConfigMap charts/plane does not exist",
        ),
        (
            "name: registry}",
            "name: authority}",
            "spec.helmCharts[0].registryCredentialsConfig.credentials: Secret charts/authority has no key username",
        ),
        (
            "name: authority}",
            "name: registry}",
            "spec.helmCharts[0].registryCredentialsConfig.ca: Secret charts/registry has no key ca.crt",
        ),
        (
            "helmChartAction: Install",
            "helmChartAction: Remove",
            "spec.helmCharts[0].helmChartAction: unknown variant `Remove`",
        ),
    ] {
        let chart = CHART.replace(right, wrong);
        assert_ne!(chart, CHART);
        let found = problems(&read(&profile(&chart)));
        assert!(found.len() == 1 && found[0].contains(expected), "{wrong}: {found:?}");
    }
    let plain = CHART.replace("\"nats-{{ cluster.name }}\"", "nats");
    let found = problems(&read(&profile(&format!("{plain}{plain}"))));
    assert!(
        found.len() == 1 && found[0].contains("helmCharts[1].releaseName: release nats/nats is named twice"),
        "{found:?}"
    );
    let nothing = profile("").replace("  helmCharts:\n", "");
    let found = problems(&read(&nothing));
    assert!(found.len() == 1 && found[0].contains("or a chart in helmCharts"), "{found:?}");
}
