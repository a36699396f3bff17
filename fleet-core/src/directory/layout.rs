//! Where each object's file lies below the root.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cluster::ClusterId;
use crate::manifest::{Gvk, ObjectRef};

/// Stands for the namespace of objects that have none. No namespace can have this name.
const NO_NAMESPACE: &str = "_cluster";
/// Stands for the core group, whose name is empty.
const CORE: &str = "core";
/// Where files are written before they get their place. No cluster's namespace can have this name.
pub(super) const STAGING: &str = ".staging";
/// The longest name of a file or folder that common file systems take, less the ending of a file.
const LONGEST: usize = 255 - ENDING.len();
pub(super) const ENDING: &str = ".yaml";

/// The path of an object's file, as the folders below the root and the file's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From the outermost to the innermost; each is one segment.
    pub(super) folders: [String; 4],
    /// One segment.
    pub(super) file: String,
}

impl Place {
    pub(super) fn of(cluster: &ClusterId, object: &ObjectRef) -> Self {
        Self {
            folders: [
                segment(cluster.namespace()),
                segment(cluster.name()),
                object.namespace.as_deref().map_or_else(|| NO_NAMESPACE.to_owned(), segment),
                kind_folder(&object.gvk),
            ],
            file: segment(&object.name) + ENDING,
        }
    }

    /// The folders as paths, from the outermost to the innermost.
    pub(super) fn folder_paths(&self, root: &Path) -> Vec<PathBuf> {
        let mut path = root.to_path_buf();
        self.folders
            .iter()
            .map(|folder| {
                path.push(folder);
                path.clone()
            })
            .collect()
    }

    pub(super) fn path(&self, root: &Path) -> PathBuf {
        let mut path = root.to_path_buf();
        path.extend(&self.folders);
        path.push(&self.file);
        path
    }
}

/// The folder of everything in a cluster.
pub(super) fn cluster_folder(root: &Path, cluster: &ClusterId) -> PathBuf {
    root.join(segment(cluster.namespace())).join(segment(cluster.name()))
}

/// The name of the folder of a kind's objects.
pub(super) fn kind_folder(kind: &Gvk) -> String {
    let group = if kind.group.is_empty() { CORE } else { &kind.group };
    segment(&format!("{}.{group}", kind.kind.to_ascii_lowercase()))
}

/// The object of a kind whose file has a path, if that can be told: of what is too long, only a part is there.
pub(super) fn object_at(path: &Path, kind: &Gvk) -> Option<ObjectRef> {
    let name = name_of(path.file_name()?.to_str()?.strip_suffix(ENDING)?)?;
    let namespace = path.parent()?.parent()?.file_name()?.to_str()?;
    let namespace = if namespace == NO_NAMESPACE { None } else { Some(name_of(namespace)?.into()) };
    Some(ObjectRef { gvk: kind.clone(), namespace, name: name.into() })
}

/// The name that a segment stands for.
fn name_of(part: &str) -> Option<String> {
    let mut bytes = part.bytes();
    let mut name = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        name.push(match byte {
            b'%' => u8::try_from(digit(bytes.next()?)? * 16 + digit(bytes.next()?)?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(name).ok().filter(|name| segment(name) == part)
}

/// A name as one segment of a path that is the same on file systems which tell upper from lower case and those which
/// do not: what is no lower case letter, digit, `-`, `_` or inner dot is percent-encoded (no name of an object may hold
/// a `%`), and what is too long is cut and gets a hash of the whole.
fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            b'.' if index > 0 => out.push('.'),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02x}");
            }
        }
    }
    if out.len() > LONGEST {
        const HASH_BYTES: usize = 16;
        out.truncate(LONGEST - 2 * HASH_BYTES - 2);
        // `%~` begins no encoded byte, so a cut name never equals one that was short enough.
        out.push_str("%~");
        for byte in Sha256::digest(name.as_bytes()).iter().take(HASH_BYTES) {
            let _ = write!(out, "{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use serde_json::json;

    fn place(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> PathBuf {
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}});
        let cluster = ClusterId::new("civo", "cluster1").unwrap();
        Place::of(&cluster, Manifest::new(object).unwrap().id()).path(Path::new("root"))
    }

    #[test]
    fn objects_lie_where_a_reader_looks_for_them() {
        for (found, expected) in [
            (
                place("v1", "Namespace", None, "mgianluc"),
                "root/civo/cluster1/_cluster/namespace.core/mgianluc.yaml",
            ),
            (
                place("apps/v1", "Deployment", Some("web"), "a.b"),
                "root/civo/cluster1/web/deployment.apps/a.b.yaml",
            ),
            (
                place("rbac.authorization.k8s.io/v1", "ClusterRole", None, "system:Viewer"),
                "root/civo/cluster1/_cluster/clusterrole.rbac.authorization.k8s.io/system%3a%56iewer.yaml",
            ),
            (
                place("rbac.authorization.k8s.io/v1", "ClusterRole", None, ".hidden"),
                "root/civo/cluster1/_cluster/clusterrole.rbac.authorization.k8s.io/%2ehidden.yaml",
            ),
        ] {
            assert_eq!(found, Path::new(expected));
        }
    }

    #[test]
    fn the_object_can_be_told_from_the_path_unless_its_name_was_cut() {
        let cluster = ClusterId::new("civo", "cluster1").unwrap();
        let kind = Gvk { group: "".into(), version: "v1".into(), kind: "ConfigMap".into() };
        for (namespace, name) in [(None, "a"), (Some("web"), "system:Viewer"), (Some(".x"), "ü.yaml")] {
            let object =
                ObjectRef { gvk: kind.clone(), namespace: namespace.map(Into::into), name: name.into() };
            let path = Place::of(&cluster, &object).path(Path::new("root"));
            assert_eq!(object_at(&path, &kind), Some(object));
        }
        let object = ObjectRef { gvk: kind.clone(), namespace: None, name: "x".repeat(300).into() };
        assert_eq!(object_at(&Place::of(&cluster, &object).path(Path::new("root")), &kind), None);
        for stranger in ["root/c/n/web/k/.tmp", "root/c/n/web/k/A.yaml", "root/c/n/web/k/a%2.yaml", "a.yaml"]
        {
            assert_eq!(object_at(Path::new(stranger), &kind), None);
        }
    }

    #[test]
    fn no_two_names_share_a_file_and_none_is_too_long() {
        let rbac = |name: &str| place("rbac.authorization.k8s.io/v1", "Role", Some("n"), name);
        let long = "x".repeat(252);
        let names = [
            "a",
            "A",
            "a:",
            "A:",
            ":a",
            "a.",
            "ü",
            &"Ü".repeat(126),
            &format!("{}a", "Ü".repeat(125)),
            &format!("{long}a"),
            &format!("{long}b"),
        ];
        let places: std::collections::BTreeSet<String> =
            names.iter().map(|name| rbac(name).to_string_lossy().to_lowercase()).collect();
        assert_eq!(places.len(), names.len());
        let group = format!("{}.example.com", "g".repeat(60).to_owned() + &".g".repeat(80));
        for path in places.iter().map(PathBuf::from).chain([place(
            &format!("{group}/v1"),
            &"K".repeat(63),
            None,
            "a",
        )]) {
            assert!(path.components().all(|part| part.as_os_str().len() <= 255), "{}", path.display());
        }
    }
}
