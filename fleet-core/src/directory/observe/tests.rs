//! What is seen of what people do in the folders.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::apply::{Applier, Outcome, Placed};
use crate::directory::tests::{FILE, Lab, lab, lab_at, namespace, placed, work};
use crate::manifest::Manifest;
use crate::observe::{Depth, Seen};

const SOON: Duration = Duration::from_secs(20);

struct Watch(BoxStream<'static, Observation>);

impl Watch {
    fn of(lab: &Lab, kind: &str) -> Self {
        let kind = Gvk { group: "".into(), version: "v1".into(), kind: kind.into() };
        Self(lab.applier.observe(&lab.cluster.id, &kind, Depth::Whole))
    }

    async fn next(&mut self) -> Observation {
        timeout(SOON, self.0.next()).await.expect("something should have been seen").expect("it must not end")
    }

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

    async fn there(&mut self) -> Seen {
        match self.next().await {
            Observation::There(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    async fn gone(&mut self) -> Arc<str> {
        match self.next().await {
            Observation::Gone { object, .. } => object.name,
            other => panic!("{other:?}"),
        }
    }

    async fn nothing(&mut self) {
        let told = timeout(Duration::from_millis(1500), self.0.next()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

fn path(lab: &Lab) -> PathBuf {
    lab.dir.path().join(FILE)
}

fn covers(seen: &Seen, object: &Value) -> bool {
    seen.owned.cover(&Manifest::new(object.clone()).unwrap().marked(&work("k")), [])
}

#[tokio::test]
async fn files_are_seen_as_they_come_change_and_go() {
    let lab = lab();
    let mut watch = Watch::of(&lab, "Namespace");
    assert!(watch.list().await.is_empty(), "there is no folder yet");
    let Outcome::Applied(Placed { uid: made, print, version, .. }) = lab.apply(namespace()).await else {
        panic!()
    };
    let seen = watch.there().await;
    assert_eq!((&seen.uid, &*seen.mark, seen.written_by_us), (&made, work("k").hash(), true));
    assert_eq!((Some(seen.owned.print([])), &seen.version), (print.clone(), &version), "as the write said");
    assert!(covers(&seen, &namespace()));
    lab.apply(namespace()).await;
    watch.nothing().await;

    // An editor.
    let text = fs::read_to_string(path(&lab)).unwrap();
    fs::write(path(&lab), text.replace("1e3", "1e4")).unwrap();
    let seen = watch.there().await;
    assert!(Some(seen.owned.print([])) != print && !covers(&seen, &namespace()));
    // One that adds what nobody asked for.
    fs::write(path(&lab), format!("{text}spec: {{}}\n")).unwrap();
    let seen = watch.there().await;
    assert!(Some(seen.owned.print([])) != print && covers(&seen, &namespace()));
    // Back as it was: the repair.
    lab.apply(namespace()).await;
    assert_eq!(Some(watch.there().await.owned.print([])), print);

    fs::remove_file(path(&lab)).unwrap();
    assert_eq!(&*watch.gone().await, "mgianluc");
    let again = Arc::clone(&placed(&lab.apply(namespace()).await).uid);
    assert_eq!(watch.there().await.uid, again);
    fs::remove_dir_all(lab.dir.path().join("civo")).unwrap();
    assert_eq!(&*watch.gone().await, "mgianluc");
    let again = Arc::clone(&placed(&lab.apply(namespace()).await).uid);
    assert_eq!(watch.there().await.uid, again);
    assert_eq!(lab.remove(namespace()).await, Outcome::Gone);
    assert_eq!(&*watch.gone().await, "mgianluc");
}

#[tokio::test]
async fn what_is_in_its_place_and_not_ours_counts_as_gone() {
    for (name, replace) in [
        ("a folder", (|path| fs::create_dir(path).unwrap()) as fn(&PathBuf)),
        ("somebody else's", |path| {
            fs::write(path, "apiVersion: v1\nkind: Namespace\nmetadata: {name: mgianluc}\n").unwrap()
        }),
        ("no object", |path| fs::write(path, "a: [").unwrap()),
        ("no text", |path| fs::write(path, [0xff, 0xfe]).unwrap()),
        #[cfg(unix)]
        ("a link", |path| std::os::unix::fs::symlink("/dev/null", path).unwrap()),
    ] {
        let lab = lab();
        lab.apply(namespace()).await;
        let mut watch = Watch::of(&lab, "Namespace");
        assert_eq!(watch.list().await.len(), 1);
        fs::remove_file(path(&lab)).unwrap();
        replace(&path(&lab));
        assert_eq!(&*watch.gone().await, "mgianluc", "{name}");
    }
}

#[tokio::test]
async fn a_copy_elsewhere_is_not_the_object() {
    let lab = lab();
    lab.apply(namespace()).await;
    let text = fs::read_to_string(path(&lab)).unwrap();
    lab.put("civo/cluster1/_cluster/namespace.core/copy.yaml", &text);
    lab.put("civo/cluster1/web/namespace.core/mgianluc.yaml", &text);
    lab.put("civo/cluster1/_cluster/namespace.core/mgianluc.yaml~", &text);
    let mut watch = Watch::of(&lab, "Namespace");
    assert_eq!(watch.list().await.len(), 1);
    // Under a name of its own it is one that carries our mark.
    lab.put("civo/cluster1/_cluster/namespace.core/copy.yaml", &text.replace("mgianluc", "copy"));
    let copy = watch.there().await;
    assert_eq!((&*copy.object.name, copy.written_by_us), ("copy", false));
}

#[tokio::test]
async fn kinds_and_clusters_are_told_apart() {
    let lab = lab();
    let mut namespaces = Watch::of(&lab, "Namespace");
    let mut maps = Watch::of(&lab, "ConfigMap");
    assert!(namespaces.list().await.is_empty() && maps.list().await.is_empty());
    let map = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "web"}, "data": {"a": null, "b": "1.0"}, "n": [1.0, 1e30, -0.0, 2e3]})
    };
    lab.apply(map("a")).await;
    let seen = maps.there().await;
    assert_eq!((seen.object.namespace.as_deref(), seen.whole.is_none()), (Some("web"), true));
    assert!(covers(&seen, &map("a")), "whatever its numbers look like");
    lab.put("civo/cluster2/web/configmap.core/b.yaml", "");
    namespaces.nothing().await;
    maps.nothing().await;
}

#[tokio::test]
async fn a_disk_that_goes_away_tells_nothing_until_it_is_back() {
    let lab = lab();
    let made = Arc::clone(&placed(&lab.apply(namespace()).await).uid);
    let mut watch = Watch::of(&lab, "Namespace");
    assert_eq!(watch.list().await.len(), 1);
    let away = lab.dir.path().with_extension("away");
    fs::rename(lab.dir.path(), &away).unwrap();
    fs::create_dir(lab.dir.path()).unwrap();
    watch.nothing().await;
    fs::remove_dir(lab.dir.path()).unwrap();
    watch.nothing().await;
    fs::rename(&away, lab.dir.path()).unwrap();
    let listed = watch.list().await;
    assert_eq!(listed.iter().map(|seen| &seen.uid).collect::<Vec<_>>(), [&made]);
    fs::remove_file(path(&lab)).unwrap();
    assert_eq!(&*watch.gone().await, "mgianluc", "notes come again");
}

#[tokio::test]
async fn of_many_files_none_is_missed() {
    const MANY: usize = 200;
    let lab = lab();
    let mut watch = Watch::of(&lab, "ConfigMap");
    assert!(watch.list().await.is_empty());
    for index in 0..MANY {
        lab.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m-{index}"), "namespace": "web"}}))
            .await;
    }
    for _ in 0..MANY {
        watch.there().await;
    }
    fs::remove_dir_all(lab.dir.path().join("civo/cluster1/web")).unwrap();
    for _ in 0..MANY {
        watch.gone().await;
    }
    watch.nothing().await;
}

#[tokio::test]
async fn what_comes_and_goes_between_two_looks_is_told_to_be_gone() {
    let lab = lab();
    let mut watch = Watch::of(&lab, "Namespace");
    assert!(watch.list().await.is_empty());
    // Its folder is there, and watched.
    lab.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "first"}})).await;
    watch.there().await;
    lab.apply(namespace()).await;
    fs::remove_file(path(&lab)).unwrap();
    assert_eq!(&*watch.gone().await, "mgianluc");
    watch.nothing().await;
    // And what is somebody else's when it is looked at.
    lab.apply(namespace()).await;
    let text = fs::read_to_string(path(&lab)).unwrap();
    fs::write(path(&lab), text.replace("fleet-events.dev/work", "example.com/work")).unwrap();
    assert_eq!(&*watch.gone().await, "mgianluc");
    watch.nothing().await;
}

#[tokio::test]
async fn where_a_whole_folder_came_and_went_everything_is_told_again() {
    let lab = lab();
    let mut watch = Watch::of(&lab, "Namespace");
    assert!(watch.list().await.is_empty());
    lab.apply(namespace()).await;
    fs::remove_dir_all(lab.dir.path().join("civo")).unwrap();
    assert!(watch.list().await.is_empty());
    watch.nothing().await;
}

/// As the operator's data folder is by default.
#[tokio::test]
async fn a_root_that_is_relative_is_watched_too() {
    let here = std::env::current_dir().unwrap();
    let dir = tempfile::tempdir_in(&here).unwrap();
    let root = dir.path().strip_prefix(&here).unwrap().to_owned();
    assert!(root.is_relative());
    let lab = lab_at(dir, &root);
    let mut watch = Watch::of(&lab, "Namespace");
    assert!(watch.list().await.is_empty());
    lab.apply(namespace()).await;
    watch.there().await;
    fs::remove_file(path(&lab)).unwrap();
    assert_eq!(&*watch.gone().await, "mgianluc");
}
