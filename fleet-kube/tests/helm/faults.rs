//! What is wrong is said: what, where, why and what to do; and no secret.

use std::sync::Arc;

use fleet_core::apply::{Applier, ApplyRequest, Outcome};
use fleet_core::cluster::Cluster;
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_kube::helm::{HelmApplier, HelmSetup};
use serde_json::{Value, json};

use super::world::{World, a_folder, nobody, reason};

#[tokio::test]
async fn a_missing_helm_is_named_and_looked_for_again() {
    let mut world = World::new("no-helm").await;
    let release = world.release(json!({}));
    let missing = world.dir.path().join("bin/helm");
    for (program, named) in [(missing.clone(), missing.to_str().unwrap()), ("no-such-helm".into(), "PATH")] {
        let options = HelmSetup { program, ..HelmSetup::new(world.dir.path().join("helm")) };
        world.helm = HelmApplier::new(Arc::clone(&world.clusters), options);
        let outcome = world.apply(&release, &[]).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
        assert!(reason(&outcome).contains(named) && reason(&outcome).contains("--helm"), "{outcome:?}");
    }
    let options = HelmSetup { program: missing.clone(), ..HelmSetup::new(world.dir.path().join("helm")) };
    world.helm = HelmApplier::new(Arc::clone(&world.clusters), options);
    std::fs::create_dir(missing.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/bin/false", &missing).unwrap();
    assert!(reason(&world.apply(&release, &[]).await).contains("no helm that can be used"));
    std::fs::remove_file(&missing).unwrap();
    std::os::unix::fs::symlink(&world.program, &missing).unwrap();
    world.applied(&release, &[]).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_chart_or_its_values_is_told_without_them() {
    let world = World::new("faulty").await;
    let first = world.applied(&world.release(json!({"values": {"greeting": "well"}})), &[]).await;
    let cases: [(Value, &[&str]); 7] = [
        (json!({"values": {"fail": "s3cret on a Friday"}}), &["helm upgrade failed", "objects.yaml"]),
        (json!({"values": {"count": "s3cret-number"}}), &["count"]),
        (json!({"values": {"greeting": "forbidden s3cret-word"}}), &["greeting"]),
        (json!({"chartVersion": "9.9.9"}), &["9.9.9", "no such chart or version", "chartVersion"]),
        (json!({"chartName": "lighthouse"}), &["lighthouse", "no such chart or version", "chartName"]),
        (
            json!({"repositoryURL": "http://127.0.0.1:1", "chartVersion": "1.0.1"}),
            &["127.0.0.1:1", "cannot be reached"],
        ),
        (json!({"repositoryURL": "file:///x"}), &["repositoryURL", "https://"]),
    ];
    for (change, expected) in cases {
        let outcome = world.apply(&world.release(change.clone()), std::slice::from_ref(&first)).await;
        for words in expected {
            assert!(reason(&outcome).contains(words), "{change}: {outcome:?}");
        }
        let is_out_of_reach = change["repositoryURL"] == "http://127.0.0.1:1";
        assert_eq!(matches!(outcome, Outcome::Retry { cluster: false, .. }), is_out_of_reach, "{outcome:?}");
        assert!(!format!("{outcome:?}").contains("s3cret"), "{outcome:?}");
        assert_eq!(world.data("beacon").await.unwrap()["greeting"], "well", "what was there stays");
    }
    world.applied(&world.release(json!({"values": {"greeting": "well again"}})), &[first]).await;
    assert_eq!(world.data("beacon").await.unwrap()["greeting"], "well again");
}

#[tokio::test]
async fn an_account_can_do_only_what_it_may() {
    let world = World::new("impersonated").await;
    let release = world.release(json!({}));
    let request = ApplyRequest { identity: Some(nobody(&world.namespace)), ..world.request(&release, &[]) };
    let outcome = world.helm.apply(request.clone()).await.remove(0);
    assert!(matches!(&outcome, Outcome::Rejected { reason } if reason.contains("nobody")), "{outcome:?}");
    assert_eq!(world.runs(), 0);
    // It may look, and no more.
    let account = format!("system:serviceaccount:{}:nobody", world.namespace);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "impersonated-nobody"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "impersonated-looks"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": account}],
    });
    let looks = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "impersonated-looks"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    world.admin.send("POST", &format!("{rbac}/clusterroles"), Some(&looks)).await.unwrap();
    world.admin.send("POST", &format!("{rbac}/clusterrolebindings"), Some(&role)).await.unwrap();
    let outcome = async {
        loop {
            let outcome = world.helm.apply(request.clone()).await.remove(0);
            if world.runs() > 0 {
                return outcome;
            }
        }
    };
    let outcome = tokio::time::timeout(super::world::LONG, outcome).await.unwrap();
    assert!(matches!(&outcome, Outcome::Rejected { reason } if reason.contains("forbidden")), "{outcome:?}");
    assert!(world.data("beacon").await.is_none());
}

#[tokio::test]
async fn charts_do_not_go_into_folders() {
    let world = World::new("folder").await;
    let (id, labels) = a_folder();
    let definition = ClusterDefinition {
        id: id.clone(),
        labels: labels.clone(),
        annotations: labels.clone(),
        connection: Connection::Directory,
        resolve: Vec::new(),
    };
    world.clusters.update(vec![definition]);
    let cluster = Arc::new(Cluster::new(id, labels));
    let request = ApplyRequest { cluster, ..world.request(&world.release(json!({})), &[]) };
    let outcome = world.helm.apply(request).await.remove(0);
    assert!(
        matches!(&outcome, Outcome::Rejected { reason } if reason.contains("is a folder")),
        "{outcome:?}"
    );
}
