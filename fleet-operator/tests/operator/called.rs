//! The program as a plugin of kubectl, and what shells know of it.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use local_fleet::{Program, Progress, install};

use crate::process::PROGRAM;

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn as_a_plugin_it_is_called_kubectl_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("kubectl-fleet");
    symlink(PROGRAM, &plugin).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kubectl = runtime.block_on(install::find(Program::Kubectl, &Progress::default())).unwrap();
    let called = |args: &[&str]| {
        Command::new(&kubectl).arg("fleet").args(args).env("PATH", dir.path()).output().unwrap()
    };
    let help = out(&called(&["--help"]));
    assert!(help.contains("Usage: kubectl fleet <COMMAND>"), "{help}");
    assert!(help.contains("kubectl fleet run examples/quickstart"), "{help}");
    assert!(!help.contains("fleet-operator"), "{help}");
    let refused = called(&["show", "nothing"]);
    assert!(!refused.status.success() && err(&refused).contains("Usage: kubectl fleet show <addons|"));
    let data = dir.path().join("data");
    let missing = called(&["show", "addons", "--data", data.to_str().unwrap()]);
    assert!(!missing.status.success() && err(&missing).starts_with("error: "), "{}", err(&missing));
    assert_eq!(missing.stdout, b"", "errors are not what is printed");
    assert!(!err(&missing).contains('\u{1b}'), "no colours where nobody looks");
    let own = |args: &[&str]| out(&Command::new(PROGRAM).args(args).output().unwrap());
    assert_eq!(out(&called(&["crds"])), own(&["crds"]), "the commands are the same");
    assert!(own(&["--help"]).contains("Usage: fleet-operator <COMMAND>"));
}

#[test]
fn shells_complete_it() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = out(&Command::new(PROGRAM).args(["completion", shell]).output().unwrap());
        assert!(script.contains("fleet-operator") && script.contains("dead-letters"), "{shell}: {script}");
    }
    let asked = r#"source <("$0" completion bash); COMP_WORDS=(fleet-operator show ev); COMP_CWORD=2
        called=$(complete -p fleet-operator); called=${called#*-F }; called=${called%% *}
        "$called" fleet-operator ev show; echo "${COMPREPLY[*]}""#;
    let completed = Command::new("bash").args(["-c", asked, PROGRAM]).output().unwrap();
    assert_eq!(out(&completed), "events\n", "{}", err(&completed));
}
