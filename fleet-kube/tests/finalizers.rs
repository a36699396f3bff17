//! Deletions of triggers and Clusters on a real API server: they are seen, held back until nothing is left, and no longer.

// Clippy takes only test functions for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod management;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet_core::catalog::{Catalog, Subject};
use fleet_core::cluster::{ClusterChange, ClusterId, ClusterSelector, LEAVE_ANNOTATION};
use fleet_kube::catalog::{Holding, KubeCatalog, WITHDRAW_FINALIZER};
use fleet_kube::client::Call;
use fleet_kube::clusters::{Clusters, Route as Reached};
use fleet_kube::connection::Connection;
use fleet_kube::definitions::{Definitions, Family};
use fleet_kube::register::{Access, Deregistered, Registration, Wait, deregister, register};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use local_fleet::{Route, User};
use management::*;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

const LONG: Duration = Duration::from_secs(3600);

fn holding(withdraw_timeout: Duration) -> Holding {
    Holding {
        management: Some(ClusterId::new("fleet-events", "management").unwrap()),
        withdraw_timeout,
        leads: Arc::new(|| true),
        remains: Arc::new(|cluster| async move { format!("In {cluster} stays: Namespace alice") }.boxed()),
    }
}

fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_held(object: &Value) -> bool {
    finalizers(object).contains(&WITHDRAW_FINALIZER)
}

async fn merge(management: &Management, object: &Value, patch: Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    management.api(object).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn gone(management: &Management, object: &Value, what: &str) {
    let api = management.api(object);
    let name = object["metadata"]["name"].as_str().unwrap();
    let wait = async { while api.get_opt(name).await.unwrap().is_some() {} };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "{what} does not go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_goes_once_the_engine_says_that_nothing_is_left() {
    let management = Management::start().await;
    management.install().await;
    management.apply(source()).await;
    management.apply(template("kind: Namespace")).await;
    let mut first = trigger("first");
    first["metadata"]["finalizers"] = json!(["example.com/theirs"]);
    management.apply(first.clone()).await;
    let catalog = KubeCatalog::start_holding(management.client.clone(), Family::Fleet, holding(LONG));
    let mut definitions = catalog.definitions();
    let held = shown(&management, &first, "held back", is_held).await;
    assert_eq!(finalizers(&held), ["example.com/theirs", WITHDRAW_FINALIZER], "theirs stays");

    // Once, and not again: who takes it off by hand will have a reason.
    let ready =
        fleet_core::catalog::Condition { ready: true, reason: "Ready".into(), message: String::new() };
    catalog.report(&Subject::Trigger("first".into()), ready);
    shown(&management, &first, "ready", |it| is(it, "Ready", "True")).await;
    merge(&management, &first, json!({"metadata": {"finalizers": null}})).await;
    management.apply(trigger("second")).await;
    shown(&management, &trigger("second"), "held back", is_held).await;
    let mut edited = trigger("first");
    edited["spec"]["tier"] = json!(5);
    management.apply(edited).await;
    defined(&mut definitions, "edited", |read| {
        read.catalog.triggers.get("first").is_some_and(|trigger| trigger.policy.tier == 5)
    })
    .await;
    management.apply(trigger("third")).await;
    shown(&management, &trigger("third"), "held back", is_held).await;
    let first = shown(&management, &first, "there", |_| true).await;
    assert_eq!(finalizers(&first), Vec::<&str>::new());

    // The word that nothing is left counts only once it is deleted.
    let second = Subject::Trigger("second".into());
    catalog.withdrawn(&second);
    management.delete(trigger("second")).await;
    let read = defined(&mut definitions, "leaving", |read| read.catalog.leaving.contains("second")).await;
    assert!(read.catalog.complete && !read.catalog.triggers.contains_key("second"));
    assert!(read.catalog.triggers.contains_key("third"));
    assert_eq!(read.problems, []);
    management.apply(trigger("zulu")).await;
    shown(&management, &trigger("zulu"), "held back, after all that came before", is_held).await;
    let deleted = shown(&management, &trigger("second"), "still there", is_held).await;
    assert!(!deleted["metadata"]["deletionTimestamp"].is_null());
    catalog.withdrawn(&second);
    catalog.withdrawn(&second);
    gone(&management, &trigger("second"), "the trigger").await;
    defined(&mut definitions, "gone", |read| read.catalog.leaving.is_empty()).await;

    // Deleted while no operator runs: the next one sees it.
    tokio::time::timeout(SOON, catalog.stop()).await.unwrap();
    management.delete(trigger("third")).await;
    let catalog = KubeCatalog::start_holding(management.client.clone(), Family::Fleet, holding(LONG));
    let mut snapshots = catalog.subscribe().await.unwrap();
    let snapshot = tokio::time::timeout(SOON, snapshots.next()).await.unwrap().unwrap();
    assert_eq!(snapshot.leaving.iter().map(|name| &**name).collect::<Vec<_>>(), ["third"]);
    catalog.withdrawn(&Subject::Trigger("third".into()));
    gone(&management, &trigger("third"), "the trigger").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_lead_or_only_reads_holds_nothing_back() {
    let management = Management::start().await;
    management.install().await;
    management.apply(source()).await;
    let leads = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&leads);
    let (tell, mut refused) = watch::channel(false);
    let lead = Arc::new(move || {
        let leads = asked.load(Ordering::Acquire);
        tell.send_if_modified(|refused| !leads && !std::mem::replace(refused, true));
        leads
    });
    let reading = KubeCatalog::start(management.client.clone());
    let holding = Holding { leads: lead, ..holding(LONG) };
    let _catalog = KubeCatalog::start_holding(management.client.clone(), Family::Fleet, holding);
    management.apply(trigger("manage-namespace")).await;
    // It wanted to, and the other one has seen the trigger too.
    until(&mut refused, "asked", |refused| *refused).await;
    defined(&mut reading.definitions(), "seen", |read| read.catalog.triggers.len() == 1).await;
    let told =
        shown(&management, &trigger("manage-namespace"), "judged", |it| is(it, "Stalled", "True")).await;
    assert!(!is_held(&told));
    leads.store(true, Ordering::Release);
    shown(&management, &trigger("manage-namespace"), "held back", is_held).await;
}

/// An operator as far as it deals with clusters; what the engine would say is left to the test.
struct Operator {
    catalog: Arc<KubeCatalog>,
    clusters: Arc<Clusters>,
    /// What the registry has taken in.
    taken: watch::Receiver<Option<Arc<Definitions>>>,
    _follow: AbortOnDropHandle<()>,
}

impl Operator {
    fn start(client: Client, holding: Holding) -> Self {
        let catalog = Arc::new(KubeCatalog::start_holding(client, Family::Fleet, holding));
        let (took, taken) = watch::channel(None);
        let clusters = Arc::new(Clusters::new());
        let (told, to) = (Arc::clone(&catalog), Arc::clone(&clusters));
        let follow = async move {
            let (mut definitions, mut withdrawals) = (told.definitions(), to.withdrawals());
            loop {
                tokio::select! {
                    Ok(()) = definitions.changed() => {
                        let read = definitions.borrow_and_update().clone().unwrap();
                        to.update_all(read.clusters.clone(), read.leaving.clone());
                        took.send_replace(Some(read));
                    }
                    Some(id) = withdrawals.next() => told.withdrawn_cluster(&id),
                }
            }
        };
        Self { catalog, clusters, taken, _follow: AbortOnDropHandle::new(tokio::spawn(follow)) }
    }

    /// Sees changes until this one.
    async fn until(
        &self,
        changes: &mut (impl StreamExt<Item = ClusterChange> + Unpin),
        what: &str,
        is: impl Fn(&ClusterChange) -> bool,
    ) {
        let seen = async { while !is(&changes.next().await.unwrap()) {} };
        assert!(tokio::time::timeout(SOON, seen).await.is_ok(), "not {what}");
    }

    /// Whether the cluster's API server can be spoken with.
    async fn reaches(&self, id: &ClusterId) -> bool {
        let Reached::Kube(link) = self.clusters.route(id) else { return false };
        let deadline = tokio::time::Instant::now() + SOON;
        link.client.call(Call::get("/version"), deadline).await.is_ok()
    }
}

fn id() -> ClusterId {
    ClusterId::new("civo", "one").unwrap()
}

fn cluster() -> Value {
    json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "one", "namespace": "civo", "labels": {"env": "production"}},
        "spec": {"kubeconfigSecretRef": {"name": "one-kubeconfig"}}})
}

fn secret(management: &Management) -> Value {
    let lab = management.lab.management().unwrap();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one-kubeconfig", "namespace": "civo"},
        "stringData": {"kubeconfig": lab.kubeconfig_for(User::Admin, Route::Direct).unwrap()}})
}

/// A management cluster that manages itself as `civo/one`.
async fn managing_itself() -> Management {
    let management = Management::start().await;
    management.install().await;
    management.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "civo"}})).await;
    management.apply(secret(&management)).await;
    management.apply(cluster()).await;
    management
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_reached_until_nothing_is_left_in_it() {
    let management = managing_itself().await;
    let operator = Operator::start(management.client.clone(), holding(LONG));
    let mut changes = operator.clusters.subscribe().await.unwrap().changes;
    operator.until(&mut changes, "ready", |change| matches!(change, ClusterChange::Ready(_))).await;
    shown(&management, &cluster(), "held back", is_held).await;

    management.delete(cluster()).await;
    operator.until(&mut changes, "left", |change| *change == ClusterChange::Left(id())).await;
    assert!(operator.reaches(&id()).await);
    // The Secret goes first: the last good credentials serve.
    management.delete(secret(&management)).await;
    defined(&mut operator.taken.clone(), "without its Secret", |read| {
        let [leaving] = &read.leaving[..] else { return false };
        matches!(leaving.connection, Connection::KubeconfigSecret { kubeconfig: Err(_), .. })
    })
    .await;
    assert!(operator.reaches(&id()).await);
    assert!(is_held(&shown(&management, &cluster(), "still there", |_| true).await));

    operator.clusters.withdrawn(&id());
    gone(&management, &cluster(), "the Cluster").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_while_a_cluster_is_deleted_has_it_leave() {
    let management = managing_itself().await;
    let before = Operator::start(management.client.clone(), holding(LONG));
    shown(&management, &cluster(), "held back", is_held).await;
    drop(before);
    management.delete(cluster()).await;
    let operator = Operator::start(management.client.clone(), holding(LONG));
    let feed = operator.clusters.subscribe().await.unwrap();
    assert_eq!(feed.snapshot.len(), 1, "so that it can be withdrawn from");
    let mut changes = feed.changes;
    operator.until(&mut changes, "left", |change| *change == ClusterChange::Left(id())).await;
    assert!(operator.reaches(&id()).await);
    operator.clusters.withdrawn(&id());
    gone(&management, &cluster(), "the Cluster").await;
}

/// A client with the permissions that the documentation of the catalog lists, all of them in every namespace.
async fn permitted(management: &Management) -> Client {
    let documented = include_str!("../src/catalog/mod.rs");
    let (_, rules) = documented.split_once("//! ```yaml\n").unwrap();
    let rules = rules.split_once("//! ```\n").unwrap().0.replace("//! ", "");
    let rules: Value = serde_saphyr::from_str(&rules).unwrap();
    let group = "rbac.authorization.k8s.io";
    for object in [
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "fleet"}, "rules": rules}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "fleet"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "fleet"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "fleet"}]}),
    ] {
        let kind = object["kind"].as_str().unwrap();
        let resource = ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::all_with(management.client.clone(), &resource);
        api.patch("fleet", &apply(), &Patch::Apply(&object)).await.unwrap();
    }
    let mut config = config(&management.lab, Route::Direct).await;
    config.auth_info.impersonate = Some("fleet".to_owned());
    Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_cannot_be_cleaned_goes_after_a_while_and_says_what_is_left() {
    let management = managing_itself().await;
    // With what the documentation says that it takes, and nothing more.
    let operator = Operator::start(permitted(&management).await, holding(Duration::from_secs(2)));
    shown(&management, &cluster(), "held back", is_held).await;
    operator.catalog.report_cluster(&id(), true, Some("v1.36.3"), "Connected", "the API server answers");
    shown(&management, &cluster(), "ready", |it| {
        is(it, "Ready", "True")
            && it["metadata"]["labels"]["fleet-events.dev/kubernetes-version"] == "v1.36.3"
    })
    .await;
    management.delete(cluster()).await;
    gone(&management, &cluster(), "the Cluster").await;
    let events: Api<Event> = Api::namespaced(management.client.clone(), "civo");
    let all = events.list(&ListParams::default()).await.unwrap().items;
    let [event] = &all[..] else { panic!("{all:?}") };
    let regarding = event.regarding.as_ref().unwrap();
    assert_eq!(
        (
            regarding.kind.as_deref(),
            regarding.name.as_deref(),
            event.reason.as_deref(),
            event.type_.as_deref()
        ),
        (Some("Cluster"), Some("one"), Some("LeftBehind"), Some("Warning"))
    );
    assert_eq!(
        event.note.as_deref(),
        Some(
            "what Fleet put there could not be withdrawn within 2 s, so the Cluster goes without that. In civo/one stays: \
             Namespace alice"
        )
    );
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn deregister_leave_is_certainly_seen() {
    let management = managing_itself().await;
    management.delete(cluster()).await;
    management.delete(secret(&management)).await;
    let lab = management.lab.management().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    lab.write_kubeconfig(&file, User::Admin, Route::Direct).unwrap();
    let config = config(&management.lab, Route::Direct).await;
    let client = fleet_kube::client::ClusterClient::new(config).unwrap();
    let registration = Registration {
        id: id(),
        labels: Default::default(),
        access: Access::Kubeconfig { file, context: None, create_service_account: false },
        force: false,
        dry_run: false,
    };
    register(&client, &registration).await.unwrap();
    let operator = Operator::start(management.client.clone(), holding(LONG));
    let mut changes = operator.clusters.subscribe().await.unwrap().changes;
    operator.until(&mut changes, "ready", |change| matches!(change, ClusterChange::Ready(_))).await;
    shown(&management, &cluster(), "held back", is_held).await;

    let (one, mut told) = (id(), |_| {});
    let leaving = deregister(&client, &one, true, Wait::UntilGone(&mut told));
    let engine = async {
        let keeps = |change: &ClusterChange| matches!(change, ClusterChange::Relabelled(one) if one.keeps_resources());
        operator.until(&mut changes, "told that all stays", keeps).await;
        operator.until(&mut changes, "left", |change| *change == ClusterChange::Left(id())).await;
        let there = shown(&management, &cluster(), "there", |_| true).await;
        assert_eq!(there["metadata"]["annotations"][LEAVE_ANNOTATION], "true");
        operator.clusters.withdrawn(&id());
    };
    let (done, ()) = tokio::time::timeout(SOON, async { tokio::join!(leaving, engine) }).await.unwrap();
    assert_eq!(done.unwrap(), Deregistered { cluster: true, held_back: false, secret: true });
    let secrets: Api<DynamicObject> = Api::namespaced_with(
        management.client.clone(),
        "civo",
        &ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk("", "v1", "Secret")),
    );
    assert!(secrets.get_opt("one-kubeconfig").await.unwrap().is_none());
}
