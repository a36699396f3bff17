//! The program: what is appended is applied, and a kill costs nothing.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected says so and stops")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Ends with the test.
struct Program(Child);

impl Program {
    fn start(folder: &Path) -> Self {
        Self(Command::new(env!("CARGO_BIN_EXE_custom-source")).arg(folder).spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn append(folder: &Path, ty: &str, subject: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join("events.jsonl")).unwrap();
    let line =
        format!(r#"{{"specversion":"1.0","id":"1","source":"auth","type":"{ty}","subject":"{subject}"}}"#);
    writeln!(file, "{line}").unwrap();
}

/// Waits until these namespaces are there, and no other.
fn until_there(folder: &Path, expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let there = || {
        let files = fs::read_dir(folder.join("clusters/civo/cluster1/_cluster/namespace.core")).ok();
        let names = files.into_iter().flatten().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned)).collect();
        names.sort();
        names
    };
    while there() != expected {
        assert!(Instant::now() < deadline, "{:?} are there, not {expected:?}", there());
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn lines_become_namespaces_and_a_kill_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    append(folder, "login", "anna");
    let program = Program::start(folder);
    append(folder, "login", "ben");
    until_there(folder, &["anna", "ben"]);
    append(folder, "logout", "anna");
    drop(program);
    append(folder, "login", "carla");
    let _program = Program::start(folder);
    until_there(folder, &["ben", "carla"]);
}
