//! Runs of helm on a release: they take as long as they take, while calls of the Applier come and go.
//!
//! A release has one run at a time. A run holds a lock file, and so does its process: after a crash, the lock tells whether
//! a helm that lost its operator is still at work.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_core::apply::{ChartVersion, Identity, Outcome};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::MARK;
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::charts::Charts;
use super::live::{ADOPTED, CHART, INPUTS, REVISION};
use super::program::{Flavour, Program, Room, Run, Unrun};
use super::spec::{Release, hex};
use super::words::{Secrets, of_run};
use crate::clusters::Link;

/// So much longer than helm itself is told to wait it may take before it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// Names a release in all clusters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) cluster: ClusterId,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    fn file(&self) -> String {
        let text = format!("{}\n{}\n{}", self.cluster, self.namespace, self.name);
        format!("{}.lock", hex(&Sha256::digest(text), 20))
    }
}

/// Where a run works, and as whom.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) link: Arc<Link>,
    pub(super) identity: Option<Identity>,
    pub(super) key: Key,
}

/// What a run is to do.
#[derive(Clone)]
pub(super) enum Task {
    /// Install it, or upgrade it to this revision.
    Upgrade {
        release: Arc<Release>,
        mark: String,
        revision: u32,
        adopted: bool,
        creates_namespace: bool,
        /// The version of the chart that it has to keep.
        same: Option<String>,
    },
    /// Take up a revision again that was there before one that was broken off.
    RollBack {
        to: u32,
        revision: u32,
        timeout: Duration,
    },
    Uninstall {
        timeout: Duration,
    },
}

impl Task {
    /// What it is made of, where it is made of anything.
    fn inputs(&self) -> Option<&str> {
        match self {
            Self::Upgrade { release, .. } => Some(&release.inputs),
            _ => None,
        }
    }
}

/// How a run came out: what it installed, or the outcome for its release.
pub(super) type End = Result<Option<ChartVersion>, Outcome>;

/// The runs that are under way, and those whose end nobody has heard of.
#[derive(Default)]
pub(super) struct Operations(Mutex<HashMap<Key, Operation>>);

struct Operation {
    inputs: Option<String>,
    end: watch::Receiver<Option<End>>,
    _task: AbortOnDropHandle<()>,
}

/// What is needed to run helm.
pub(super) struct Workshop {
    pub(super) program: Program,
    pub(super) charts: Charts,
}

impl Operations {
    /// The end of the run on a release that was under way, and what it was made of. `None` if there was none; `Err` if it
    /// has not ended by then.
    pub(super) async fn ended(&self, key: &Key, by: Instant) -> Result<Option<(Option<String>, End)>, ()> {
        let found = {
            let operations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            operations.get(key).map(|operation| (operation.inputs.clone(), operation.end.clone()))
        };
        let Some((inputs, mut end)) = found else { return Ok(None) };
        let ended = match tokio::time::timeout_at(by, end.wait_for(Option::is_some)).await {
            Err(_) => return Err(()),
            Ok(Ok(end)) => end.clone(),
            Ok(Err(_)) => None,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let panicked = || {
            Err(Outcome::Unknown {
                reason: "a run of helm broke off; this is a bug, please report it".to_owned(),
            })
        };
        Ok(Some((inputs, ended.unwrap_or_else(panicked))))
    }

    /// Begins a run, unless one is under way.
    pub(super) fn begin(&self, workshop: &Arc<Workshop>, place: Place, task: Task) {
        let mut operations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if operations.contains_key(&place.key) {
            return;
        }
        let (key, inputs) = (place.key.clone(), task.inputs().map(str::to_owned));
        let (tell, end) = watch::channel(None);
        let workshop = Arc::clone(workshop);
        let running = tokio::spawn(async move {
            let ended = workshop.carry_out(&place, task).await;
            tell.send_replace(Some(ended));
        });
        operations.insert(key, Operation { inputs, end, _task: AbortOnDropHandle::new(running) });
    }
}

/// A release that this process alone runs helm on.
pub(super) struct Held {
    file: File,
    begun: Option<u32>,
}

impl Held {
    /// The revision that was last begun here.
    pub(super) fn begun(&self) -> Option<u32> {
        self.begun
    }

    fn note(&mut self, revision: u32) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(revision.to_string().as_bytes())
    }
}

impl Workshop {
    /// Takes a release; `None` while a helm is at work on it that somebody else, or an earlier process, began here.
    pub(super) fn hold(&self, key: &Key) -> Result<Option<Held>, Unrun> {
        let path = self.program.subfolder("running")?.join(key.file());
        let opened = || -> std::io::Result<Option<Held>> {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
                Err(std::fs::TryLockError::Error(error)) => return Err(error),
            }
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Some(Held { file, begun: text.trim().parse().ok() }))
        };
        opened().map_err(|source| Unrun::Folder { path: path.clone(), source })
    }

    async fn carry_out(&self, place: &Place, task: Task) -> End {
        match task {
            Task::Upgrade { release, mark, revision, adopted, creates_namespace, same } => {
                let flavour = self.flavour().await?;
                let chart = self.charts.get(&self.program, &release, same.as_deref()).await?;
                let mut args = upgrade(&release, &chart.file, flavour, creates_namespace);
                let mut labels = format!(
                    "{MARK}={mark},{INPUTS}={},{REVISION}={revision},{CHART}={}",
                    release.inputs,
                    chart.label()
                );
                if adopted {
                    labels.push_str(&format!(",{ADOPTED}=true"));
                }
                args.extend(["--labels".into(), labels.into()]);
                let secrets = Secrets::of(&release.spec.values, []);
                let run = OnRelease {
                    place,
                    args,
                    values: Some(&release.spec.values),
                    revision: Some(revision),
                    within: release.timeout + GRACE,
                };
                self.on_release(run).await.map_err(|unrun| of_run(unrun, "helm upgrade", &secrets))?;
                Ok(Some(chart.is))
            }
            Task::RollBack { to, revision, timeout } => {
                let flavour = self.flavour().await?;
                let mut args: Vec<OsString> =
                    vec!["rollback".into(), (&place.key.name).into(), to.to_string().into()];
                args.extend(["--no-hooks".into()]);
                args.extend(timed(timeout));
                if flavour == Flavour::Four {
                    args.extend(["--server-side=true".into(), "--force-conflicts".into()]);
                }
                self.simple(place, args, "helm rollback", (Some(revision), timeout)).await
            }
            Task::Uninstall { timeout } => {
                let mut args: Vec<OsString> = vec!["uninstall".into(), (&place.key.name).into()];
                args.push("--ignore-not-found".into());
                args.extend(timed(timeout));
                self.simple(place, args, "helm uninstall", (None, timeout)).await
            }
        }
    }

    /// What an upgrade would bring about: what it prints, which holds whatever the chart renders.
    pub(super) async fn rehearse(
        &self,
        place: &Place,
        release: &Release,
        creates_namespace: bool,
        within: Duration,
    ) -> Result<(Vec<u8>, ChartVersion), Outcome> {
        let flavour = self.flavour().await?;
        let chart = self.charts.get(&self.program, release, None).await?;
        let mut args = upgrade(release, &chart.file, flavour, creates_namespace);
        args.extend(["--dry-run=server".into(), "--output=json".into()]);
        let secrets = Secrets::of(&release.spec.values, []);
        let run = OnRelease { place, args, values: Some(&release.spec.values), revision: None, within };
        let printed =
            self.print(run).await.map_err(|unrun| of_run(unrun, "helm upgrade --dry-run", &secrets))?;
        Ok((printed, chart.is))
    }

    async fn flavour(&self) -> Result<Flavour, Outcome> {
        self.program.flavour().await.map_err(|unrun| of_run(unrun, "helm version", &Secrets::default()))
    }

    async fn simple(
        &self,
        place: &Place,
        args: Vec<OsString>,
        what: &str,
        (revision, timeout): (Option<u32>, Duration),
    ) -> End {
        let run = OnRelease { place, args, values: None, revision, within: timeout + GRACE };
        let done = self.on_release(run).await;
        done.map(|()| None).map_err(|unrun| of_run(unrun, what, &Secrets::default()))
    }

    async fn on_release(&self, run: OnRelease<'_>) -> Result<(), Unrun> {
        let mut held = self.hold(&run.place.key)?.ok_or(Unrun::Busy)?;
        if let Some(revision) = run.revision {
            let path = || self.program.folder().join("running");
            held.note(revision).map_err(|source| Unrun::Folder { path: path(), source })?;
        }
        let room = Room::new(&self.program)?;
        let host = run.place.link.client.url().host().map(str::to_owned);
        let args = run.dressed(&room)?;
        let run =
            Run { args, room: &room, held: Some(held.file), no_proxy: host.as_deref(), within: run.within };
        self.program.run(run).await
    }

    async fn print(&self, run: OnRelease<'_>) -> Result<Vec<u8>, Unrun> {
        let room = Room::new(&self.program)?;
        let host = run.place.link.client.url().host().map(str::to_owned);
        let args = run.dressed(&room)?;
        let run = Run { args, room: &room, held: None, no_proxy: host.as_deref(), within: run.within };
        self.program.print(run).await
    }
}

/// A run of helm that goes to a cluster.
struct OnRelease<'a> {
    place: &'a Place,
    args: Vec<OsString>,
    values: Option<&'a Map<String, Value>>,
    /// The revision that it makes.
    revision: Option<u32>,
    within: Duration,
}

impl OnRelease<'_> {
    /// The arguments, with the files that they name put into a room.
    fn dressed(&self, room: &Room) -> Result<Vec<OsString>, Unrun> {
        let Place { link, identity, key } = self.place;
        let kubeconfig = link.client.kubeconfig().map_err(|fault| Unrun::Unusable(fault.to_string()))?;
        let kubeconfig = room.write("kubeconfig", kubeconfig.expose_secret())?;
        let mut args = self.args.clone();
        args.extend([
            "--namespace".into(),
            (&key.namespace).into(),
            "--kubeconfig".into(),
            kubeconfig.into(),
        ]);
        if let Some(Identity { namespace, name }) = identity {
            args.extend([
                "--kube-as-user".into(),
                format!("system:serviceaccount:{namespace}:{name}").into(),
            ]);
        }
        if let Some(values) = self.values {
            let file = room.write("values.yaml", &as_yaml(values))?;
            args.extend(["--values".into(), file.into()]);
        }
        Ok(args)
    }
}

/// JSON is YAML, but for what Go's reader does not take as it stands in a text.
fn as_yaml(values: &Map<String, Value>) -> String {
    let json = Value::Object(values.clone()).to_string();
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

fn timed(timeout: Duration) -> [OsString; 2] {
    ["--timeout".into(), format!("{}s", timeout.as_secs().max(1)).into()]
}

fn upgrade(
    release: &Release,
    chart: &std::path::Path,
    flavour: Flavour,
    creates_namespace: bool,
) -> Vec<OsString> {
    let options = &release.spec.options;
    // Without --reset-values helm goes on with the values of before where none are given.
    let mut args: Vec<OsString> = vec![
        "upgrade".into(),
        (&release.name).into(),
        PathBuf::from(chart).into(),
        "--install".into(),
        "--reset-values".into(),
    ];
    args.extend(timed(release.timeout));
    args.extend([
        "--history-max".into(),
        options.upgrade_options.max_history.unwrap_or(10).to_string().into(),
    ]);
    let flags = [
        ("--create-namespace", creates_namespace && options.install_options.create_namespace),
        ("--wait", options.wait),
        ("--wait-for-jobs", options.wait_for_jobs),
        ("--atomic", options.atomic && flavour == Flavour::Three),
        ("--rollback-on-failure", options.atomic && flavour == Flavour::Four),
        ("--skip-crds", options.skip_crds),
        ("--no-hooks", options.disable_hooks),
        ("--disable-openapi-validation", options.disable_openapi_validation),
        ("--skip-schema-validation", options.skip_schema_validation),
        // As with objects that are not a chart's: what is ours is put right, whoever changed it.
        ("--server-side=true", flavour == Flavour::Four),
        ("--force-conflicts", flavour == Flavour::Four),
    ];
    args.extend(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag.into()));
    args
}
