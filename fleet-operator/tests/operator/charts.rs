//! Charts by profiles, on real API servers and by the real helm.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use local_fleet::{Program, Progress, install};
use serde_json::{Value, json};

use crate::process::eventually;
use crate::rig::Rig;

/// Serves the files of a folder, for as long as the test's process lives; its URL.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            let _rest: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let (status, body) = match fs::read(folder.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    url
}

fn helm(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "helm {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct Charts {
    rig: Rig,
    program: PathBuf,
    url: String,
    _folder: tempfile::TempDir,
}

impl Charts {
    fn new() -> Self {
        let rig = Rig::new(false, 2);
        let program = rig.runtime.block_on(install::find(Program::Helm, &Progress::default())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fleet-kube/tests/helm/chart");
        let to = folder.path().to_str().unwrap();
        for version in ["1.0.0", "1.1.0"] {
            helm(&program, &["package", chart.to_str().unwrap(), "-d", to, "--version", version]);
        }
        helm(&program, &["repo", "index", to]);
        for cluster in rig.lab.clusters() {
            let name = cluster.name();
            let object = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
                "metadata": {"namespace": "civo", "name": name, "labels": {"env": "production"}},
                "spec": {"kubeconfigFile": format!("{name}.kubeconfig")}});
            rig.home.write(&format!("{name}.yaml"), &object.to_string());
        }
        let url = serve(folder.path().to_owned());
        Self { rig, program, url, _folder: folder }
    }

    /// The profile `beacons`, with this version and these values.
    fn define(&self, version: &str, values: &str, policy: Value) {
        let mut spec = json!({
            "clusterSelector": {"matchLabels": {"env": "production"}},
            "helmCharts": [{
                "repositoryURL": self.url, "repositoryName": "ours", "chartName": "ours/beacon",
                "chartVersion": version, "releaseName": "beacon", "releaseNamespace": "beacons",
                "values": values,
            }],
        });
        spec.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        let profile = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "ClusterProfile",
            "metadata": {"name": "beacons"}, "spec": spec});
        self.rig.home.write("profile.yaml", &profile.to_string());
    }

    /// What the charts' ConfigMap holds in each cluster.
    fn data(&self, name: &str) -> Vec<Value> {
        let of = |cluster| {
            let kubeconfig = self.rig.kubeconfig(cluster);
            let output =
                self.rig.kubectl(&kubeconfig, &["get", "configmap", name, "-n", "beacons", "-o", "json"], "");
            serde_json::from_slice::<Value>(&output.stdout)
                .map(|object| object["data"].clone())
                .unwrap_or_default()
        };
        self.rig.lab.clusters().iter().map(of).collect()
    }

    fn until(&self, what: &str, holds: impl Fn(&[Value]) -> bool) {
        eventually(&format!("{what}\n{}", self.rig.home.log()), || holds(&self.data("beacon")).then_some(()));
    }

    fn rows(&self, state: &str) -> Vec<Value> {
        self.rig.home.show("addons").into_iter().filter(|row| row["state"] == state).collect()
    }
}

#[test]
fn a_profile_installs_upgrades_keeps_and_uninstalls_a_chart() {
    let charts = Charts::new();
    let drift = json!({"syncMode": "ContinuousWithDriftDetection"});
    charts.define("1.0.0", "greeting: \"{{ cluster.name }}: {{ cluster.labels.env }}\"\n", drift.clone());
    let program = charts.program.display().to_string();
    let folder = charts.rig.home.folder();
    let operator = charts.rig.home.run(|run| run.arg(&folder).args(["--helm", &program]));
    charts.until("it is installed in both", |data| {
        data[0]["greeting"] == "cluster1: production" && data[1]["greeting"] == "cluster2: production"
    });
    let shown = eventually(&format!("both are shown\n{}", charts.rig.home.log()), || {
        let rows = charts.rows("Applied");
        (rows.len() == 2 && rows.iter().all(|row| row["health"]["status"] == "Ready")).then_some(rows)
    });
    assert_eq!(shown[0]["resourceType"], "helm chart");
    assert_eq!((&shown[0]["version"], &shown[0]["name"]), (&json!("1.0.0"), &json!("beacon")));
    assert_eq!(shown[0]["profiles"], json!(["ClusterProfile/beacons"]));

    // What somebody deletes comes back, by one upgrade.
    let first = charts.rig.kubeconfig(&charts.rig.lab.clusters()[0]);
    charts.rig.kubectl_ok(&first, &["delete", "configmap", "beacon-more", "-n", "beacons"], "");
    eventually(&format!("it comes back\n{}", charts.rig.home.log()), || {
        charts.data("beacon-more")[0].is_object().then_some(())
    });
    eventually("that is told", || {
        charts.rig.home.show("addons").iter().any(|row| row["repaired"].is_string()).then_some(())
    });
    let history = helm(
        &charts.program,
        &["history", "beacon", "-n", "beacons", "-o", "json", "--kubeconfig", first.to_str().unwrap()],
    );
    assert_eq!(serde_json::from_str::<Vec<Value>>(&history).unwrap().len(), 2, "{history}");

    charts.define("1.1.0", "greeting: hi\n", drift);
    charts.until("it is upgraded in both", |data| {
        data.iter().all(|data| data["chart"] == "1.1.0" && data["greeting"] == "hi")
    });
    eventually("the version is shown", || {
        let rows = charts.rows("Applied");
        (rows.len() == 2 && rows.iter().all(|row| row["version"] == "1.1.0")).then_some(())
    });
    fs::remove_file(charts.rig.home.folder().join("profile.yaml")).unwrap();
    charts.until("it is uninstalled in both", |data| data.iter().all(Value::is_null));
    eventually("nothing is left", || charts.rig.home.show("addons").is_empty().then_some(()));
    assert!(operator.stop().success());
}

#[test]
fn a_failing_chart_stops_the_rollout_and_says_why() {
    let charts = Charts::new();
    let one_by_one = json!({"maxUpdate": 1});
    charts.define("1.0.0", "greeting: first\n", one_by_one.clone());
    // Not there at first: that is said, and it is looked for again.
    let program = charts.rig.home.folder().join("helm");
    let folder = charts.rig.home.folder();
    let operator = charts.rig.home.run(|run| run.arg(&folder).args(["--helm", program.to_str().unwrap()]));
    eventually(&format!("a missing helm is told\n{}", charts.rig.home.log()), || {
        let rows = charts.rows("Stalled");
        rows.iter().any(|row| row["message"].as_str().unwrap().contains("--helm")).then_some(())
    });
    assert!(operator.stop().success());
    let program = charts.program.display().to_string();
    let operator = charts.rig.home.run(|run| run.arg(&folder).args(["--helm", &program]));
    charts.until("it is installed in both", |data| data.iter().all(|data| data["greeting"] == "first"));

    charts.define("1.1.0", "fail: not on a Friday\n", one_by_one.clone());
    let stalled =
        eventually(&format!("it fails in one\n{}", charts.rig.home.log()), || charts.rows("Stalled").pop());
    let message = stalled["message"].as_str().unwrap();
    assert!(message.contains("helm upgrade failed") && message.contains("objects.yaml"), "{message}");
    assert_eq!(charts.rows("Stalled").len(), 1, "the other one waits");
    assert!(charts.data("beacon").iter().all(|data| data["greeting"] == "first" && data["chart"] == "1.0.0"));

    charts.define("1.1.0", "greeting: mended\n", one_by_one);
    charts.until("the mended one goes through both", |data| {
        data.iter().all(|data| data["greeting"] == "mended" && data["chart"] == "1.1.0")
    });
    assert!(operator.stop().success());
}
