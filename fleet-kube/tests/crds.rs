//! The CustomResourceDefinitions that `fleet-operator crds` prints.

// Clippy takes only test functions for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use fleet_kube::api::{crds, crds_yaml};

/// A change of the API shows in this file, so that it is made knowingly.
#[test]
fn the_definitions_are_as_recorded() {
    insta::assert_snapshot!("crds", crds_yaml().unwrap());
}

#[test]
fn the_yaml_holds_what_the_types_say() {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&crds_yaml().unwrap()).unwrap();
    assert_eq!(documents.len(), crds().len());
    for (document, crd) in documents.iter().zip(crds()) {
        assert_eq!(document["metadata"]["name"], crd.metadata.name.unwrap());
        assert_eq!(document["spec"]["group"], fleet_kube::api::GROUP);
    }
}

mod real {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
    use kube::config::{KubeConfigOptions, Kubeconfig};
    use kube::{Client, Config, Resource};
    use local_fleet::{Lab, Program, Progress, install};
    use serde_json::{Value, json};

    use fleet_kube::api::{Cluster, EventSource, EventTrigger, crds_yaml};

    /// `fleet-operator crds | kubectl apply --server-side -f -`
    async fn apply_as_users_do(kubeconfig: &str) {
        let kubectl = install::find(Program::Kubectl, &Progress::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (config, crds) = (folder.path().join("kubeconfig"), folder.path().join("crds.yaml"));
        std::fs::write(&config, kubeconfig).unwrap();
        std::fs::write(&crds, crds_yaml().unwrap()).unwrap();
        let output = tokio::process::Command::new(kubectl)
            .args(["apply", "--server-side", "-f", "-"])
            .env("KUBECONFIG", &config)
            .stdin(std::fs::File::open(&crds).unwrap())
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "no warnings: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn client() -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Lab::shared_cluster().await.unwrap();
        let kubeconfig = cluster.kubeconfig().unwrap();
        apply_as_users_do(&kubeconfig).await;
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    async fn established(client: &Client) {
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in fleet_kube::api::crds() {
            let name = crd.metadata.name.clone().unwrap();
            let established = kube::runtime::conditions::is_crd_established();
            let wait = kube::runtime::wait::await_condition(api.clone(), &name, established);
            tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap().unwrap();
            // What cannot be a structural schema is accepted, and told in a condition.
            let conditions = api.get(&name).await.unwrap().status.unwrap().conditions.unwrap();
            assert!(!conditions.iter().any(|one| one.type_ == "NonStructuralSchema"), "{conditions:?}");
        }
    }

    fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
        let resource = match object["kind"].as_str().unwrap() {
            "Cluster" => ApiResource::erase::<Cluster>(&()),
            "EventSource" => ApiResource::erase::<EventSource>(&()),
            _ => ApiResource::erase::<EventTrigger>(&()),
        };
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }

    /// Tries to create an object, and gives the refusal.
    async fn refusal(client: &Client, object: &Value) -> Option<String> {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let typed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        api(client, object).create(&params, &typed).await.err().map(|error| error.to_string())
    }

    fn with(mut object: Value, pointer: &str, value: Value) -> Value {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(key);
        } else {
            parent.insert(key.to_owned(), value);
        }
        object
    }

    /// One test, because all of it is about the same definitions in the same cluster.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_api_server_takes_them_and_enforces_their_rules() {
        let client = client().await;
        established(&client).await;
        assert_eq!(EventTrigger::group(&()), fleet_kube::api::GROUP);

        let version = "fleet-events.dev/v1alpha1";
        let cluster = json!({"apiVersion": version, "kind": "Cluster",
            "metadata": {"name": "c", "namespace": "default"}, "spec": {"directory": {}}});
        let nats = json!({"apiVersion": version, "kind": "EventSource", "metadata": {"name": "s"},
            "spec": {"nats": {"urls": ["nats://a:4222"], "subjects": ["x"]},
                "filters": [{"exact": {"type": "a"}}, {"not": {"any": [{"prefix": {"source": "b"}}]}},
                    {"cel": "event.data.seats > 10"}],
                "origin": {"extension": "cluster"}}});
        let trigger = json!({"apiVersion": version, "kind": "EventTrigger", "metadata": {"name": "t"},
            "spec": {"eventSourceName": "s", "sourceClusterSelector": {"matchLabels": {"env": "production"}},
                "oneForEvent": true, "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "c"}]}});
        let streamed = json!({"apiVersion": version, "kind": "EventSource", "metadata": {"name": "r"},
            "spec": {"nats": {"urls": ["nats://a:4222"], "jetStream": {"stream": "read"}},
                "deadLetter": {"jetStream": {"stream": "dead"}},
                "dedupe": {"by": "sourceId", "window": "10m"}, "replay": 2}});
        let kept = json!({"syncMode": "ContinuousWithDriftDetection", "continueOnConflict": true, "adopt": true,
            "driftExclusions": [{"paths": ["/spec/replicas", "/metadata/labels/a~1b"], "target": {"kind": "Deployment"}}],
            "tier": 7, "skipNamespaceCreation": true, "maxUpdate": "30%", "stopMatchingBehavior": "LeavePolicies",
            "validateHealths": [{"name": "a", "version": "v1", "kind": "Pod",
                "evaluateCEL": [{"name": "ip", "rule": "has(object.status.podIP)"}]}],
            "dependsOn": ["other"], "ttl": "1h30m", "oneForEvent": false});
        let mut keeping = trigger.clone();
        keeping["spec"].as_object_mut().unwrap().extend(kept.as_object().unwrap().clone());
        let counted = with(keeping.clone(), "/spec/maxUpdate", json!(3));
        let in_clusters = json!({"apiVersion": version, "kind": "EventSource", "metadata": {"name": "i"},
            "spec": {"nats": {"clusterSecretRef": {}}, "replay": 1}});
        let mapped =
            with(cluster.clone(), "/spec/resolve", json!(["nats.nats.svc:4222=[::1]:30422", "a:1=b"]));
        let by_agent = with(cluster.clone(), "/spec", json!({"agent": {}}));
        for good in
            [&by_agent, &in_clusters, &mapped, &cluster, &nats, &trigger, &streamed, &keeping, &counted]
        {
            assert_eq!(refusal(&client, good).await, None, "{good}");
        }
        let secret = json!({"name": "k"});
        for (bad, expected) in [
            (
                with(cluster.clone(), "/spec/directory", Value::Null),
                "set exactly one of kubeconfigSecretRef, directory",
            ),
            (
                with(cluster.clone(), "/spec/kubeconfigSecretRef", secret),
                "set exactly one of kubeconfigSecretRef",
            ),
            (with(cluster.clone(), "/spec/agent", json!({})), "inCluster and agent"),
            (
                with(cluster.clone(), "/spec", json!({"kubeconfigFile": "/x"})),
                "works only in a folder of manifests",
            ),
            (with(cluster.clone(), "/spec/resolve", json!(["nats.nats.svc=10.0.0.1"])), "spec.resolve[0]"),
            (
                with(in_clusters.clone(), "/spec/nats/subjects", json!(["x"])),
                "the Secret in each cluster says all that is to be said of NATS",
            ),
            (
                with(in_clusters.clone(), "/spec/origin", json!({"extension": "a"})),
                "the origin of an event is the cluster that it comes from",
            ),
            (
                with(in_clusters.clone(), "/spec/deadLetter", json!({"jetStream": {"stream": "d"}})),
                "dead letters are kept in the operator's store",
            ),
            (with(nats.clone(), "/spec/nats", Value::Null), "set exactly one of http, nats and kubernetes"),
            (with(nats.clone(), "/spec/http", json!({})), "set exactly one of http, nats and kubernetes"),
            (with(nats.clone(), "/spec/nats/urls", Value::Null), "set urls, or connectionSecretRef"),
            (with(nats.clone(), "/spec/nats/subjects", json!([])), "subjects must name at least one"),
            (
                with(nats.clone(), "/spec/filters", json!([{"exact": {"a": "b"}, "prefix": {"a": "b"}}])),
                "spec.filters[0]: Too many: 2",
            ),
            (
                with(nats.clone(), "/spec/origin", json!({})),
                "set exactly one of fixed, subjectTokens and extension",
            ),
            (with(nats.clone(), "/spec/maxEventBytes", json!(0)), "maxEventBytes"),
            (with(nats.clone(), "/spec/nats/jetStream", json!({"stream": "a.b"})), "jetStream.stream"),
            (
                with(nats.clone(), "/spec/nats/jetStream", json!({"stream": "a", "ackWait": "1 day"})),
                "ackWait",
            ),
            (
                with(with(streamed.clone(), "/spec/nats", Value::Null), "/spec/http", json!({})),
                "deadLetter is for NATS",
            ),
            (
                with(streamed.clone(), "/spec/deadLetter/jetStream/stream", json!("read")),
                "deadLetter.jetStream.stream is the stream that is read",
            ),
            (
                with(streamed.clone(), "/spec/deadLetter/jetStream/subject", json!("a.*")),
                "deadLetter.jetStream.subject",
            ),
            (with(streamed.clone(), "/spec/deadLetter", json!({})), "deadLetter.jetStream: Required value"),
            (
                with(streamed.clone(), "/spec/dedupe/window", json!("500ms")),
                "window must be between 1s and 24h",
            ),
            (
                with(streamed.clone(), "/spec/dedupe/window", json!("25h")),
                "window must be between 1s and 24h",
            ),
            (with(streamed.clone(), "/spec/dedupe/window", json!("1 day")), "dedupe.window"),
            (with(streamed.clone(), "/spec/dedupe/by", json!("id")), "Unsupported value"),
            (with(streamed.clone(), "/spec/replay", json!(-1)), "replay"),
            (with(nats.clone(), "/spec/replay", json!(1)), "replay is for JetStream"),
            (
                with(streamed.clone(), "/spec/nats/jetStream/deliverFrom", json!("new")),
                "replay with deliverFrom: new",
            ),
            (with(trigger.clone(), "/spec/syncMode", json!("Never")), "Unsupported value"),
            (with(trigger.clone(), "/spec/policyRefs", json!([])), "policyRefs"),
            (with(trigger.clone(), "/spec/oneForEvent", Value::Null), "set oneForEvent: true for resources"),
            (with(trigger.clone(), "/spec/ttl", json!("999ms")), "ttl must be between 1s and a year"),
            (with(trigger.clone(), "/spec/ttl", json!("8760h")), "ttl must be between 1s and a year"),
            (with(trigger.clone(), "/spec/ttl", json!("1 day")), "spec.ttl"),
            (with(trigger.clone(), "/spec/tier", json!(0)), "spec.tier"),
            (with(trigger.clone(), "/spec/maxUpdate", json!(0)), "spec.maxUpdate"),
            (with(trigger.clone(), "/spec/maxUpdate", json!("101%")), "spec.maxUpdate"),
            (with(trigger.clone(), "/spec/maxUpdate", json!("30")), "spec.maxUpdate"),
            (with(trigger.clone(), "/spec/maxUpdate", json!(1.5)), "spec.maxUpdate"),
            (with(trigger.clone(), "/spec/stopMatchingBehavior", json!("Leave")), "Unsupported value"),
            (with(trigger.clone(), "/spec/dependsOn", json!(["t"])), "a trigger cannot wait for itself"),
            (with(trigger.clone(), "/spec/dependsOn", json!(["a", "a"])), "Duplicate value"),
            (
                with(trigger.clone(), "/spec/driftExclusions", json!([{"paths": ["spec.replicas"]}])),
                "driftExclusions[0].paths[0]",
            ),
            (
                with(trigger.clone(), "/spec/driftExclusions", json!([{"paths": []}])),
                "driftExclusions[0].paths",
            ),
            (
                with(
                    trigger.clone(),
                    "/spec/validateHealths",
                    json!([{"name": "a", "version": "v1", "kind": "Pod"}]),
                ),
                "validateHealths[0].evaluateCEL: Required value",
            ),
            (with(trigger.clone(), "/spec/sourceClusterSelector", Value::Null), "sourceClusterSelector"),
            (
                with(trigger.clone(), "/spec/serviceAccountName", json!("a")),
                "set serviceAccountName and serviceAccountNamespace together",
            ),
        ] {
            let refusal = refusal(&client, &bad).await;
            assert!(refusal.as_ref().is_some_and(|found| found.contains(expected)), "{bad}\n{refusal:?}");
        }

        let keyed = with(trigger.clone(), "/spec/key", json!("{{ event.subject }}"));
        let stored = api(&client, &keyed);
        stored.create(&PostParams::default(), &serde_json::from_value(keyed.clone()).unwrap()).await.unwrap();
        for (pointer, value) in [
            ("/spec/eventSourceName", json!("other")),
            ("/spec/oneForEvent", json!(false)),
            ("/spec/oneForEvent", Value::Null),
            ("/spec/key", json!("{{ event.id }}")),
            ("/spec/key", Value::Null),
        ] {
            let edited = with(keyed.clone(), pointer, value);
            let mut object: DynamicObject = serde_json::from_value(edited).unwrap();
            object.metadata.resource_version = stored.get("t").await.unwrap().metadata.resource_version;
            let error = stored.replace("t", &PostParams::default(), &object).await.unwrap_err().to_string();
            let field = pointer.rsplit('/').next().unwrap();
            assert!(error.contains(&format!("{field} is immutable")), "{error}");
        }
        let sources = api(&client, &streamed);
        sources
            .create(&PostParams::default(), &serde_json::from_value(streamed.clone()).unwrap())
            .await
            .unwrap();
        let replay = |number: u32| Patch::Merge(json!({"spec": {"replay": number}}));
        sources.patch("r", &PatchParams::default(), &replay(3)).await.unwrap();
        let lowered = sources.patch("r", &PatchParams::default(), &replay(2)).await.unwrap_err().to_string();
        assert!(lowered.contains("replay may only grow"), "{lowered}");
        let left_out = Patch::Merge(json!({"spec": {"replay": null}}));
        assert!(sources.patch("r", &PatchParams::default(), &left_out).await.is_err());

        let other_action = json!({"spec": {"cloudEventAction": "Create"}});
        stored.patch("t", &PatchParams::default(), &Patch::Merge(other_action)).await.unwrap();
    }
}
