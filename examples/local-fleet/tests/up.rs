//! `local-fleet up` gives what it promises, and leaves nothing behind however it ends.

// Clippy lets tests panic, but does not see that their helpers are parts of tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// The first start may build programs.
const READY_WITHIN: Duration = Duration::from_secs(60 * 60);
const SOON: Duration = Duration::from_secs(60);

/// Starts the lab and waits for its last line.
async fn up(dir: &Path, clusters: u32) -> Child {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_local-fleet"))
        .args(["up", "--clusters", &clusters.to_string(), "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(lab.stdout.take().unwrap()).lines();
    let ready = async {
        loop {
            match lines.next_line().await.unwrap() {
                Some(line) if line == "ready" => return,
                Some(_) => {}
                None => panic!("it ended before it was ready"),
            }
        }
    };
    timeout(READY_WITHIN, ready).await.unwrap();
    lab
}

fn signal(lab: &Child, signal: Signal) {
    kill_process(Pid::from_raw(lab.id().unwrap().try_into().unwrap()).unwrap(), signal).unwrap();
}

/// The processes, other than the lab itself, that have the folder in their arguments.
fn servers(dir: &Path) -> Vec<String> {
    let dir = dir.join("servers").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok())
        .filter(|arguments| arguments.contains(&dir))
        .collect()
}

async fn until_no_server_runs(dir: &Path) {
    let deadline = Instant::now() + SOON;
    while !servers(dir).is_empty() {
        assert!(Instant::now() < deadline, "still running: {:?}", servers(dir));
        sleep(Duration::from_millis(20)).await;
    }
}

/// What a user types, with the folder's programs and variables.
async fn shell(dir: &Path, line: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", &format!(". ./nats.env; PATH=\"$PWD/bin:$PATH\"; {line}")])
        .env("KUBECONFIG", dir.join("management.kubeconfig"))
        .current_dir(dir)
        .kill_on_drop(true)
        .output();
    let output = timeout(SOON, output).await.unwrap().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_folder_has_what_a_user_needs_and_outlives_a_hard_kill() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let mut lab = up(&dir, 2).await;
    // etcd, nats-server, and an API server and a controller manager for each of three clusters.
    assert_eq!(servers(&dir).len(), 8);
    for secret in ["management.kubeconfig", "cluster1.kubeconfig", "cluster2.kubeconfig", "nats.env"] {
        let mode = fs::metadata(dir.join(secret)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{secret}");
    }
    shell(&dir, "kubectl create namespace kept").await;
    shell(&dir, "kubectl --kubeconfig cluster2.kubeconfig create namespace elsewhere").await;
    assert!(!shell(&dir, "kubectl get namespaces -o name").await.contains("elsewhere"));
    shell(&dir, "nats stream add EVENTS --subjects=events --defaults && nats pub events hello").await;
    assert!(shell(&dir, "helm ls -o json").await.starts_with("[]"));
    for program in ["etcd", "kube-apiserver", "kube-controller-manager", "nats-server"] {
        shell(&dir, &format!("{program} --version")).await;
    }

    let taken = Command::new(env!("CARGO_BIN_EXE_local-fleet"))
        .args(["up", "--dir"])
        .arg(&dir)
        .kill_on_drop(true)
        .output();
    let taken = timeout(SOON, taken).await.unwrap().unwrap();
    assert!(!taken.status.success());
    assert!(String::from_utf8_lossy(&taken.stderr).contains("in use by another lab"), "{taken:?}");

    signal(&lab, Signal::KILL);
    lab.wait().await.unwrap();
    until_no_server_runs(&dir).await;

    let mut lab = up(&dir, 1).await;
    assert!(shell(&dir, "kubectl get namespaces -o name").await.contains("namespace/kept"));
    assert!(shell(&dir, "nats stream get EVENTS 1").await.contains("hello"));
    assert!(!dir.join("cluster2.kubeconfig").exists(), "there is no second cluster any more");
    signal(&lab, Signal::TERM);
    let status = timeout(SOON, lab.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(servers(&dir), Vec::<String>::new());
}

#[tokio::test]
async fn stopping_while_it_starts_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let mut lab = Command::new(env!("CARGO_BIN_EXE_local-fleet"))
        .args(["up", "--dir"])
        .arg(&dir)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + READY_WITHIN;
    while servers(&dir).len() < 3 {
        assert!(lab.try_wait().unwrap().is_none() && Instant::now() < deadline, "it does not start");
        sleep(Duration::from_millis(20)).await;
    }
    signal(&lab, Signal::INT);
    let status = timeout(SOON, lab.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    until_no_server_runs(&dir).await;
}
