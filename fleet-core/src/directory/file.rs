//! One object's file: reading whose it is, writing it and taking it away, without ever touching somebody else's.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::layout::{Place, STAGING};
use crate::apply::Owner;
use crate::manifest::{ADOPTED, MARK, Manifest, ObjectRef};
use crate::observe::Owned;
use crate::work::WorkId;
use crate::yaml;

/// The annotation that keeps an object's UID: made up once, when its file is created.
const UID: &str = "fleet-events.dev/uid";

/// What lies where an object's file belongs.
pub(super) enum Found {
    Nothing,
    /// A readable file of this object.
    Object(Kept),
    /// Anything else; says what, as the owner in a conflict.
    Foreign(Owner),
}

/// A readable file of an object.
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) object: Map<String, Value>,
    pub(super) mark: Option<Arc<str>>,
    pub(super) uid: Option<Arc<str>>,
    pub(super) adopted: bool,
}

/// The parts of a file that tell whose it is.
#[derive(Deserialize)]
pub(super) struct Head {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Head {
    pub(super) fn names(&self, object: &ObjectRef) -> bool {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        group == &*object.gvk.group
            && self.kind == *object.gvk.kind
            && self.metadata.name == *object.name
            && self.metadata.namespace.as_deref() == object.namespace.as_deref()
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }

    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Mark and UID, if it has both.
    pub(super) fn ours(&self) -> Option<(&str, &str)> {
        Some((self.metadata.labels.get(MARK)?, self.metadata.annotations.get(UID)?))
    }
}

/// Looks at what lies where the object's file belongs. Symbolic links are never followed.
pub(super) fn look(root: &Path, place: &Place, object: &ObjectRef) -> io::Result<Found> {
    // A root that lost its disk looks empty; only its staging folder tells that from objects that are gone.
    fs::symlink_metadata(root.join(STAGING))?;
    for folder in place.folder_paths(root) {
        match fs::symlink_metadata(&folder) {
            Ok(meta) if meta.is_dir() => {}
            Ok(meta) => return Ok(foreign(format!("{} at {}", what(&meta), folder.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        }
    }
    let path = place.path(root);
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_file() => {}
        Ok(meta) => return Ok(foreign(format!("{} at {}", what(&meta), path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    }
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Ok(foreign(format!("a file that is no text at {}", path.display())));
        }
        Err(error) => return Err(error),
    };
    let Some((head, whole)) = read(&text) else {
        return Ok(foreign(format!(
            "a file that is not one readable Kubernetes object at {}",
            path.display()
        )));
    };
    if !head.names(object) {
        let other =
            format!("a file of another object ({} {}) at {}", head.kind, head.metadata.name, path.display());
        return Ok(foreign(other));
    }
    let Metadata { labels, annotations, .. } = head.metadata;
    let found = |from: &BTreeMap<String, String>, name| from.get(name).map(|value| Arc::from(value.as_str()));
    Ok(Found::Object(Kept {
        mark: found(&labels, MARK),
        uid: found(&annotations, UID),
        adopted: annotations.contains_key(ADOPTED),
        object: whole,
        text,
    }))
}

/// Says what lies there as the owner in a conflict.
fn foreign(what: String) -> Found {
    Found::Foreign(Owner::Other(what))
}

/// Reads a file, if it is one object and nothing else.
fn read(text: &str) -> Option<(Head, Map<String, Value>)> {
    match &yaml::documents(text)[..] {
        [Ok(document)] => Some((document.decode().ok()?, document.value.as_object()?.clone())),
        _ => None,
    }
}

/// What a file holds.
pub(super) struct Content {
    pub(super) head: Head,
    pub(super) version: Arc<str>,
    pub(super) object: Map<String, Value>,
}

/// Reads a file; `None` if it is not one object and nothing else.
pub(super) fn content(path: &Path) -> io::Result<Option<Content>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(read(&text).map(|(head, object)| {
            let version = version(&text);
            Content { head, version, object }
        })),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells one text of an object from another; never a number, as versions are that come after each other.
pub(super) fn version(text: &str) -> Arc<str> {
    let digits: String =
        Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("text-{digits}").into()
}

fn what(meta: &fs::Metadata) -> &'static str {
    if meta.is_symlink() {
        "a symbolic link"
    } else if meta.is_dir() {
        "a folder"
    } else if meta.is_file() {
        "a file"
    } else {
        "a special file"
    }
}

/// An object as its file is to have it.
pub(super) fn object(manifest: &Manifest, work: &WorkId, uid: &str, adopted: bool) -> Map<String, Value> {
    let mut object = manifest.marked(work);
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        let annotations = metadata.entry("annotations").or_insert(Value::Null);
        if annotations.is_null() {
            *annotations = Value::Object(Map::new());
        }
        if let Value::Object(annotations) = annotations {
            annotations.insert(UID.to_owned(), Value::String(uid.to_owned()));
            if adopted {
                annotations.insert(ADOPTED.to_owned(), Value::String("true".to_owned()));
            }
        }
    }
    object
}

/// An object without what is ours in its metadata.
pub(super) fn given_back(mut object: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for (field, names) in [("labels", &[MARK][..]), ("annotations", &[UID, ADOPTED])] {
            let Some(Value::Object(entries)) = metadata.get_mut(field) else { continue };
            names.iter().for_each(|name| {
                entries.remove(*name);
            });
            if entries.is_empty() {
                metadata.remove(field);
            }
        }
    }
    object
}

/// The text of an object's file.
pub(super) fn text(object: &Map<String, Value>) -> Result<String, String> {
    yaml::to_string(&Value::Object(object.clone())).map_err(|error| error.to_string())
}

/// What is ours of an object that a file holds: all of it.
pub(super) fn owned(text: &str) -> Option<Owned> {
    read(text).map(|(_, object)| Owned::of_values(&object))
}

/// A UID that no other object had or will have. Its first half depends on when and by whom it is made, its second one on
/// that and the place: a file that somebody copied elsewhere can be told from the one that we made.
pub(super) fn new_uid(place: &Place) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = Sha256::new();
    hasher.update(jiff::Timestamp::now().as_nanosecond().to_be_bytes());
    hasher.update(std::process::id().to_be_bytes());
    hasher.update(COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let once = half(hasher);
    let part = |from: usize, to: usize| once.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), of_place(&once, place))
}

/// Whether a UID was made for an object at this place.
pub(super) fn is_made_for(uid: &str, place: &Place) -> bool {
    let once: String = uid.chars().filter(|char| *char != '-').take(2 * HALF).collect();
    uid.strip_suffix(&of_place(&once, place)).is_some()
}

/// The second half of a UID that begins like that.
fn of_place(once: &str, place: &Place) -> String {
    let mut hasher = Sha256::new();
    for part in [&once.to_owned()].into_iter().chain(&place.folders).chain([&place.file]) {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let mut half = half(hasher);
    half.insert(4, '-');
    half
}

/// The bytes of half of a UID.
const HALF: usize = 8;

fn half(hasher: Sha256) -> String {
    hasher.finalize().iter().take(HALF).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a new file may take the place of one that is there.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Write {
    /// Only if nothing is there: [`ErrorKind::AlreadyExists`] else.
    Create,
    /// Instead of what is there.
    Replace,
}

/// Writes a file so that, whatever happens, either the old or the new one is there whole.
pub(super) fn write(root: &Path, place: &Place, text: &str, how: Write) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folders = place.folder_paths(root);
    for folder in &folders {
        make_folder(folder)?;
    }
    let staged =
        root.join(STAGING).join(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let staged = Staged(staged);
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(&staged.0)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    let path = place.path(root);
    match how {
        // A link, unlike a rename, fails where something is, so that nobody's file can be lost to a race.
        Write::Create => fs::hard_link(&staged.0, &path)?,
        Write::Replace => fs::rename(&staged.0, &path)?,
    }
    folders.last().map_or(Ok(()), |folder| sync_folder(folder))
}

/// Takes a file away, and the folders in the cluster's own that are empty then.
pub(super) fn remove(root: &Path, place: &Place) -> io::Result<()> {
    match fs::remove_file(place.path(root)) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // The cluster's own folder stays: other clusters are written beside it at the same time.
    let [.., cluster, namespace, kind] = &place.folder_paths(root)[..] else {
        return Ok(());
    };
    let left = [kind, namespace].into_iter().find(|folder| fs::remove_dir(folder).is_err());
    sync_folder(left.unwrap_or(cluster))
}

/// Makes the place for files that are being written, and clears it of what a crash left there.
pub(super) fn prepare(root: &Path) -> io::Result<()> {
    let staging = root.join(STAGING);
    fs::create_dir_all(root)?;
    make_folder(&staging)?;
    for entry in fs::read_dir(&staging)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// A file on its way; whatever is left of it goes when this does.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        // Renamed, it is not there any more; else it is removed here, or by the next `prepare`.
        let _ = fs::remove_file(&self.0);
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Objects may be Secrets, and event data is treated like a Secret's.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
