//! What is seen of marked objects on a real API server.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod lab;

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::apply::{Applier, Outcome, Placed};
use fleet_core::manifest::{Gvk, MARK, Manifest};
use fleet_core::observe::{Depth, Observation, Seen};
use fleet_core::work::WorkId;
use fleet_kube::applier::{KubeApplier, Watches};
use futures::StreamExt;
use futures::stream::BoxStream;
use lab::*;
use local_fleet::{ClusterOptions, Network, Route, User};
use serde_json::{Value, json};
use tokio::time::timeout;

const NO_TIME: Duration = Duration::from_millis(500);

fn bare() -> ClusterOptions {
    ClusterOptions::default().controller_manager(false)
}

fn kind(group: &str, version: &str, kind: &str) -> Gvk {
    Gvk { group: group.into(), version: version.into(), kind: kind.into() }
}

fn config_maps() -> Gvk {
    kind("", "v1", "ConfigMap")
}

fn at(name: &str) -> String {
    format!("/api/v1/namespaces/default/configmaps/{name}")
}

/// What is told of the objects of one Work.
struct Watch {
    told: BoxStream<'static, Observation>,
    mark: String,
}

impl Watch {
    fn of(ours: &Ours, work: &WorkId, kind: &Gvk, depth: Depth) -> Self {
        Self { told: ours.applier.observe(&ours.target.id, kind, depth), mark: work.hash().to_owned() }
    }

    async fn next(&mut self) -> Observation {
        let is_ours = |observation: &Observation| match observation {
            Observation::There(seen) => *seen.mark == *self.mark,
            Observation::Gone { mark, .. } => mark.as_deref() == Some(&*self.mark),
            _ => true,
        };
        let next = async {
            loop {
                let told = self.told.next().await.expect("the stream must not end");
                if is_ours(&told) {
                    return told;
                }
            }
        };
        timeout(SOON, next).await.expect("something should have been seen")
    }

    async fn there(&mut self) -> Seen {
        match self.next().await {
            Observation::There(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    async fn gone(&mut self) -> (String, Option<String>) {
        match self.next().await {
            Observation::Gone { object, uid, .. } => {
                (object.name.to_string(), uid.map(|uid| uid.to_string()))
            }
            other => panic!("{other:?}"),
        }
    }

    /// The objects of a complete list that is due now.
    async fn list(&mut self) -> Vec<Seen> {
        assert!(matches!(self.next().await, Observation::Listing));
        let mut objects = Vec::new();
        loop {
            match self.next().await {
                Observation::There(seen) => objects.push(seen),
                Observation::Listed { .. } => return objects,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn nothing(&mut self) {
        let told = timeout(NO_TIME, self.next()).await;
        assert!(told.is_err(), "{told:?}");
    }

    /// Follows what is told until the data of what is there is as given. Says how many lists came meanwhile.
    async fn until(&mut self, there: &mut BTreeMap<String, String>, names: &[&str]) -> usize {
        let mut lists = 0;
        let mut listed = BTreeMap::new();
        while !there.keys().map(String::as_str).eq(names.iter().copied()) || !listed.is_empty() {
            match self.next().await {
                Observation::Listing => {
                    lists += 1;
                    listed = std::mem::take(there);
                }
                Observation::There(seen) => {
                    listed.remove(&*seen.object.name);
                    there.insert(seen.object.name.to_string(), seen.uid.to_string());
                }
                Observation::Listed { .. } => listed.clear(),
                Observation::Gone { object, .. } => {
                    there.remove(&*object.name);
                }
                other => panic!("{other:?}"),
            }
        }
        lists
    }
}

fn placed(outcome: Outcome) -> Placed {
    match outcome {
        Outcome::Applied(placed) => placed,
        other => panic!("{other:?}"),
    }
}

fn print(seen: &Seen) -> String {
    seen.owned.print([]).to_string()
}

fn covers(seen: &Seen, work: &WorkId, object: &Value) -> bool {
    seen.owned.cover(&Manifest::new(object.clone()).unwrap().marked(work), [])
}

#[tokio::test]
async fn what_is_there_comes_first_then_each_change() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("changes");
    let (edited, deleted, released) = (
        config_map("c-edited", &[("a", "1"), ("b", "1")]),
        config_map("c-deleted", &[]),
        config_map("c-released", &[]),
    );
    let mut placements = BTreeMap::new();
    for object in [&edited, &deleted, &released] {
        let made = placed(ours.apply(&work, object, &[]).await);
        // As it will be applied for as long as it lives.
        let again = placed(ours.apply(&work, object, &[item(object, Some(&made.uid))]).await);
        placements.insert(object["metadata"]["name"].as_str().unwrap().to_owned(), again);
    }

    let mut watch = Watch::of(&ours, &work, &config_maps(), Depth::Metadata);
    let listed = watch.list().await;
    assert_eq!(listed.len(), 3);
    for seen in &listed {
        let placed = &placements[&*seen.object.name];
        assert_eq!((&seen.uid, &seen.version), (&placed.uid, &placed.version));
        assert_eq!(Some(print(seen)), placed.print.as_deref().map(str::to_owned), "as the write said");
        assert!(seen.written_by_us && !seen.going && seen.whole.is_none());
        assert_eq!((seen.object.namespace.as_deref(), &seen.object.gvk), (Some("default"), &config_maps()));
    }
    watch.nothing().await;

    // A field that is not ours.
    let before = listed.iter().find(|seen| &*seen.object.name == "c-edited").unwrap();
    let theirs = json!({"data": {"theirs": "1"}, "metadata": {"annotations": {"x": "y"}}});
    admin.send("PATCH", &format!("{}?fieldManager=helm", at("c-edited")), Some(&theirs)).await.unwrap();
    let seen = watch.there().await;
    assert_eq!(print(&seen), print(before));
    assert_eq!(seen.other.as_deref(), Some("helm"));

    // One that is.
    let ours_changed = json!({"data": {"a": "2"}});
    admin.send("PATCH", &format!("{}?fieldManager=edit", at("c-edited")), Some(&ours_changed)).await.unwrap();
    let seen = watch.there().await;
    assert_ne!(print(&seen), print(before));
    assert!(!covers(&seen, &work, &edited));

    admin.send("DELETE", &at("c-deleted"), None).await.unwrap();
    let uid_of = |name: &str| Some(placements[name].uid.to_string());
    assert_eq!(watch.gone().await, ("c-deleted".to_owned(), uid_of("c-deleted")));
    let no_mark = json!({"metadata": {"labels": {MARK: null}}});
    admin.send("PATCH", &at("c-released"), Some(&no_mark)).await.unwrap();
    assert_eq!(
        watch.gone().await,
        ("c-released".to_owned(), uid_of("c-released")),
        "it is there, without our mark"
    );
    assert!(admin.get(&at("c-released")).await.is_some());

    // It gets another Work's mark: its own tells.
    let mut other = Watch { told: watch.told, mark: "ffff".to_owned() };
    let other_mark = json!({"metadata": {"labels": {MARK: "ffff"}}});
    admin.send("PATCH", &at("c-edited"), Some(&other_mark)).await.unwrap();
    let seen = other.there().await;
    assert_eq!((&*seen.object.name, seen.written_by_us), ("c-edited", true));
    let copy = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c-copy", "labels": {MARK: "ffff"}}});
    admin.send("POST", "/api/v1/namespaces/default/configmaps", Some(&copy)).await.unwrap();
    let seen = other.there().await;
    assert_eq!((&*seen.object.name, seen.written_by_us), ("c-copy", false), "we did not write it");
}

#[tokio::test]
async fn before_the_first_apply_defaults_are_not_ours_to_defend() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("posted");
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "posted", "namespace": "default"},
        "spec": {"publishNotReadyAddresses": true, "ports": [{"port": 80}]}});
    let made = placed(ours.apply(&work, &service, &[]).await);
    let mut watch = Watch::of(&ours, &work, &kind("", "v1", "Service"), Depth::Whole);
    let listed = watch.list().await;
    assert_eq!(Some(print(&listed[0])), made.print.map(|print| print.to_string()));
    assert!(covers(&listed[0], &work, &service));

    let path = "/api/v1/namespaces/default/services/posted?fieldManager=edit";
    let defaulted = json!({"spec": {"sessionAffinity": "ClientIP"}});
    admin.send("PATCH", path, Some(&defaulted)).await.unwrap();
    let seen = watch.there().await;
    assert_ne!(print(&seen), print(&listed[0]), "the POST's entry held what was filled in");
    assert!(covers(&seen, &work, &service), "but nothing that was asked for has changed");

    let asked_for = json!({"spec": {"publishNotReadyAddresses": false}});
    admin.send("PATCH", path, Some(&asked_for)).await.unwrap();
    assert!(!covers(&watch.there().await, &work, &service));
}

#[tokio::test]
async fn status_is_seen_and_content_of_secrets_is_not() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("whole");
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "whole", "namespace": "default"},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}}}});
    ours.apply(&work, &job, &[]).await;
    let mut watch = Watch::of(&ours, &work, &kind("batch", "v1", "Job"), Depth::Whole);
    let listed = watch.list().await;
    let health = |seen: &Seen| fleet_core::health::of_object(seen.whole.as_ref().unwrap());
    assert!(matches!(health(&listed[0]), fleet_core::health::Health::Progressing { .. }));
    let status = json!({"status": {"startTime": "2026-01-01T00:00:00Z"}});
    let path = "/apis/batch/v1/namespaces/default/jobs/whole/status?fieldManager=controller";
    admin.send("PATCH", path, Some(&status)).await.unwrap();
    let seen = watch.there().await;
    assert_eq!(health(&seen), fleet_core::health::Health::Ready);
    assert_eq!(
        (print(&seen), seen.other.as_deref()),
        (print(&listed[0]), None),
        "status is nobody's interference"
    );

    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "whole", "namespace": "default",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2"}}, "stringData": {"p": "hunter2"}});
    ours.apply(&work, &secret, &[]).await;
    let mut watch = Watch::of(&ours, &work, &kind("", "v1", "Secret"), Depth::Whole);
    let seen = watch.list().await.remove(0);
    assert!(covers(&seen, &work, &secret));
    let whole = seen.whole.as_ref().unwrap();
    assert_eq!(whole["metadata"]["name"], "whole");
    let shown = format!("{seen:?}");
    // What is hidden is base64: aHVudGVyMg==.
    assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
}

#[tokio::test]
async fn of_many_changes_at_once_none_is_missed() {
    const MANY: usize = 200;
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("many");
    let objects: Vec<Value> = (0..MANY).map(|index| config_map(&format!("many-{index:03}"), &[])).collect();
    let mut watch = Watch::of(&ours, &work, &config_maps(), Depth::Metadata);
    assert!(watch.list().await.is_empty());
    for outcome in ours.apply_all(&work, &objects, &[], None, SOON).await {
        placed(outcome);
    }
    let mut names = Vec::new();
    for _ in 0..MANY {
        names.push(watch.there().await.object.name.to_string());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), MANY);
    let all = format!("/api/v1/namespaces/default/configmaps?labelSelector={MARK}%3D{}", work.hash());
    admin.send("DELETE", &all, None).await.unwrap();
    for _ in 0..MANY {
        watch.gone().await;
    }
    watch.nothing().await;
}

#[tokio::test]
async fn what_happens_while_the_network_is_cut_is_seen_afterwards() {
    let lab = Lab::start(&bare()).await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Proxied).await, lab.admin().await);
    let work = work("cut");
    let object = |name: &str| config_map(name, &[]);
    let made = uid(&ours.apply(&work, &object("a"), &[]).await);
    placed(ours.apply(&work, &object("b"), &[]).await);
    let mut watch = Watch::of(&ours, &work, &config_maps(), Depth::Metadata);
    let mut there = BTreeMap::new();
    assert_eq!(watch.until(&mut there, &["a", "b"]).await, 1);
    assert_eq!(there["a"], made);

    // The server knows where the watch stood.
    lab.cluster.proxy().cut();
    admin.send("DELETE", &at("a"), None).await.unwrap();
    lab.cluster.proxy().heal();
    assert_eq!(watch.until(&mut there, &["b"]).await, 0, "nothing was listed again");

    // Made anew under the same name, while nobody looks.
    lab.cluster.proxy().set(Network::Cut);
    admin.send("DELETE", &at("b"), None).await.unwrap();
    let old = there["b"].clone();
    let mut marked = object("b");
    marked["metadata"]["labels"] = json!({MARK: work.hash()});
    admin.send("POST", "/api/v1/namespaces/default/configmaps", Some(&marked)).await.unwrap();
    lab.cluster.proxy().heal();
    assert_eq!(watch.gone().await, ("b".to_owned(), Some(old.clone())));
    assert_ne!(*watch.there().await.uid, *old);

    // A server that comes back without memory of what was: it answers 410, and all is listed again.
    lab.cluster.proxy().cut();
    admin.send("DELETE", &at("b"), None).await.unwrap();
    lab.cluster.api_server().kill().await.unwrap();
    lab.cluster.api_server().start().await.unwrap();
    let admin = lab.admin().await;
    let mut marked = object("c");
    marked["metadata"]["labels"] = json!({MARK: work.hash()});
    admin.send("POST", "/api/v1/namespaces/default/configmaps", Some(&marked)).await.unwrap();
    lab.cluster.proxy().heal();
    assert_eq!(watch.until(&mut there, &["c"]).await, 1, "it was told that this is all there is");

    // A restart that the watch lives through.
    lab.cluster.api_server().kill().await.unwrap();
    lab.cluster.api_server().start().await.unwrap();
    let admin = lab.admin().await;
    admin.send("DELETE", &at("c"), None).await.unwrap();
    watch.until(&mut there, &[]).await;
}

#[tokio::test]
async fn while_nothing_happens_nothing_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
        .unwrap();
    let options = bare()
        .api_server_flag(format!("--audit-policy-file={}", policy.display()))
        .api_server_flag(format!("--audit-log-path={}", log.display()));
    let lab = Lab::start(&options).await;
    let mut ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let short = Watches { usual: Duration::from_secs(4), ..Watches::default() };
    let asked = || {
        let text = std::fs::read_to_string(&log).unwrap();
        let requests =
            text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(|event| {
                let uri = event["requestURI"].as_str().unwrap_or_default();
                event["stage"] == "RequestReceived"
                    && uri.contains("/configmaps")
                    && uri.contains("labelSelector")
            });
        let verbs: Vec<String> =
            requests.map(|event| event["verb"].as_str().unwrap_or_default().to_owned()).collect();
        verbs
    };
    let work = work("idle");
    placed(ours.apply(&work, &config_map("idle", &[]), &[]).await);
    let mut watch = Watch::of(&ours, &work, &config_maps(), Depth::Metadata);
    assert_eq!(watch.list().await.len(), 1);
    let idle = timeout(Duration::from_secs(12), watch.next()).await;
    assert!(idle.is_err(), "{idle:?}");
    assert_eq!(asked(), ["list", "watch"], "one list, one watch, and then nothing");
    drop(watch);

    // One that ends by its time goes on without another list.
    ours.applier = KubeApplier::new(ours.clusters.clone()).with_watches(short);
    let mut watch = Watch::of(&ours, &work, &config_maps(), Depth::Metadata);
    assert_eq!(watch.list().await.len(), 1);
    let several = async {
        while asked().len() < 6 {
            let _ = timeout(Duration::from_millis(200), watch.next()).await;
        }
    };
    timeout(SOON, several).await.unwrap();
    assert_eq!(asked()[2..], ["list", "watch", "watch", "watch"]);
    placed(ours.apply(&work, &config_map("idle-too", &[]), &[]).await);
    assert_eq!(&*watch.there().await.object.name, "idle-too");
}

#[tokio::test]
async fn a_kind_that_comes_and_goes_is_followed() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("kinds");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}});
    let define = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let established = async |definition: &Value| {
        admin.send("POST", define, Some(definition)).await.unwrap();
        let applied = async { while !matches!(ours.apply(&work, &thing, &[]).await, Outcome::Applied(_)) {} };
        timeout(SOON, applied).await.unwrap();
    };

    let mut watch = Watch::of(&ours, &work, &kind("example.com", "v1", "Thing"), Depth::Whole);
    assert!(watch.list().await.is_empty(), "what is not known has no objects");
    watch.nothing().await;
    established(&definition).await;
    assert_eq!(watch.list().await.len(), 1);

    admin.send("DELETE", &format!("{define}/things.example.com"), None).await.unwrap();
    let mut there = BTreeMap::from([("one".to_owned(), String::new())]);
    watch.until(&mut there, &[]).await;
    admin.until_gone(&format!("{define}/things.example.com")).await;
    established(&definition).await;
    watch.until(&mut there, &["one"]).await;
}

#[tokio::test]
async fn watching_ends_with_the_cluster_and_follows_its_kubeconfig() {
    let lab = Lab::start(&bare()).await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Proxied).await, lab.admin().await);
    let work = work("leaving");
    placed(ours.apply(&work, &config_map("a", &[]), &[]).await);
    let mut watch = Watch::of(&ours, &work, &config_maps(), Depth::Metadata);
    assert_eq!(watch.list().await.len(), 1);

    // Nothing comes that way any more; there is another.
    lab.cluster.proxy().set(Network::Silent);
    ours.clusters.update(vec![lab.definition(User::Admin, Route::Direct)]);
    assert_eq!(watch.list().await.len(), 1);
    admin.send("DELETE", &at("a"), None).await.unwrap();
    assert_eq!(watch.gone().await.0, "a");

    ours.clusters.update(Vec::new());
    assert!(timeout(SOON, watch.told.next()).await.unwrap().is_none());
    let mut late = ours.applier.observe(&ours.target.id, &config_maps(), Depth::Metadata);
    assert!(late.next().await.is_none(), "a cluster that is not there is not watched");
}
