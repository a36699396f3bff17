//! What a user finds in the folders.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::apply::{Claim, Identity};
use crate::cluster::Cluster;
use crate::manifest::MARK;
use crate::policy::{DriftExclusion, JsonPointer, Policy};

pub(super) struct Lab {
    pub(super) dir: tempfile::TempDir,
    pub(super) applier: DirectoryApplier,
    pub(super) cluster: Arc<Cluster>,
}

pub(super) fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    lab_at(dir, &root)
}

/// With this root, which is that folder.
pub(super) fn lab_at(dir: tempfile::TempDir, root: &Path) -> Lab {
    let applier = DirectoryApplier::new(root).unwrap();
    let id = ClusterId::new("civo", "cluster1").unwrap();
    Lab { dir, applier, cluster: Arc::new(Cluster::new(id, [("env", "production")])) }
}

pub(super) const FILE: &str = "civo/cluster1/_cluster/namespace.core/mgianluc.yaml";

pub(super) fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mgianluc", "labels": {"a": "1e3"}}})
}

pub(super) fn work(key: &str) -> WorkId {
    WorkId::of_parts("manage-namespace", &[key])
}

pub(super) fn placed(outcome: &Outcome) -> &Placed {
    match outcome {
        Outcome::Applied(placed) => placed,
        other => panic!("{other:?}"),
    }
}

/// What is remembered of an object.
fn item(object: Value, placed: &Placed) -> InventoryItem {
    let planned = InventoryItem::planned(Manifest::new(object).unwrap().id().clone());
    InventoryItem { uid: Some(Arc::clone(&placed.uid)), adopted: placed.adopted, ..planned }
}

impl Lab {
    fn request(&self, work: &WorkId, object: Value) -> ApplyRequest {
        ApplyRequest {
            cluster: Arc::clone(&self.cluster),
            work: work.clone(),
            manifests: Arc::from([Manifest::new(object).unwrap()]),
            inventory: Vec::new(),
            identity: None,
            claims: Vec::new(),
            policy: Arc::default(),
            mode: Mode::Write,
            deadline: Duration::from_secs(10),
        }
    }

    async fn send(&self, request: ApplyRequest) -> Outcome {
        self.applier.apply(request).await.remove(0)
    }

    async fn apply_as(&self, work: &WorkId, object: Value) -> Outcome {
        self.send(self.request(work, object)).await
    }

    pub(super) async fn apply(&self, object: Value) -> Outcome {
        self.apply_as(&work("k"), object).await
    }

    pub(super) async fn remove(&self, object: Value) -> Outcome {
        let object = Manifest::new(object).unwrap().id().clone();
        self.take(&work("k"), InventoryItem::planned(object), Mode::Write).await
    }

    async fn take(&self, work: &WorkId, item: InventoryItem, mode: Mode) -> Outcome {
        let request = RemoveRequest {
            cluster: Arc::clone(&self.cluster),
            work: work.clone(),
            items: vec![item],
            mode,
            identity: None,
            deadline: Duration::from_secs(10),
        };
        self.applier.remove(request).await.remove(0)
    }

    fn read(&self, path: &str) -> Value {
        serde_saphyr::from_str(&fs::read_to_string(self.dir.path().join(path)).unwrap()).unwrap()
    }

    pub(super) fn put(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn files(&self) -> Vec<String> {
        fn walk(root: &Path, dir: &Path, into: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                into.push(path.strip_prefix(root).unwrap().display().to_string());
                if path.is_dir() && !path.is_symlink() {
                    walk(root, &path, into);
                }
            }
        }
        let mut files = Vec::new();
        walk(self.dir.path(), self.dir.path(), &mut files);
        files.sort();
        files
    }
}

#[tokio::test]
async fn an_object_comes_changes_and_goes() {
    let lab = lab();
    let Outcome::Applied(Placed { uid, .. }) = lab.apply(namespace()).await else { panic!() };
    let written = lab.read(FILE);
    assert_eq!(written["metadata"]["labels"], json!({"a": "1e3", MARK: work("k").hash()}));

    let mut changed = namespace();
    changed["metadata"]["labels"] = json!({"b": "no"});
    let again = lab.apply(changed.clone()).await;
    assert_eq!(placed(&again).uid, uid, "the UID outlives changes");
    assert_eq!(lab.read(FILE)["metadata"]["labels"], json!({"b": "no", MARK: work("k").hash()}));

    let before = fs::metadata(lab.dir.path().join(FILE)).unwrap().modified().unwrap();
    assert_eq!(lab.apply(changed.clone()).await, again);
    let after = fs::metadata(lab.dir.path().join(FILE)).unwrap().modified().unwrap();
    assert_eq!(before, after, "what is as it should be is not written again");

    assert_eq!(lab.remove(changed.clone()).await, Outcome::Gone);
    assert_eq!(lab.files(), [".staging", "civo", "civo/cluster1"], "empty folders in the cluster's go too");
    assert_eq!(lab.remove(changed.clone()).await, Outcome::Gone);
    let Outcome::Applied(Placed { uid: second, .. }) = lab.apply(changed).await else { panic!() };
    assert_ne!(uid, second, "a new life has a new UID");
}

#[tokio::test]
async fn what_we_did_not_write_is_a_conflict_and_stays_as_it_is() {
    let marked = |mark: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: mgianluc\n  labels:\n    {MARK}: {mark}\n"
        )
    };
    for (text, owner) in [
        ("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: mgianluc\n".to_owned(), "whoever wrote"),
        (marked("0123456789abcdef0123"), "mark 0123456789abcdef0123"),
        (marked(work("k").hash()), "removed its UID"),
        ("a: [".to_owned(), "not one readable"),
        (String::new(), "not one readable"),
        (marked(work("k").hash()).replace("mgianluc", "other"), "another object (Namespace other)"),
    ] {
        let lab = lab();
        lab.put(FILE, &text);
        let Outcome::Conflict { owner: found } = lab.apply(namespace()).await else { panic!("{text}") };
        assert!(found.to_string().contains(owner), "{found}");
        assert_eq!(lab.remove(namespace()).await, Outcome::Gone);
        assert_eq!(fs::read_to_string(lab.dir.path().join(FILE)).unwrap(), text);
    }
}

#[tokio::test]
async fn two_works_cannot_have_one_object() {
    let lab = lab();
    assert!(matches!(lab.apply_as(&work("first"), namespace()).await, Outcome::Applied(_)));
    let Outcome::Conflict { owner } = lab.apply(namespace()).await else { panic!() };
    assert!(owner.to_string().contains(work("first").hash()), "{owner}");
    assert_eq!(lab.remove(namespace()).await, Outcome::Gone);
    assert!(lab.dir.path().join(FILE).exists(), "the other Work's file stays");
}

#[tokio::test]
async fn kinds_that_differ_in_case_only_do_not_overwrite_each_other() {
    let lab = lab();
    let object = |kind: &str| json!({"apiVersion": "x.io/v1", "kind": kind, "metadata": {"name": "a"}});
    assert!(matches!(lab.apply(object("Foo")).await, Outcome::Applied(_)));
    assert!(matches!(lab.apply(object("FOO")).await, Outcome::Conflict { .. }));
    assert_eq!(lab.read("civo/cluster1/_cluster/foo.x.io/a.yaml")["kind"], "Foo");
}

#[tokio::test]
async fn another_version_of_the_api_is_the_same_object() {
    let lab = lab();
    let object = |version: &str| json!({"apiVersion": version, "kind": "Foo", "metadata": {"name": "a"}});
    let first = lab.apply(object("x.io/v1")).await;
    assert_eq!(placed(&lab.apply(object("x.io/v2")).await).uid, placed(&first).uid);
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_links_are_not_followed() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim.yaml");
    fs::write(&victim, "mine").unwrap();
    for link in ["civo", "civo/cluster1", "civo/cluster1/_cluster", FILE] {
        let lab = lab();
        let path = lab.dir.path().join(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(if link == FILE { &victim } else { outside.path() }, &path).unwrap();
        let Outcome::Conflict { owner } = lab.apply(namespace()).await else { panic!("{link}") };
        assert!(owner.to_string().starts_with("a symbolic link at"), "{owner}");
        assert_eq!(lab.remove(namespace()).await, Outcome::Gone);
        assert!(path.is_symlink());
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
}

#[tokio::test]
async fn a_folder_or_file_in_the_way_is_a_conflict() {
    let lab = lab();
    fs::create_dir_all(lab.dir.path().join(FILE)).unwrap();
    assert!(
        matches!(lab.apply(namespace()).await, Outcome::Conflict { owner } if owner.to_string().starts_with("a folder"))
    );
    let lab = self::lab();
    lab.put("civo/cluster1", "a file where the cluster's folder belongs");
    assert!(
        matches!(lab.apply(namespace()).await, Outcome::Conflict { owner } if owner.to_string().starts_with("a file"))
    );
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_cleared_away() {
    let lab = lab();
    lab.put(".staging/123-0", "half a fi");
    let again = DirectoryApplier::new(lab.dir.path()).unwrap();
    assert_eq!(lab.files(), [".staging"]);
    let lab = Lab { applier: again, ..lab };
    assert!(matches!(lab.apply(namespace()).await, Outcome::Applied(_)));
    assert!(lab.files().iter().all(|file| !file.starts_with(".staging/")), "nothing is left in staging");
}

#[tokio::test]
async fn a_refused_write_is_tried_again_and_had_no_effect() {
    let lab = lab();
    // Whoever runs the tests, nobody can stage a file in what is no folder.
    let staging = lab.dir.path().join(".staging");
    fs::remove_dir(&staging).unwrap();
    fs::write(&staging, "").unwrap();
    let Outcome::Retry { reason, .. } = lab.apply(namespace()).await else { panic!() };
    assert!(reason.contains("mgianluc.yaml cannot be written: "), "{reason}");
    fs::remove_file(&staging).unwrap();
    fs::create_dir(&staging).unwrap();
    assert!(matches!(lab.apply(namespace()).await, Outcome::Applied(_)));
}

#[tokio::test]
async fn a_disk_that_went_away_does_not_look_like_objects_that_are_gone() {
    let lab = lab();
    lab.apply(namespace()).await;
    let away = lab.dir.path().with_extension("away");
    fs::rename(lab.dir.path(), &away).unwrap();
    fs::create_dir(lab.dir.path()).unwrap();
    assert!(matches!(lab.remove(namespace()).await, Outcome::Retry { .. }));
    fs::remove_dir(lab.dir.path()).unwrap();
    fs::rename(&away, lab.dir.path()).unwrap();
    assert_eq!(lab.remove(namespace()).await, Outcome::Gone);
}

#[tokio::test]
async fn preview_tells_each_change_and_writes_nothing() {
    let lab = lab();
    let preview = |object: Value| ApplyRequest { mode: Mode::Preview, ..lab.request(&work("k"), object) };
    assert_eq!(lab.send(preview(namespace())).await, Outcome::Would(Change::Create));
    assert_eq!(lab.files(), [".staging"]);
    let made = placed(&lab.apply(namespace()).await).clone();
    let before = fs::read_to_string(lab.dir.path().join(FILE)).unwrap();
    assert_eq!(lab.send(preview(namespace())).await, Outcome::Would(Change::Nothing));
    let mut changed = namespace();
    changed["metadata"]["labels"] = json!({"a": "2"});
    let Outcome::Would(Change::Update { diff }) = lab.send(preview(changed)).await else { panic!() };
    let changes: Vec<&str> = diff.lines().filter(|line| line.starts_with(['+', '-'])).collect();
    assert_eq!(changes, ["-    a: \"1e3\"", "+    a: \"2\""]);
    assert_eq!(
        lab.take(&work("k"), item(namespace(), &made), Mode::Preview).await,
        Outcome::Would(Change::Delete)
    );
    assert_eq!(
        lab.take(&work("other"), item(namespace(), &made), Mode::Preview).await,
        Outcome::Would(Change::Nothing)
    );
    assert_eq!(fs::read_to_string(lab.dir.path().join(FILE)).unwrap(), before);
}

#[tokio::test]
async fn nobody_can_act_as_a_service_account() {
    let lab = lab();
    let identity = Some(Identity { namespace: "a".into(), name: "b".into() });
    let refused = lab.send(ApplyRequest { identity, ..lab.request(&work("k"), namespace()) }).await;
    assert!(matches!(&refused, Outcome::Rejected { reason } if reason.contains("service account a/b")));
}

#[tokio::test]
async fn a_handover_replaces_the_mark_and_the_loser_lets_go() {
    let lab = lab();
    let (loser, winner) = (work("loser"), work("winner"));
    let made = placed(&lab.apply_as(&loser, namespace()).await).clone();
    let claim = |from: &WorkId| Claim {
        object: Manifest::new(namespace()).unwrap().id().clone(),
        from: from.hash().into(),
    };
    let taking =
        |from: &WorkId| ApplyRequest { claims: vec![claim(from)], ..lab.request(&winner, namespace()) };
    assert!(matches!(lab.send(taking(&work("third"))).await, Outcome::Conflict { .. }));
    assert_eq!(placed(&lab.send(taking(&loser)).await).uid, made.uid);
    assert_eq!(lab.read(FILE)["metadata"]["labels"][MARK], winner.hash());

    let inventory = vec![item(namespace(), &made)];
    let late = lab.send(ApplyRequest { inventory, ..lab.request(&loser, namespace()) }).await;
    assert_eq!(late, Outcome::Conflict { owner: Owner::Work(winner.hash().into()) });
    assert_eq!(lab.take(&loser, item(namespace(), &made), Mode::Write).await, Outcome::Gone);
    assert_eq!(lab.read(FILE)["metadata"]["labels"][MARK], winner.hash());
}

#[tokio::test]
async fn what_is_adopted_is_given_back() {
    let lab = lab();
    let theirs = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: mgianluc\n  labels:\n    theirs: x\n";
    lab.put(FILE, theirs);
    let policy = Arc::new(Policy { adopt: true, ..Policy::default() });
    let request = ApplyRequest { policy, ..lab.request(&work("k"), namespace()) };
    let adopted = placed(&lab.send(request).await).clone();
    assert!(adopted.adopted);
    assert_eq!(lab.read(FILE)["metadata"]["labels"], json!({"a": "1e3", MARK: work("k").hash()}));
    // As after a crash: the answer was never written down.
    let again = placed(&lab.apply(namespace()).await).clone();
    assert_eq!(again, adopted);
    assert_eq!(
        lab.take(&work("k"), item(namespace(), &again), Mode::Preview).await,
        Outcome::Would(Change::GiveBack)
    );
    assert_eq!(lab.remove(namespace()).await, Outcome::Gone);
    assert_eq!(lab.read(FILE), namespace(), "values stay, and nothing of ours");
}

#[tokio::test]
async fn what_lost_its_mark_is_still_ours_and_what_others_drive_stays() {
    let lab = lab();
    let made = placed(&lab.apply(namespace()).await).clone();
    let path = lab.dir.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    let edited = text.replace(MARK, "other").replace("1e3", "driven");
    fs::write(&path, edited).unwrap();
    assert!(matches!(lab.apply(namespace()).await, Outcome::Conflict { .. }), "nobody knows it");
    let exclusion =
        DriftExclusion { paths: vec![JsonPointer::parse("/metadata/labels/a").unwrap()], target: None };
    let request = ApplyRequest {
        inventory: vec![item(namespace(), &made)],
        policy: Arc::new(Policy { drift_exclusions: vec![exclusion], ..Policy::default() }),
        ..lab.request(&work("k"), namespace())
    };
    assert_eq!(placed(&lab.send(request).await).uid, made.uid);
    assert_eq!(lab.read(FILE)["metadata"]["labels"], json!({"a": "driven", MARK: work("k").hash()}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_come_and_go_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let applier = DirectoryApplier::new(dir.path()).unwrap();
    let manifests: Arc<[Manifest]> = Arc::from([Manifest::new(namespace()).unwrap()]);
    let clusters = (0..8).map(|n| {
        let id = ClusterId::new("civo", &format!("cluster{n}")).unwrap();
        let (applier, manifests, cluster) =
            (applier.clone(), manifests.clone(), Arc::new(Cluster::new(id, [("a", "b")])));
        tokio::spawn(async move {
            for _ in 0..20 {
                let deadline = Duration::from_secs(10);
                let apply = ApplyRequest {
                    cluster: cluster.clone(),
                    work: work("k"),
                    manifests: manifests.clone(),
                    inventory: Vec::new(),
                    identity: None,
                    claims: Vec::new(),
                    policy: Arc::default(),
                    mode: Mode::Write,
                    deadline,
                };
                assert!(matches!(applier.apply(apply).await[..], [Outcome::Applied(_)]));
                let object = manifests[0].id().clone();
                let item = InventoryItem::planned(object);
                let (cluster, work) = (cluster.clone(), work("k"));
                let remove = RemoveRequest {
                    cluster,
                    work,
                    items: vec![item],
                    mode: Mode::Write,
                    identity: None,
                    deadline,
                };
                assert_eq!(applier.remove(remove).await, [Outcome::Gone]);
            }
        })
    });
    for cluster in clusters.collect::<Vec<_>>() {
        cluster.await.unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lab();
    lab.apply(namespace()).await;
    let mode = |path: &str| fs::metadata(lab.dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(FILE), mode("civo")), (0o600, 0o700));
}

#[tokio::test]
async fn many_objects_get_an_outcome_each_in_order() {
    let lab = lab();
    lab.put("civo/cluster1/_cluster/namespace.core/b.yaml", "mine");
    let manifests = ["a", "b", "c"].map(|name| {
        Manifest::new(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).unwrap()
    });
    let request = ApplyRequest {
        cluster: Arc::clone(&lab.cluster),
        work: work("k"),
        manifests: Arc::from(manifests),
        inventory: Vec::new(),
        identity: None,
        claims: Vec::new(),
        policy: Arc::default(),
        mode: Mode::Write,
        deadline: Duration::from_secs(10),
    };
    let outcomes = lab.applier.apply(request.clone()).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Applied(_), Outcome::Conflict { .. }, Outcome::Waiting { reason }]
        if reason.contains("Namespace b is in conflict"))
    );
    let policy = Arc::new(Policy { continue_on_conflict: true, ..Policy::default() });
    let outcomes = lab.applier.apply(ApplyRequest { policy, ..request }).await;
    assert!(matches!(outcomes[..], [Outcome::Applied(_), Outcome::Conflict { .. }, Outcome::Applied(_)]));
}
