//! What an operator makes of a folder, file by file.

use std::fs;

use super::*;

const SOURCE: &str = "apiVersion: fleet-events.dev/v1alpha1\nkind: EventSource\nmetadata: {name: user-operation}\nspec: {http: {}}\n";
const CLUSTER: &str = "apiVersion: fleet-events.dev/v1alpha1\nkind: Cluster\nmetadata: {namespace: civo, name: cluster1}\nspec: {directory: {}}\n";

fn trigger(source: &str) -> String {
    format!(
        "apiVersion: fleet-events.dev/v1alpha1\nkind: EventTrigger\nmetadata: {{name: manage}}\nspec:\n  \
         eventSourceName: {source}\n  sourceClusterSelector: {{}}\n  oneForEvent: true\n  policyRefs:\n    \
         - {{kind: ConfigMap, namespace: default, name: namespace}}\n"
    )
}

struct Lab {
    dir: tempfile::TempDir,
    folder: Arc<Folder>,
    follower: Follower,
}

/// A folder with these files, opened.
fn lab(files: &[(&str, &str)]) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::create_dir(dir.path().join("manifests")).unwrap();
    for (name, text) in files {
        fs::write(dir.path().join("manifests").join(name), text).unwrap();
    }
    let (folder, follower) = Folder::open(&dir.path().join("manifests"), &dir.path().join("data"));
    Lab { dir, folder, follower }
}

impl Lab {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("manifests").join(name)
    }

    fn write(&mut self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.follower.refresh();
    }

    fn remove(&mut self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
        self.follower.refresh();
    }

    fn restart(&mut self) {
        (self.folder, self.follower) = Folder::open(&self.path(""), &self.dir.path().join("data"));
    }

    fn now(&self) -> Arc<Definitions> {
        self.folder.definitions().borrow().clone().unwrap()
    }

    fn problems(&self) -> String {
        self.now().problems.iter().map(|problem| format!("{problem}\n")).collect()
    }

    fn names(&self) -> Vec<String> {
        let now = self.now();
        let sources = now.catalog.sources.keys().map(ToString::to_string);
        let clusters = now.clusters.iter().map(|cluster| cluster.id.to_string());
        sources.chain(now.catalog.triggers.keys().map(ToString::to_string)).chain(clusters).collect()
    }
}

#[test]
fn manifests_are_found_in_all_folders_and_events_beside_them_are_left_alone() {
    let mut lab = lab(&[
        ("a.yaml", SOURCE),
        ("login.json", r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#),
        ("batch.json", r#"[{"specversion":"1.0","id":"1","source":"s","type":"t"}]"#),
        ("notes.txt", "{"),
        (".hidden.yaml", "{"),
    ]);
    fs::create_dir_all(lab.path("deep/er")).unwrap();
    lab.write("deep/er/cluster.yml", CLUSTER);
    assert_eq!(lab.names(), ["user-operation", "civo/cluster1"]);
    assert!(lab.now().catalog.complete);
    assert_eq!(lab.problems(), "");
}

#[test]
fn a_file_that_breaks_keeps_its_last_good_version_also_over_a_restart() {
    for broken in [
        "a: [",
        "apiVersion: fleet-events.dev/v1alpha1\nkind: EventSource\nmetadata: {name: user-operation}\nspec: {htp: {}}\n",
        "",
        "\u{0}",
    ] {
        let mut lab = lab(&[("source.yaml", SOURCE), ("cluster.yaml", CLUSTER)]);
        lab.write("source.yaml", broken);
        for _ in 0..2 {
            assert_eq!(lab.names(), ["user-operation", "civo/cluster1"], "{broken:?}");
            assert!(lab.now().transports.contains_key("user-operation"));
            assert!(lab.problems().contains("source.yaml:"), "{}", lab.problems());
            lab.restart();
        }
        lab.write("source.yaml", SOURCE);
        assert_eq!(lab.problems(), "", "it heals without a restart");
    }
}

#[test]
fn problems_name_file_line_and_field() {
    let unknown_field = SOURCE.replace("{http: {}}", "\n  http: {}\n  filtres: []");
    let lab = lab(&[
        ("a.yaml", "a:\n  - b\n c"),
        ("b.yaml", &unknown_field),
        ("c.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n"),
    ]);
    let problems = lab.problems();
    for expected in
        ["a.yaml:3: is not YAML", "b.yaml:6: EventSource user-operation: spec.filtres: ", "c.yaml:"]
    {
        assert!(problems.contains(expected), "{expected} in:\n{problems}");
    }
}

#[test]
fn a_removed_file_is_a_removal_only_if_the_rest_was_read() {
    let mut lab =
        lab(&[("source.yaml", SOURCE), ("cluster.yaml", CLUSTER), ("other.yaml", "# nothing yet\n---\n")]);
    lab.write("other.yaml", "a: [");
    lab.remove("cluster.yaml");
    assert!(!lab.now().catalog.complete, "what is missing is not gone while a file is broken");
    lab.restart();
    assert!(!lab.now().catalog.complete);
    lab.write("other.yaml", "# nothing yet\n");
    assert!(lab.now().catalog.complete);
    assert_eq!(lab.names(), ["user-operation"]);
}

#[test]
fn an_empty_or_missing_folder_withdraws_nothing() {
    let mut lab = lab(&[("source.yaml", SOURCE), ("cluster.yaml", CLUSTER)]);
    fs::remove_file(lab.path("source.yaml")).unwrap();
    lab.remove("cluster.yaml");
    for _ in 0..2 {
        assert_eq!(lab.names(), ["user-operation", "civo/cluster1"]);
        assert!(!lab.now().catalog.complete);
        assert!(lab.problems().contains("there are no manifests here"));
        lab.restart();
    }
    fs::remove_dir(lab.path("")).unwrap();
    lab.follower.refresh();
    for _ in 0..2 {
        assert_eq!(lab.names(), ["user-operation", "civo/cluster1"]);
        assert!(!lab.now().catalog.complete);
        lab.restart();
    }
    fs::create_dir(lab.path("")).unwrap();
    lab.write("source.yaml", SOURCE);
    assert_eq!((lab.names(), lab.now().catalog.complete), (vec!["user-operation".to_owned()], true));
}

#[test]
fn what_is_immutable_stays_as_it_was_and_is_named() {
    let mut lab = lab(&[("trigger.yaml", &trigger("user-operation")), ("source.yaml", SOURCE)]);
    assert!(lab.problems().contains("ConfigMap default/namespace"), "{}", lab.problems());
    lab.write("trigger.yaml", &trigger("another"));
    for _ in 0..2 {
        assert_eq!(lab.now().catalog.triggers["manage"].source.as_deref(), Some("user-operation"));
        assert!(lab.problems().contains("spec.eventSourceName: is immutable"), "{}", lab.problems());
        lab.restart();
    }
}

#[test]
fn what_is_kept_is_for_its_owner_alone_and_of_one_folder_only() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lab(&[("source.yaml", SOURCE)]);
    let kept = lab.dir.path().join("data/manifests.json");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let other = lab.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let (folder, _follower) = Folder::open(&other, &lab.dir.path().join("data"));
    assert!(folder.definitions().borrow().as_ref().unwrap().catalog.sources.is_empty());
    fs::write(&kept, "garbage").unwrap();
    let (folder, _follower) = Folder::open(&lab.path(""), &lab.dir.path().join("data"));
    assert_eq!(
        folder.definitions().borrow().as_ref().unwrap().catalog.sources.len(),
        1,
        "a damaged memory is no obstacle"
    );
}

#[tokio::test]
async fn changes_are_followed() {
    let Lab { dir, folder, follower } = lab(&[("source.yaml", SOURCE)]);
    let mut definitions = folder.definitions();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(follower.run(shutdown.clone()));
    let within = std::time::Duration::from_secs(20);
    let manifests = dir.path().join("manifests");
    fs::create_dir(manifests.join("new")).unwrap();
    fs::write(manifests.join("new/cluster.yaml"), CLUSTER).unwrap();
    let arrived = definitions.wait_for(|now| now.as_ref().unwrap().clusters.len() == 1);
    tokio::time::timeout(within, arrived).await.expect("a new file in a new folder goes unnoticed").unwrap();
    // A folder that is replaced as a whole, as by git or a volume mount.
    fs::rename(&manifests, dir.path().join("old")).unwrap();
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("source.yaml"), SOURCE).unwrap();
    let left = definitions.wait_for(|now| now.as_ref().unwrap().clusters.is_empty());
    tokio::time::timeout(within, left).await.expect("a new folder goes unnoticed").unwrap();
    shutdown.cancel();
    running.await.unwrap();
}
