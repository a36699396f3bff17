//! Programs are found where the user has them, and built where there are none.
//!
//! The other tests get the real programs, and so build them on a fresh machine. Here a stand-in for `go` shows what
//! the real one cannot be made to do: fail, hang, and count how often it is called.

// Clippy lets tests panic, but does not see that their helpers are parts of tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(60);

/// A machine with an empty cache, and nothing on `PATH` but what a test puts there.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("path")).unwrap();
        Machine { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("path")
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn install(&self, program: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_local-fleet"));
        command
            .args(["install", "--only", program])
            .env_clear()
            .env("PATH", self.path())
            .env("FLEET_LAB_CACHE", self.cache())
            .env("CALLS", self.dir.path().join("calls"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Puts a `go` on `PATH` that does this when it is asked to build.
    fn go(&self, build: &str) {
        let go = format!("case $1 in version) exit 0;; esac\necho \"$@\" >> \"$CALLS\"\n{build}");
        script(&self.path(), "go", &go);
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default().lines().count()
    }
}

fn script(folder: &Path, name: &str, body: &str) {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

async fn run(mut command: Command) -> Output {
    timeout(SOON, command.output()).await.unwrap().unwrap()
}

fn found(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{output:?}");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// A build of nats-server that works.
const BUILDS: &str = "echo '#!/bin/sh' > \"$GOBIN/nats-server\"; /bin/chmod +x \"$GOBIN/nats-server\"";

#[tokio::test]
async fn without_go_the_error_says_what_to_do() {
    let output = run(Machine::new().install("etcd")).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for part in ["etcd", "no `go` on PATH", "Install Go", "KUBEBUILDER_ASSETS"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn the_assets_folder_comes_first() {
    let machine = Machine::new();
    let assets = tempfile::tempdir().unwrap();
    for folder in [&machine.path(), assets.path()] {
        script(folder, "etcd", "echo etcd Version: 99.0.0");
    }
    let mut install = machine.install("etcd");
    install.env("KUBEBUILDER_ASSETS", assets.path());
    assert_eq!(found(&run(install).await), assets.path().join("etcd"));
}

#[tokio::test]
async fn on_path_only_a_version_that_will_do_counts() {
    for (version, will_do) in [("3.6.0", true), ("3.9.1", true), ("3.5.30", false), ("4.0.0", false)] {
        let machine = Machine::new();
        script(&machine.path(), "etcd", &format!("echo etcd Version: {version}"));
        let output = run(machine.install("etcd")).await;
        assert_eq!(output.status.success(), will_do, "{version}: {output:?}");
    }
}

#[tokio::test]
async fn two_that_want_the_same_program_build_it_once() {
    let machine = Machine::new();
    machine.go(BUILDS);
    let (one, other) = tokio::join!(run(machine.install("nats-server")), run(machine.install("nats-server")));
    assert_eq!(found(&one), found(&other));
    assert!(found(&one).starts_with(machine.cache()));
    assert_eq!(machine.calls(), 1);
    // And who comes later builds nothing, with or without go.
    fs::remove_file(machine.path().join("go")).unwrap();
    assert_eq!(found(&run(machine.install("nats-server")).await), found(&one));
}

#[tokio::test]
async fn a_failed_build_says_why_and_can_be_tried_again() {
    let machine = Machine::new();
    machine.go("echo disk full >&2; exit 1");
    let output = run(machine.install("nats-server")).await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("disk full"), "{output:?}");
    machine.go(BUILDS);
    found(&run(machine.install("nats-server")).await);
}

#[tokio::test]
async fn an_interrupted_build_ends_and_leaves_no_half_program() {
    let machine = Machine::new();
    machine.go("echo half > \"$GOBIN/nats-server\"; exec /bin/sleep 600");
    let installing = machine.install("nats-server").spawn().unwrap();
    let deadline = Instant::now() + SOON;
    while machine.calls() == 0 {
        assert!(Instant::now() < deadline, "go was not called");
        sleep(Duration::from_millis(10)).await;
    }
    let pid = Pid::from_raw(installing.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    timeout(SOON, installing.wait_with_output()).await.unwrap().unwrap();
    machine.go(BUILDS);
    let path = found(&run(machine.install("nats-server")).await);
    assert_ne!(fs::read_to_string(path).unwrap(), "half\n");
    assert_eq!(machine.calls(), 2);
}
