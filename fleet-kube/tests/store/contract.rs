//! The contract, with no more permissions than the documentation asks for; and what it costs.

use std::sync::{Arc, Weak};

use fleet_core::store::{StoreError, WorkStore};
use fleet_core::testing::conformance::{NotChecked, work_store};
use fleet_core::work::{AppliedState, Work};
use fleet_kube::store::{KubeStore, OpenError};
use local_fleet::{Route, User};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::lab::Other;
use crate::rig::*;

/// The rules in the documentation of the module.
fn documented_rules() -> Vec<Value> {
    let source = include_str!("../../src/store/mod.rs");
    let yaml = source.split("//! ```yaml\n").nth(1).unwrap().split("//! ```").next().unwrap();
    let yaml: String = yaml.lines().map(|line| line.trim_start_matches("//! ").to_owned() + "\n").collect();
    serde_saphyr::from_str(&yaml).unwrap()
}

async fn allow(admin: &Other, rules: &[Value]) {
    let base = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "operator"}, "rules": rules});
    admin.send("POST", &format!("{base}/clusterroles"), Some(&role)).await.unwrap();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "operator"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "lab-guest"}]});
    admin.send("POST", &format!("{base}/clusterrolebindings"), Some(&binding)).await.unwrap();
}

/// A guest of one management cluster, whom the documented rules allow what they do. All checks share it, and it ends with
/// the last.
struct Guest(Arc<Rig>);

impl Guest {
    async fn shared() -> Self {
        static SHARED: Mutex<Weak<Rig>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(rig) = shared.upgrade() {
            return Self(rig);
        }
        let guest = Self(Arc::new(Rig::new().await));
        let refused = guest.open().await.unwrap_err();
        assert!(matches!(refused, OpenError::Forbidden { .. }), "{refused}");
        allow(&guest.0.admin, &documented_rules()).await;
        until("the rules count", async || guest.open().await.is_ok()).await;
        *shared = Arc::downgrade(&guest.0);
        guest
    }

    async fn open(&self) -> Result<KubeStore, OpenError> {
        KubeStore::open(self.0.client(User::Guest, Route::Direct), "fleet").await
    }
}

impl work_store::Fixture for Guest {
    async fn store(&self) -> Arc<dyn WorkStore> {
        Arc::new(self.open().await.unwrap())
    }

    async fn another(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
        Ok(self.store().await)
    }

    async fn after_a_crash(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
        Ok(self.store().await)
    }
}

work_store!(with_the_permissions_it_asks_for, Guest::shared().await);

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_written_with_the_permissions_it_asks_for() {
    let guest = Guest::shared().await;
    let store = guest.open().await.unwrap();
    let work = work("a", 1);
    store.put_work(Arc::clone(&work), None, vec![]).await.unwrap();
    guest.0.until_status(&work, |status| status["conditions"][0]["reason"] == "NoClusters").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_with_what_to_do() {
    let rig = Rig::without_kinds().await;
    let refused = KubeStore::open(rig.client(User::Admin, Route::Direct), "fleet").await.unwrap_err();
    assert!(matches!(refused, OpenError::NotInstalled), "{refused}");
    assert!(refused.to_string().contains("fleet-operator crds | kubectl apply"), "{refused}");
    rig.install().await;

    let store = rig.open().await;
    assert!(rig.admin.get("/api/v1/namespaces/fleet").await.is_some(), "the namespace was made");
    let work = work("a", 1);
    let mut elsewhere = plan(&work, "c1");
    elsewhere.cluster = fleet_core::cluster::ClusterId::new("nowhere", "c1").unwrap();
    store.put_work(Arc::clone(&work), None, vec![elsewhere.clone()]).await.unwrap();
    let planned = store.applied_in(&work.id, &elsewhere.cluster).await.unwrap().unwrap();
    let error = store.put_applied(Arc::new(elsewhere), Some(planned.revision)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("namespace nowhere is not there; create it"), "{error}");

    let rules = documented_rules();
    let rules: Vec<_> = rules
        .into_iter()
        .map(|mut rule| {
            rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "patch");
            rule
        })
        .filter(|rule| rule["verbs"] != json!([]))
        .collect();
    allow(&rig.admin, &rules).await;
    let open = async || KubeStore::open(rig.client(User::Guest, Route::Direct), "fleet").await;
    until("the rules count", async || open().await.is_ok()).await;
    let guest = open().await.unwrap();
    let stored = guest.work(&work.id).await.unwrap().unwrap();
    let again = Arc::new(Work { generation: 2, ..(*work).clone() });
    let error = guest.put_work(again, Some(stored.revision), vec![]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("cannot patch resource \"works\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_costs_one_write_and_reading_costs_none() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let counts = async || {
        let mut counts = Vec::new();
        for resource in ["works", "appliedworks"] {
            for verb in ["POST", "PATCH", "PUT", "DELETE", "GET"] {
                counts.push(rig.requests(verb, resource).await);
            }
        }
        counts
    };
    let before = counts().await;
    let first = work("a", 1);
    let revision = store.put_work(Arc::clone(&first), None, vec![plan(&first, "c1")]).await.unwrap();
    assert_eq!(store.work(&first.id).await.unwrap().unwrap().value, first);
    assert_eq!(store.applied(&first.id).await.unwrap().len(), 1);
    let planned = store.applied_in(&first.id, &cluster("c1")).await.unwrap().unwrap();
    let after = counts().await;
    let cost: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert_eq!(cost, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "a new Work with one plan");
    let before = counts().await;
    let done = applied(&first, "c1", AppliedState::Applied);
    let done = store.put_applied(done, Some(planned.revision)).await.unwrap();
    let after = counts().await;
    let cost: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert_eq!(cost, [0, 0, 0, 0, 0, 1, 0, 0, 0, 0], "what became of it");

    // Where nothing changed but statuses and labels, a write is one request too.
    rig.until_status(&first, |status| status["applied"] == 1).await;
    let path = format!("{WORKS}/{}", first.id);
    rig.admin.send("PATCH", &path, Some(&json!({"metadata": {"labels": {"a": "b"}}}))).await.unwrap();
    let before = counts().await;
    store.put_applied(applied(&first, "c1", AppliedState::Pending), Some(done)).await.unwrap();
    let revision = store.put_work(work("a", 2), Some(revision), vec![plan(&first, "c1")]).await.unwrap();
    let after = counts().await;
    let cost: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert_eq!(cost, [0, 1, 0, 0, 0, 0, 1, 0, 0, 0], "a change of each");
    assert_eq!(rig.object(&first).await["metadata"]["labels"]["a"], "b", "what others added stays");
    // The label changed the resourceVersion, which a deletion needs: whether or not it was heard of, it goes through.
    store.delete_work(&first.id, revision).await.unwrap();
}
