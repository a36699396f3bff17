//! Sveltos' manifests, written anew in our kinds and in minijinja.

mod object;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use fleet_core::yaml;
use fleet_kube::definitions::{Definitions, Fault, Location, Problem, RawObject};
use serde_json::Value;

use self::object::Rewriter;
use crate::folder::Folder;

/// What came of it.
#[derive(Debug)]
pub struct Converted {
    /// YAML documents, one for each that was read, in their order. What has no translation stands there as it was.
    pub yaml: String,
    /// What has no translation, in the order of files and lines.
    pub untranslated: Vec<Untranslated>,
}

/// Something that has no translation: where, what, and what to do. Printed as one line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Untranslated {
    file: PathBuf,
    line: u32,
    what: String,
}

impl fmt::Display for Untranslated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Rewrites the manifests of files and folders. Blocks.
pub fn sveltos(paths: &[PathBuf]) -> Converted {
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        let (found, unread) = Folder::objects(path);
        objects.extend(found);
        problems.extend(unread);
    }
    // What cannot be used as it is has no translation either.
    let read = Definitions::read(objects.iter().cloned(), problems, None);
    let told = read.problems.iter().filter(|problem| problem.fault != Fault::MissingReference);
    let mut untranslated: Vec<Untranslated> = told.map(of_problem).collect();
    let mut yaml = String::new();
    for object in &objects {
        let (rewritten, faults) = Rewriter::rewrite(object);
        untranslated.extend(faults.into_iter().map(|fault| of_fault(object, &fault)));
        match yaml::to_string(&rewritten) {
            Ok(document) => {
                yaml.push_str("---\n");
                yaml.push_str(&document);
            }
            Err(error) => untranslated.push(at(object, "", error.to_string())),
        }
    }
    untranslated.sort();
    untranslated.dedup();
    Converted { yaml, untranslated }
}

fn of_problem(problem: &Problem) -> Untranslated {
    let (file, line) = match &problem.location {
        Location::File { file, line } => (file.to_path_buf(), problem.line.unwrap_or(*line)),
        Location::Api => (PathBuf::new(), 1),
    };
    let named =
        problem.object.iter().map(ToString::to_string).chain(problem.field.iter().map(ToString::to_string));
    let what: Vec<String> = named.chain([problem.reason.clone()]).collect();
    Untranslated { file, line, what: what.join(": ") }
}

fn of_fault(object: &RawObject, fault: &object::Fault) -> Untranslated {
    let mut told = at(object, &fault.pointer, fault.reason.clone());
    told.line += fault.line - u32::from(!fault.is_block);
    told
}

fn at(object: &RawObject, pointer: &str, reason: String) -> Untranslated {
    let (file, first) = match &object.location {
        Location::File { file, line } => (file.to_path_buf(), *line),
        Location::Api => (Path::new("").to_path_buf(), 1),
    };
    let line = object.line_of.as_ref().and_then(|line_of| line_of(pointer)).unwrap_or(first);
    let text = |pointer: &str| object.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let field = pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
    let what = format!("{} {}: {field}: {reason}", text("/kind"), text("/metadata/name"));
    Untranslated { file, line, what }
}
