//! An operator as a user has it: a process, its command line, and its files.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_fleet-operator");
/// How long anything may take before a test gives up. Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// Waits until something holds.
pub(crate) fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder for everything that one operator has, which outlives its process.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A home with a copy of an example, which the test may change.
    pub(crate) fn with(name: &str) -> Self {
        let home = Self::new();
        fs::create_dir(home.folder()).unwrap();
        for entry in fs::read_dir(example(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, home.folder().join(path.file_name().unwrap())).unwrap();
        }
        home
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn cluster_file(&self, cluster: &str, file: &str) -> PathBuf {
        self.data().join("clusters/civo").join(cluster).join("_cluster").join(file)
    }

    pub(crate) fn namespace_file(&self, cluster: &str, name: &str) -> PathBuf {
        self.cluster_file(cluster, &format!("namespace.core/{name}.yaml"))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder().join(name), text).unwrap();
    }

    /// Replaces text in a manifest.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.folder().join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} does not hold {from:?}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A command that looks at the data folder.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        Command::new(PROGRAM).args(args).arg("--data").arg(self.data()).output().unwrap()
    }

    pub(crate) fn show(&self, what: &str) -> Vec<Value> {
        rows(&self.cli(&["show", what, "-o", "json"]))
    }

    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        rows(&self.cli(&["dead-letters", "list", "-o", "json"]))
    }

    pub(crate) fn start(&self) -> Operator<'_> {
        self.start_on(&self.folder())
    }

    pub(crate) fn start_on(&self, folder: &Path) -> Operator<'_> {
        self.run(|run| run.arg(folder))
    }

    /// Runs on a management cluster.
    pub(crate) fn start_managed(&self, kubeconfig: &Path) -> Operator<'_> {
        self.run(|run| run.env("KUBECONFIG", kubeconfig))
    }

    /// The command that runs an operator, without what it runs on. It appends to the home's log.
    pub(crate) fn command(&self) -> Command {
        self.command_of("run")
    }

    fn command_of(&self, what: &str) -> Command {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args([what, "--listen", "127.0.0.1:0", "--data"]).arg(self.data());
        command.env_remove("RUST_LOG").env_remove("KUBECONFIG").stdout(Stdio::null()).stderr(log);
        command
    }

    /// Runs, and is ready.
    pub(crate) fn run(&self, how: impl FnOnce(&mut Command) -> &mut Command) -> Operator<'_> {
        let operator = self.launch(how);
        operator.becomes_ready();
        operator
    }

    /// Runs, ready or not.
    pub(crate) fn launch(&self, how: impl FnOnce(&mut Command) -> &mut Command) -> Operator<'_> {
        self.launch_command(how(&mut self.command()))
    }

    /// An agent, ready or not.
    pub(crate) fn launch_agent(&self, how: impl FnOnce(&mut Command) -> &mut Command) -> Operator<'_> {
        self.launch_command(how(&mut self.command_of("agent")))
    }

    fn launch_command(&self, command: &mut Command) -> Operator<'_> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut greeting = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !greeting.contains("show addons") {
            assert!(stdout.read_line(&mut greeting).unwrap() > 0, "it ended: {greeting}{}", self.log());
        }
        let url = greeting.split_whitespace().find(|word| word.starts_with("http")).unwrap().to_owned();
        Operator { home: self, child, url, greeting }
    }
}

fn rows(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A running operator. Dropped, it is killed.
pub(crate) struct Operator<'a> {
    home: &'a Home,
    child: Child,
    /// Where events are sent.
    pub(crate) url: String,
    pub(crate) greeting: String,
}

impl Operator<'_> {
    /// `send` with an event from stdin.
    pub(crate) fn send(&self, event: &str) -> Output {
        let mut child = Command::new(PROGRAM)
            .args(["send", "-", "--to", &self.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(event.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Sends an event that has to be taken.
    pub(crate) fn accepts(&self, event: &str) {
        let output = self.send(event);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.home.log());
    }

    /// `send` with a file of the quickstart.
    pub(crate) fn send_example(&self, file: &str) {
        let file = example("quickstart").join(file);
        let output = Command::new(PROGRAM).arg("send").arg(file).args(["--to", &self.url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A request as it stands; status and body.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, String) {
        use std::io::Read;
        let address = self.url.trim_start_matches("http://").trim_end_matches("/events");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let mut head = format!(
            "{method} /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses early closes before it has read all.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn becomes_ready(&self) {
        eventually(&format!("ready\n{}", self.home.log()), || (self.get("readyz").0 == 200).then_some(()));
    }

    /// Stops it as an init system does.
    pub(crate) fn stop(self) -> ExitStatus {
        self.signal("-TERM");
        self.ends()
    }

    /// Waits until it has ended.
    pub(crate) fn ends(mut self) -> ExitStatus {
        eventually("it ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills it hard.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Operator<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An event about a user.
pub(crate) fn event(what: &str, subject: &str) -> String {
    serde_json::json!({
        "specversion": "1.0", "type": format!("auth.example.com.{what}"), "source": "auth.example.com",
        "id": "10001", "subject": subject, "data": {"secret": "hunter2"},
    })
    .to_string()
}
