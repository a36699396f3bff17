//! What a user finds in the folders.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::apply::{Identity, InventoryItem, Placed};
use crate::cluster::Cluster;
use crate::manifest::MARK;

pub(super) struct Lab {
    pub(super) dir: tempfile::TempDir,
    pub(super) applier: DirectoryApplier,
    pub(super) cluster: Arc<Cluster>,
}

pub(super) fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let applier = DirectoryApplier::new(dir.path()).unwrap();
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

pub(super) fn uid(outcome: Outcome) -> Arc<str> {
    match outcome {
        Outcome::Applied(Placed { uid, .. }) => uid,
        other => panic!("{other:?}"),
    }
}

impl Lab {
    async fn apply_as(&self, work: &WorkId, object: Value) -> Outcome {
        let request = ApplyRequest {
            cluster: Arc::clone(&self.cluster),
            work: work.clone(),
            manifests: Arc::from([Manifest::new(object).unwrap()]),
            inventory: Vec::new(),
            identity: None,
            claims: Vec::new(),
            policy: Arc::default(),
            mode: Mode::Write,
            deadline: Duration::from_secs(10),
        };
        self.applier.apply(request).await.remove(0)
    }

    pub(super) async fn apply(&self, object: Value) -> Outcome {
        self.apply_as(&work("k"), object).await
    }

    pub(super) async fn remove(&self, object: Value) -> Outcome {
        let object = Manifest::new(object).unwrap().id().clone();
        let request = RemoveRequest {
            cluster: Arc::clone(&self.cluster),
            work: work("k"),
            items: vec![InventoryItem::planned(object)],
            mode: Mode::Write,
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
    assert_eq!(self::uid(lab.apply(changed.clone()).await), uid, "the UID outlives changes");
    assert_eq!(lab.read(FILE)["metadata"]["labels"], json!({"b": "no", MARK: work("k").hash()}));

    let before = fs::metadata(lab.dir.path().join(FILE)).unwrap().modified().unwrap();
    assert_eq!(self::uid(lab.apply(changed.clone()).await), uid);
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
        (marked(work("k").hash()), "removed annotation"),
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
    let first = uid(lab.apply(object("x.io/v1")).await);
    assert_eq!(uid(lab.apply(object("x.io/v2")).await), first);
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
async fn preview_writes_nothing() {
    let lab = lab();
    let request = ApplyRequest {
        cluster: Arc::clone(&lab.cluster),
        work: work("k"),
        manifests: Arc::from([Manifest::new(namespace()).unwrap()]),
        inventory: Vec::new(),
        identity: None,
        claims: Vec::new(),
        policy: Arc::default(),
        mode: Mode::Preview,
        deadline: Duration::from_secs(10),
    };
    assert!(matches!(lab.applier.apply(request.clone()).await[..], [Outcome::Applied(_)]));
    assert_eq!(lab.files(), [".staging"]);
    let identity = Some(Identity { namespace: "a".into(), name: "b".into() });
    let refused = lab.applier.apply(ApplyRequest { identity, mode: Mode::Write, ..request }).await;
    assert!(matches!(&refused[..], [Outcome::Rejected { reason }] if reason.contains("service account a/b")));
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
    let outcomes = lab.applier.apply(request).await;
    assert!(matches!(outcomes[..], [Outcome::Applied(_), Outcome::Conflict { .. }, Outcome::Applied(_)]));
}
