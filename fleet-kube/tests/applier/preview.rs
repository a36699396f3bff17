//! A preview says what a write would do, and writes nothing.

use std::sync::Arc;

use fleet_core::apply::{ApplyRequest, Change, Mode, Outcome};
use fleet_core::manifest::MARK;
use fleet_core::policy::Policy;
use local_fleet::{Route, User};
use serde_json::{Value, json};

use super::at;
use super::lab::*;

fn diff(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Would(Change::Update { diff }) => diff,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_tells_each_change_and_makes_none() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("preview");
    let old = config_map("shown", &[("changed", "1"), ("dropped", "1"), ("kept", "1")]);
    assert_eq!(ours.preview(&work, std::slice::from_ref(&old), &[]).await, [Outcome::Would(Change::Create)]);
    assert!(admin.get(&at("shown")).await.is_none());

    let new = config_map("shown", &[("changed", "2"), ("added", "1"), ("kept", "1")]);
    let mut kept = placed(&old, &ours.apply(&work, &old, &[]).await);
    // Once with fields that only the POST set, once after an update.
    for _ in 0..2 {
        let inventory = [kept.clone()];
        let before = admin.get(&at("shown")).await.unwrap();
        assert_eq!(
            ours.preview(&work, std::slice::from_ref(&old), &inventory).await,
            [Outcome::Would(Change::Nothing)]
        );
        let outcomes = ours.preview(&work, std::slice::from_ref(&new), &inventory).await;
        let changes: Vec<&str> =
            diff(&outcomes[0]).lines().filter(|line| line.starts_with(['+', '-'])).collect();
        assert_eq!(
            changes,
            ["-  changed: \"1\"", "-  dropped: \"1\"", "+  added: \"1\"", "+  changed: \"2\""],
            "{outcomes:?}"
        );
        assert_eq!(ours.preview_removal(&work, &inventory).await, [Outcome::Would(Change::Delete)]);
        assert_eq!(admin.get(&at("shown")).await.unwrap(), before);
        kept = placed(&old, &ours.apply(&work, &old, &inventory).await);
    }
    assert_eq!(ours.remove(&work, std::slice::from_ref(&kept)).await, [Outcome::Gone]);
    assert_eq!(ours.preview_removal(&work, &[kept]).await, [Outcome::Would(Change::Nothing)]);
}

#[tokio::test]
async fn defaults_of_the_server_are_no_change() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let work = work("defaults");
    let object = |image: &str, port: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "defaults", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "main", "image": image, "ports": port}]}}}})
    };
    let old = object("a", json!([{"containerPort": 80}]));
    let kept = placed(&old, &ours.apply(&work, &old, &[]).await);
    let inventory = [kept];
    assert_eq!(
        ours.preview(&work, std::slice::from_ref(&old), &inventory).await,
        [Outcome::Would(Change::Nothing)]
    );
    let outcomes = ours.preview(&work, &[object("b", json!([]))], &inventory).await;
    let changes: Vec<&str> =
        diff(&outcomes[0]).lines().filter(|line| line.starts_with(['+', '-'])).map(str::trim_end).collect();
    let expected = [
        "-      - image: a",
        "+      - image: b",
        "-        ports:",
        "-        - containerPort: 80",
        "-          protocol: TCP",
    ];
    assert_eq!(changes.len(), expected.len(), "{outcomes:?}");
    let words = |lines: &[&str]| {
        let mut words: Vec<String> = lines.iter().map(|line| line.replace([' ', '\"'], "")).collect();
        words.sort();
        words
    };
    assert_eq!(words(&changes), words(&expected));
}

#[tokio::test]
async fn values_of_secrets_are_never_shown() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let work = work("secret preview");
    let secret = |data: Value| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shown", "namespace": "default"},
            "stringData": data})
    };
    let old = secret(json!({"same": "s3cret", "changed": "s3cret1", "dropped": "s3cret2"}));
    let kept = placed(&old, &ours.apply(&work, &old, &[]).await);
    let new = secret(json!({"same": "s3cret", "changed": "s3cret3", "added": "s3cret4"}));
    let outcomes = ours.preview(&work, &[new], &[kept]).await;
    let shown = diff(&outcomes[0]);
    for key in ["changed", "dropped", "added"] {
        assert!(shown.contains(key), "{shown}");
    }
    assert!(!shown.contains("s3cret"), "{shown}");
    for text in ["s3cret1", "s3cret2", "s3cret3", "s3cret4"] {
        use k8s_openapi::ByteString;
        let encoded = serde_json::to_string(&ByteString(text.as_bytes().to_vec())).unwrap();
        assert!(!shown.contains(encoded.trim_matches('"')), "{shown}");
    }
}

#[tokio::test]
async fn what_comes_with_the_same_set_counts_as_there() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("set preview");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "shows.shows.example.com"},
        "spec": {"group": "shows.example.com", "scope": "Namespaced",
            "names": {"plural": "shows", "singular": "show", "kind": "Show"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let show = json!({"apiVersion": "shows.example.com/v1", "kind": "Show", "metadata": {"name": "a", "namespace": "set"}});
    let mut inside = config_map("inside", &[]);
    inside["metadata"]["namespace"] = json!("set");
    let mut elsewhere = config_map("elsewhere", &[]);
    elsewhere["metadata"]["namespace"] = json!("not-in-the-set");
    let objects = [show, inside.clone(), elsewhere.clone(), definition, namespace("set")];
    assert_eq!(ours.preview(&work, &objects, &[]).await, vec![Outcome::Would(Change::Create); 5]);
    let policy = Arc::new(Policy { skip_namespace_creation: true, ..Policy::default() });
    let request = ours.request(&work, &[namespace("set"), inside, elsewhere]);
    let outcomes = ours.send(ApplyRequest { policy, mode: Mode::Preview, ..request }).await;
    assert!(
        matches!(
            &outcomes[..],
            [Outcome::Would(Change::Create), Outcome::Would(Change::Create), Outcome::Waiting { .. }]
        ),
        "{outcomes:?}"
    );
    for path in ["/api/v1/namespaces/set", "/api/v1/namespaces/not-in-the-set"] {
        assert!(admin.get(path).await.is_none(), "{path}");
    }
}

#[tokio::test]
async fn refusals_and_conflicts_are_told_as_in_a_write() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("refused preview");
    let mut bad = config_map("bad", &[]);
    bad["data"] = json!({"a b": "1"});
    let theirs = config_map("preview-theirs", &[("a", "1")]);
    let path = "/api/v1/namespaces/default/configmaps?fieldManager=helm";
    let before = admin.send("POST", path, Some(&theirs)).await.unwrap();
    let outcomes = ours.preview(&work, &[bad, theirs.clone()], &[]).await;
    assert!(matches!(&outcomes[..], [Outcome::Rejected { .. }, Outcome::Conflict { .. }]), "{outcomes:?}");
    let policy = Arc::new(Policy { adopt: true, ..Policy::default() });
    let request = ours.request(&work, std::slice::from_ref(&theirs));
    let adopting =
        ours.send(ApplyRequest { policy: Arc::clone(&policy), mode: Mode::Preview, ..request.clone() }).await;
    assert!(diff(&adopting[0]).contains(&format!("+    {MARK}: ")), "{adopting:?}");
    assert_eq!(admin.get(&at("preview-theirs")).await.unwrap(), before);

    let adopted = placed(&theirs, &ours.send(ApplyRequest { policy, ..request }).await[0]);
    let after = admin.get(&at("preview-theirs")).await.unwrap();
    assert_eq!(ours.preview_removal(&work, &[adopted]).await, [Outcome::Would(Change::GiveBack)]);
    assert_eq!(admin.get(&at("preview-theirs")).await.unwrap(), after);

    let system = namespace("kube-system");
    let uid = admin.get("/api/v1/namespaces/kube-system").await.unwrap()["metadata"]["uid"].clone();
    let outcomes = ours.preview_removal(&work, &[item(&system, uid.as_str())]).await;
    assert!(matches!(&outcomes[..], [Outcome::Rejected { .. }]), "{outcomes:?}");
}
