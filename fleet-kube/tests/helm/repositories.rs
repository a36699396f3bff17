//! Charts by password, by TLS with an authority of one's own, and from an OCI registry.

use std::process::Stdio;

use fleet_core::apply::Outcome;
use local_fleet::{Program, Progress, install};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::repository::{PASSWORD, Repository, USER};
use super::world::{LONG, World, reason};

#[tokio::test]
async fn a_repository_by_password() {
    let world = World::new("by-password").await;
    let repository = Repository::by_password(&world.dir.path().join("charts")).await;
    let release = |password: &str| {
        let credentials = json!({"username": USER, "password": password});
        world.release(json!({"repositoryURL": repository.url, "credentials": credentials}))
    };
    let refused = world.apply(&release("s3cret-but-wrong"), &[]).await;
    assert!(matches!(refused, Outcome::Rejected { .. }), "{refused:?}");
    assert!(reason(&refused).contains("registryCredentialsConfig") && !reason(&refused).contains("s3cret"));
    let without = world.apply(&world.release(json!({"repositoryURL": repository.url})), &[]).await;
    assert!(reason(&without).contains("credentials"), "{without:?}");
    let right = release(PASSWORD);
    let item = world.applied(&right, &[]).await;
    // Another password is no other release.
    let runs = world.runs();
    world.applied(&release("s3cret-of-later"), &[item]).await;
    assert_eq!(world.runs(), runs);
    // Somebody without the password does not get what was pulled with it.
    let values = json!({"values": {"count": 2}, "repositoryURL": repository.url});
    let refused = world.apply(&world.release(values), &[]).await;
    assert!(reason(&refused).contains("credentials"), "{refused:?}");
    let seen = std::fs::read_to_string(world.dir.path().join("runs")).unwrap();
    assert!(!seen.contains("s3cret"), "a command line is for everybody to see");
}

#[tokio::test]
async fn a_repository_with_a_certificate_of_its_own() {
    let world = World::new("own-authority").await;
    let repository = Repository::with_tls(&world.dir.path().join("charts")).await;
    let with =
        |credentials| world.release(json!({"repositoryURL": repository.url, "credentials": credentials}));
    let refused = world.apply(&with(json!({})), &[]).await;
    assert!(reason(&refused).contains("certificate"), "{refused:?}");
    world.applied(&with(json!({"ca": repository.ca})), &[]).await;
    let values = json!({"repositoryURL": repository.url, "credentials": {"insecureSkipTLSVerify": true}, "values": {"count": 2}});
    world.applied(&world.release(values), &[]).await;
    assert_eq!(world.data("beacon").await.unwrap()["count"], "2");
}

struct Registry {
    host: String,
    _child: Child,
}

impl Registry {
    async fn start() -> Self {
        let program = install::find(Program::Registry, &Progress::default()).await.unwrap();
        let mut child = Command::new(program)
            .args(["--port", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = tokio::time::timeout(LONG, said.next_line()).await.unwrap().unwrap().unwrap();
        let port = line.rsplit(' ').next().unwrap().to_owned();
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Self { host: format!("localhost:{port}"), _child: child }
    }
}

async fn from_a_registry(world: World) {
    let registry = Registry::start().await;
    let url = format!("oci://{}/charts", registry.host);
    super::repository::run(
        &world.program,
        &["push", &world.chart("1.1.0"), &url, "--plain-http"],
        world.dir.path(),
    )
    .await;
    let of = |version: &str| {
        world.release(json!({
            "repositoryURL": url, "repositoryName": "ours", "chartName": "ours/beacon", "chartVersion": version,
            "credentials": {"plainHTTP": true},
        }))
    };
    let item = world.applied(&of("1.1.0"), &[]).await;
    assert_eq!(&*item.chart.unwrap().version, "1.1.0");
    assert_eq!(world.data("beacon").await.unwrap()["chart"], "1.1.0");
    let missing = world.apply(&of("7.0.0"), &[]).await;
    assert!(reason(&missing).contains("no such chart or version"), "{missing:?}");
}

#[tokio::test]
async fn a_chart_from_a_registry_by_helm_4() {
    from_a_registry(World::new("oci-four").await).await;
}

#[tokio::test]
async fn a_chart_from_a_registry_by_helm_3() {
    from_a_registry(World::with("oci-three", Program::Helm3).await).await;
}
