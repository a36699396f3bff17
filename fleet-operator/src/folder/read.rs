//! Finding and parsing the files of a folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet_core::yaml;
use fleet_kube::definitions::{LineOf, Problem, RawObject};
use serde_json::Value;

/// Larger files are no manifests.
const LARGEST: u64 = 4 * 1024 * 1024;
/// More files are no folder of manifests.
const MOST: usize = 10_000;
/// Folders nested deeper are a loop of symbolic links.
const DEEPEST: usize = 32;

/// What is in a folder at one instant.
#[derive(Default)]
pub(super) struct Manifests {
    /// Files that are YAML, by path.
    pub(super) files: BTreeMap<PathBuf, Arc<str>>,
    /// Their objects.
    pub(super) objects: Vec<RawObject>,
    /// What could not be read. As long as there is any of these, something that is missing is not gone.
    pub(super) problems: Vec<Problem>,
}

impl Manifests {
    /// Reads a folder and the folders in it. Names that begin with a dot are left out, as are JSON files that hold
    /// events.
    pub(super) fn find(root: &Path) -> Self {
        let mut paths = Vec::new();
        let mut found = Self::default();
        found.walk(root, 0, &mut paths);
        paths.sort();
        for path in paths {
            found.read(&path);
        }
        if found.objects.is_empty() && found.problems.is_empty() {
            found.unreadable(root, "there are no manifests here; what was defined before stays");
        }
        found
    }

    /// Reads a file.
    pub(super) fn read(&mut self, path: &Path) {
        match read(path) {
            Ok(text) => self.add(path, text),
            Err(error) => self.unreadable(path, &error.to_string()),
        }
    }

    /// Adds a file. One that cannot be parsed is a problem, and counts as not there.
    pub(super) fn add(&mut self, path: &Path, text: String) {
        if text.trim().is_empty() {
            // Somebody may be about to write it.
            return self.unreadable(
                path,
                "it is empty; delete it if that is meant, until then its last good version is used",
            );
        }
        let file: Arc<Path> = path.into();
        let mut objects = Vec::new();
        let mut whole = true;
        for document in yaml::documents(&text) {
            match document {
                Ok(document) if is_json(path) && is_event(&document.value) => {}
                Ok(document) => {
                    let line = document.line;
                    let value = document.value.clone();
                    let line_of: LineOf = Arc::new(move |pointer| Some(document.line_of(pointer)));
                    objects.push(RawObject::in_file(Arc::clone(&file), line, value, line_of));
                }
                Err(error) => {
                    whole = false;
                    self.problems.push(Problem::unreadable(
                        Arc::clone(&file),
                        Some(error.line),
                        format!(
                            "is not YAML: column {}: {}; its last good version is used",
                            error.column, error.reason
                        ),
                    ));
                }
            }
        }
        if whole {
            self.files.insert(path.to_path_buf(), text.into());
            self.objects.append(&mut objects);
        }
    }

    fn walk(&mut self, folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
        if depth > DEEPEST {
            return self
                .unreadable(folder, "folders are nested too deep; is there a loop of symbolic links?");
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(folder, &error.to_string()),
        };
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => return self.unreadable(folder, &error.to_string()),
            };
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            // Follows symbolic links: Kubernetes mounts volumes with them.
            match fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => self.walk(&path, depth + 1, paths),
                Ok(meta) if meta.is_file() && is_manifest(&path) => paths.push(path),
                Ok(_) => {}
                Err(error) if is_manifest(&path) => self.unreadable(&path, &error.to_string()),
                Err(_) => {}
            }
            if paths.len() > MOST {
                return self.unreadable(folder, &format!("there are more than {MOST} manifests here"));
            }
        }
    }

    fn unreadable(&mut self, path: &Path, reason: &str) {
        self.problems.push(Problem::unreadable(path, None, format!("cannot be read: {reason}")));
    }
}

fn read(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    if meta.len() > LARGEST {
        return Err(io::Error::other(format!("it is larger than {LARGEST} bytes")));
    }
    fs::read_to_string(path)
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// Whether this is an event, or a batch of events, that only lies beside the manifests.
fn is_event(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key("specversion"),
        Value::Array(items) => !items.is_empty() && items.iter().all(is_event),
        _ => false,
    }
}
