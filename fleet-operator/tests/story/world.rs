//! What one story has for itself: a nats-server, perhaps a management cluster, an operator, and a shell to type in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use local_fleet::{Cluster, ClusterOptions, Nats, NatsAccess, NatsAuth, NatsOptions, Route, User};
use serde_json::Value;

use crate::process::{Home, Operator, PROGRAM};
use crate::stage::{Managed, cluster, stage, wait_for};
use crate::wait::until;

pub(crate) struct World {
    // Dropped first: the operator's files are inside.
    pub(crate) home: Home,
    management: Option<Cluster>,
    client: async_nats::Client,
    nats: Nats,
    dir: tempfile::TempDir,
}

impl World {
    /// Without a management cluster.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = NatsOptions::default().jetstream(true).auth(NatsAuth::UserPassword);
        let nats = wait_for(Nats::start(dir.path(), &options)).unwrap();
        nats.write_env(dir.path().join("nats.env")).unwrap();
        let NatsAccess::UserPassword { user, password } = nats.access() else {
            panic!("NATS with user and password was asked for");
        };
        let connect = async_nats::ConnectOptions::with_user_and_password(user.clone(), password.clone());
        let client = wait_for(connect.connect(nats.url(Route::Direct))).unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for program in stage().programs().iter().map(PathBuf::as_path).chain([Path::new(PROGRAM)]) {
            symlink(program, bin.join(program.file_name().unwrap())).unwrap();
        }
        for number in 1..=stage().lab().clusters().len() {
            let Managed { name, kubeconfig, .. } = cluster(number);
            fs::write(dir.path().join(format!("{name}.kubeconfig")), kubeconfig).unwrap();
        }
        let home = Home::new();
        fs::create_dir(home.folder()).unwrap();
        Self { home, management: None, client, nats, dir }
    }

    /// With a management cluster of this name, which knows our kinds and nothing else.
    pub(crate) fn with_management(name: &str) -> Self {
        let mut world = Self::new();
        // Nothing is deleted there that needs a controller.
        let options = ClusterOptions::default().controller_manager(false);
        let etcd = stage().lab().etcd().unwrap();
        let management = wait_for(Cluster::start(etcd, world.dir(), name, &options)).unwrap();
        management.write_kubeconfig(world.management_kubeconfig(), User::Admin, Route::Direct).unwrap();
        world.management = Some(management);
        world.sh("fleet-operator crds | kubectl apply --server-side -f -");
        world.sh("kubectl wait --for=condition=Established crd --all");
        world
    }

    /// The folder that the shell knows as `$DIR`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn nats(&self) -> &Nats {
        &self.nats
    }

    pub(crate) fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// Runs commands as a user has them: in the root of the sources, with the programs in the path, `KUBECONFIG` of the
    /// management cluster and the variables of `nats.env`.
    pub(crate) fn try_sh(&self, script: &str) -> Output {
        let dir = self.dir().display();
        let script = format!("set -eu; . '{dir}/nats.env'; export DIR='{dir}'\n{script}");
        let mut path = self.dir().join("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Command::new("sh")
            .args(["-c", &script])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .env("PATH", path)
            .env("KUBECONFIG", self.management_kubeconfig())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// As [`try_sh`](Self::try_sh); it has to succeed. What it printed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{stderr}\n{}", self.home.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Registers a managed cluster in namespace civo.
    pub(crate) fn register(&self, cluster: &str, labels: &str) {
        self.sh(&format!(
            "fleet-operator register cluster {cluster} --namespace civo --kubeconfig $DIR/{cluster}.kubeconfig \
             --labels {labels}"
        ));
    }

    /// Applies the example, and a Secret with the lab's NATS, as the README says.
    pub(crate) fn apply_example(&self) {
        self.sh("kubectl apply -f examples/user-namespaces/");
        self.sh(&nats_secret("\"$NATS_PASSWORD\""));
    }

    pub(crate) fn start(&self) -> Operator<'_> {
        self.home.start_managed(&self.management_kubeconfig())
    }

    pub(crate) fn management_kubeconfig(&self) -> PathBuf {
        self.dir().join("management.kubeconfig")
    }

    /// Waits until objects of a kind say that they are ready, as `kubectl wait` sees it.
    pub(crate) fn ready(&self, what: &str) {
        self.sh(&format!("kubectl wait --for=condition=Ready --timeout=60s {what}"));
    }

    /// Publishes with the `nats` program.
    pub(crate) fn publish(&self, subject: &str, event: &str) {
        let file = self.dir().join("event.json");
        fs::write(&file, event).unwrap();
        self.sh(&format!("nats pub {subject} \"$(cat '{}')\"", file.display()));
    }

    /// Publishes one event after the other, as fast as a client can.
    pub(crate) fn publish_all(&self, subject: &str, events: &[String]) {
        wait_for(async {
            for event in events {
                self.client.publish(subject.to_owned(), event.clone().into()).await.unwrap();
            }
            self.client.flush().await.unwrap();
        });
    }

    /// URL, user and password of NATS.
    pub(crate) fn access(&self) -> (String, String, String) {
        match self.nats.access() {
            NatsAccess::UserPassword { user, password } => {
                (self.nats.url(Route::Direct), user.clone(), password.clone())
            }
            _ => panic!("NATS with user and password was asked for"),
        }
    }

    pub(crate) fn show_addons(&self) -> String {
        self.sh(&format!("fleet-operator show addons --data '{}'", self.home.data().display()))
    }

    /// Stops the operator as an init system does, which must not take long.
    pub(crate) fn stops_within(&self, operator: Operator<'_>, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        let status = operator.stop();
        assert!(begun.elapsed() < limit, "it took {:?} to stop\n{}", begun.elapsed(), self.log());
        status
    }

    /// The Ready condition of an object, once it is as wanted.
    pub(crate) fn condition(&self, object: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("the condition of {object}"), || {
            let yaml = self.try_sh(&format!("kubectl get {object} -o json"));
            let seen: Value = serde_json::from_slice(&yaml.stdout).unwrap_or_default();
            let conditions = seen["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
            match ready {
                Some(ready) if wanted(&ready) => Ok(ready),
                other => Err(format!("{other:?}\n{}", self.home.log())),
            }
        })
    }

    pub(crate) fn log(&self) -> String {
        self.home.log()
    }
}

/// The command that writes the Secret with the connection to NATS.
pub(crate) fn nats_secret(password: &str) -> String {
    format!(
        "kubectl create secret generic nats --namespace default --from-literal=url=\"$NATS_URL\" \
         --from-literal=user=\"$NATS_USER\" --from-literal=password={password} --dry-run=client -o yaml |
         kubectl apply --server-side --force-conflicts -f -"
    )
}
