//! Desired state outlives the event: what a trigger says is kept up in real clusters, by an operator on a folder of its own.
//! Triggers, keys and objects are named as in no other story: whose an object is, its mark says, and that comes from the
//! names of trigger and key.

mod drift;
mod health;
mod matching;
mod modes;
mod ownership;
mod protection;
mod pruning;
mod rerender;
mod rollout;
mod together;

use std::fs;

use http::Request;
use serde_json::{Value, json};

use crate::process::{Home, Operator};
use crate::stage::{Managed, cluster, wait_for};
use crate::wait::until;

/// The label that says whose an object is.
const MARK: &str = "fleet-events.dev/work";

const ACTION: &str = "{% if event.type == 'auth.example.com.logout' %}Delete{% else %}Create{% endif %}";

/// An operator's folder: some of the shared clusters, and a source of events over HTTP.
struct Fleet {
    home: Home,
}

impl Fleet {
    /// With the first so many clusters, all in production.
    fn new(clusters: usize) -> Self {
        let home = Home::new();
        fs::create_dir(home.folder()).unwrap();
        let fleet = Self { home };
        for number in 1..=clusters {
            fleet.cluster(number, &json!({"env": "production"}));
        }
        fleet.write("users.yaml", &[ours("EventSource", json!({"name": "users"}), json!({"http": {}}))]);
        fleet
    }

    /// Writes a file in one step, as a careful editor does.
    fn write(&self, file: &str, objects: &[Value]) {
        let written = self.home.folder().with_extension("new");
        fs::write(&written, documents(objects)).unwrap();
        fs::rename(written, self.home.folder().join(file)).unwrap();
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.home.folder().join(file)).unwrap();
    }

    /// A cluster joins, or gets other labels.
    fn cluster(&self, number: usize, labels: &Value) {
        let Managed { name, kubeconfig, .. } = cluster(number);
        let file = format!("{name}.kubeconfig");
        if !self.home.folder().join(&file).exists() {
            self.home.write(&file, kubeconfig);
        }
        let metadata = json!({"namespace": "civo", "name": name, "labels": labels});
        let spec = json!({"kubeconfigFile": file});
        self.write(&format!("{name}.yaml"), &[ours("Cluster", metadata, spec)]);
    }

    /// A trigger for production that renders the template of its name, or what `more` says of it.
    fn trigger(&self, name: &str, more: Value) {
        let mut spec = json!({
            "eventSourceName": "users", "oneForEvent": true, "cloudEventAction": ACTION,
            "sourceClusterSelector": {"matchLabels": {"env": "production"}},
            "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": name}],
        });
        let Value::Object(more) = more else { panic!("{more} is no part of a spec") };
        spec.as_object_mut().unwrap().extend(more);
        self.write(&format!("{name}.yaml"), &[ours("EventTrigger", json!({"name": name}), spec)]);
    }

    fn template(&self, name: &str, objects: &[Value]) {
        self.template_text(name, &documents(objects));
    }

    fn template_text(&self, name: &str, text: &str) {
        let annotations = json!({"fleet-events.dev/template": "true"});
        let mut holder = config_map(name, &json!({"objects.yaml": text}));
        holder["metadata"]["annotations"] = annotations;
        self.write(&format!("{name}-template.yaml"), &[holder]);
    }

    /// Starts the operator, and waits until all that it needs is there.
    fn start(&self) -> Operator<'_> {
        self.start_with(&[])
    }

    fn start_with(&self, args: &[&str]) -> Operator<'_> {
        let operator = self.home.run(|run| run.arg(self.home.folder()).args(args));
        until("source and clusters are ready", || {
            let rows: Vec<_> = ["sources", "clusters"].iter().flat_map(|it| self.home.show(it)).collect();
            let ready = rows.iter().all(|row| row["ready"] == true);
            if ready { Ok(()) } else { Err(format!("{rows:#?}\n{}", self.home.log())) }
        });
        operator
    }

    /// What `show addons` says of a trigger.
    fn rows(&self, trigger: &str) -> Vec<Value> {
        let mut rows = self.home.show("addons");
        rows.retain(|row| row["profiles"] == json!([format!("EventTrigger/{trigger}")]));
        rows
    }

    /// Waits until what `show addons` says of a trigger, at least one row, is as wanted; that.
    fn shows(&self, trigger: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        until(&format!("what is shown of {trigger}"), || match self.rows(trigger) {
            rows if !rows.is_empty() && wanted(&rows) => Ok(rows),
            rows => Err(format!("{rows:#?}\n{}", self.home.log())),
        })
    }

    /// Waits until everything of a trigger is in a state.
    fn is(&self, trigger: &str, state: &str) -> Vec<Value> {
        self.shows(trigger, |rows| rows.iter().all(|row| row["state"] == state))
    }

    /// Waits until nothing is shown of a trigger.
    fn ends(&self, trigger: &str) {
        until(&format!("nothing is left of {trigger}"), || match self.rows(trigger) {
            rows if rows.is_empty() => Ok(()),
            rows => Err(format!("{rows:#?}\n{}", self.home.log())),
        });
    }

    /// Waits until an object is as wanted; the object.
    fn has(&self, number: usize, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{path} in cluster {number}"), || match cluster(number).get(path) {
            Some(object) if wanted(&object) => Ok(object),
            other => Err(format!("{other:#?}\n{}", self.home.log())),
        })
    }

    /// Waits until a ConfigMap holds just this; the ConfigMap.
    fn holds(&self, number: usize, name: &str, data: &Value) -> Value {
        self.has(number, &path(name), |object| object["data"] == *data)
    }

    /// Waits until a ConfigMap is gone.
    fn loses(&self, number: usize, name: &str) {
        until(&format!("{name} is gone from cluster {number}"), || match cluster(number).get(&path(name)) {
            None => Ok(()),
            Some(object) => Err(format!("{object:#}\n{}", self.home.log())),
        });
    }
}

/// The raw API, as somebody else uses it.
impl Managed {
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, kube::Error> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(
            "Content-Type",
            match method {
                "PATCH" => "application/merge-patch+json",
                _ => "application/json",
            },
        );
        let body = body.map(Value::to_string).unwrap_or_default();
        wait_for(self.client.request(request.body(body.into_bytes()).unwrap()))
    }

    fn get(&self, path: &str) -> Option<Value> {
        match self.ask("GET", path, None) {
            Ok(object) => Some(object),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    fn post(&self, path: &str, object: &Value) -> Value {
        self.ask("POST", path, Some(object)).unwrap()
    }

    fn patch(&self, path: &str, change: &Value) -> Value {
        self.ask("PATCH", path, Some(change)).unwrap()
    }
}

/// One of our own kinds.
fn ours(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name}, "data": data})
}

/// Manifests in one text.
fn documents(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

/// The path of all ConfigMaps in namespace `default`.
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The path of one of them.
fn path(name: &str) -> String {
    format!("{CONFIG_MAPS}/{name}")
}

/// Whose an object is.
fn mark(object: &Value) -> Option<&str> {
    object["metadata"]["labels"][MARK].as_str()
}

fn uid(object: &Value) -> &Value {
    &object["metadata"]["uid"]
}

/// Another one for each write.
fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}
