//! Many live keys over ten real API servers: what a change of the template costs next to a bare client, what is asked when
//! nothing happens, how long a restart takes, and how much memory it takes. Fleet runs in a process of its own ([`side`]).

mod counted;
mod requests;
pub(crate) mod side;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use local_fleet::{ClusterOptions, Lab};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use self::requests::Requests;
use crate::Failure;
use crate::bare;
use crate::fleet::IN_FLIGHT;
use crate::table::{line, median, rate};

/// How often the template is changed.
const ROUNDS: usize = 5;

pub(crate) struct Scale {
    pub(crate) users: usize,
    pub(crate) clusters: usize,
    /// How long it is watched what is asked when nothing happens.
    pub(crate) idle: Duration,
}

pub(crate) async fn measure(scale: &Scale) -> Result<(), Failure> {
    let &Scale { users, clusters, idle } = scale;
    let folder = tempfile::tempdir()?;
    let lab = Lab::builder()
        .clusters(clusters)
        .cluster_options(ClusterOptions::default().controller_manager(false))
        .start_scratch()
        .await?;
    let mut apis = Vec::new();
    for (number, cluster) in lab.clusters().iter().enumerate() {
        std::fs::write(kubeconfig(folder.path(), number), cluster.kubeconfig()?)?;
        apis.push(bare::config_maps(&cluster.kubeconfig()?).await?);
    }
    let servers: Vec<_> = apis.iter().map(|api| api.clone().into_client()).collect();
    let asked = async || -> Result<Requests, Failure> {
        let before = Requests::of(&servers).await?;
        tokio::time::sleep(idle).await;
        Ok(Requests::of(&servers).await?.beyond(&before))
    };
    // What API servers ask themselves, and our own asking.
    let nobody = asked().await?;

    apply(&apis, users, "0").await?;
    let mut fleet = Process::start(folder.path(), scale, "0").await?;
    let loaded = fleet.order("load").await?;
    line("events of all keys to objects, file store", format!("{:.0} /s", rate(users, loaded.took)));
    let loaded = fleet.order("steady").await?;
    let mut ratios = Vec::new();
    let mut value = "0".to_owned();
    for round in 1..=ROUNDS {
        value = round.to_string();
        let edited = fleet.order(&format!("edit {value}")).await?;
        let whole = rate(users, edited.took);
        let bare = apply(&apis, users, &value).await?;
        line(
            &format!("template edit {round}, {users} objects: bare client / fleet / ratio"),
            format!("{bare:.0} / {whole:.0} /s / {:.2}", whole / bare),
        );
        ratios.push(whole / bare);
    }
    line("template edits, median ratio", format!("{:.2}", median(ratios)));
    let edited = fleet.order("steady").await?;
    line(
        "resident memory: loaded / after the edits / peak",
        format!("{} / {} / {}", loaded.memory, edited.memory, edited.peak),
    );

    let with_fleet = asked().await?;
    let ((writes, reads), seconds) = (with_fleet.of_config_maps(), idle.as_secs());
    line(&format!("ConfigMaps in {seconds} s of peace: writes / reads"), format!("{writes} / {reads}"));
    line(
        &format!("requests of any kind in {seconds} s, watches aside: without / with fleet"),
        format!("{} / {}", nobody.total(), with_fleet.total()),
    );
    println!("    more than without fleet: {}", with_fleet.beyond(&nobody));

    fleet.stop().await?;
    let began = Instant::now();
    let mut fleet = Process::start(folder.path(), scale, &value).await?;
    let steady = fleet.order("steady").await?;
    line(
        "restart, from the start of the process until all is steady",
        format!("{:.2} s", began.elapsed().as_secs_f64()),
    );
    line("calls of the applier by then", steady.calls);
    line("resident memory after the restart: now / peak", format!("{} / {}", steady.memory, steady.peak));
    check(&apis, users, &value).await?;
    fleet.stop().await?;
    lab.stop().await?;
    Ok(())
}

/// Where Fleet's side finds the way to a cluster.
fn kubeconfig(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("cluster{number}.yaml"))
}

/// Applies as many objects as Fleet has, with as many requests under way to each cluster. Returns how many a second.
async fn apply(apis: &[Api<ConfigMap>], objects: usize, value: &str) -> Result<f64, Failure> {
    let began = Instant::now();
    let all = apis.iter().enumerate().map(|(first, api)| async move {
        let numbers = (first..objects).step_by(apis.len()).map(Ok);
        let each = async |number| bare::apply(api, &format!("floor-{number}"), value).await;
        futures::stream::iter(numbers).try_for_each_concurrent(IN_FLIGHT, each).await
    });
    futures::future::try_join_all(all).await?;
    Ok(rate(objects, began.elapsed()))
}

/// What Fleet keeps is what the template says.
async fn check(apis: &[Api<ConfigMap>], users: usize, value: &str) -> Result<(), Failure> {
    let mut right = 0;
    for api in apis {
        let kept = api.list(&ListParams::default().labels(fleet_core::manifest::MARK)).await?;
        let is_right = |it: &&ConfigMap| {
            it.data.as_ref().is_some_and(|data| data.get("value").is_some_and(|it| it == value))
        };
        right += kept.iter().filter(is_right).count();
    }
    if right != users {
        Err(format!("{right} of {users} objects are as they should be").into())
    } else {
        Ok(())
    }
}

/// Fleet, in a process of its own.
struct Process {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What came of an order.
struct Done {
    took: Duration,
    calls: String,
    memory: String,
    peak: String,
}

impl Process {
    async fn start(folder: &Path, scale: &Scale, value: &str) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("scale-side")
            .arg(folder)
            .args([scale.clusters.to_string(), scale.users.to_string(), value.to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().ok_or("it takes no orders")?;
        let answers = child.stdout.take().ok_or("it gives no answers")?;
        Ok(Self { child, orders, answers: BufReader::new(answers).lines() })
    }

    /// Has something done, and waits until it is.
    async fn order(&mut self, order: &str) -> Result<Done, Failure> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        let answer = self.answers.next_line().await?.ok_or("fleet's side is gone")?;
        let mut words = answer.split(' ');
        let mut next = || words.next().ok_or("the answer is too short");
        let took = Duration::from_secs_f64(next()?.parse()?);
        let calls = next()?.to_owned();
        let mut memory = || Ok::<_, Failure>(format!("{} MiB", next()?.parse::<u64>()? / 1024));
        Ok(Done { took, calls, memory: memory()?, peak: memory()? })
    }

    async fn stop(mut self) -> Result<(), Failure> {
        self.orders.write_all(b"stop\n").await?;
        if !self.child.wait().await?.success() {
            return Err("fleet's side failed".into());
        }
        Ok(())
    }
}
