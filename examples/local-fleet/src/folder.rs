//! What `up` leaves in the lab's folder for its users.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use local_fleet::{Cluster, Lab, Program, Route, User};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Writes the kubeconfig files, the NATS variables and the links to the programs.
pub(crate) fn fill(lab: &Lab, programs: &[(Program, PathBuf)]) -> Result<()> {
    remove_kubeconfigs(lab.dir())?;
    for cluster in lab.management().into_iter().chain(lab.clusters()) {
        cluster.write_kubeconfig(kubeconfig(lab.dir(), cluster), User::Admin, Route::Direct)?;
    }
    if let Some(nats) = lab.nats() {
        nats.write_env(lab.dir().join("nats.env"))?;
    }
    let bin = lab.dir().join("bin");
    fs::create_dir_all(&bin)?;
    for (program, path) in programs {
        let link = bin.join(program.name());
        remove(&link)?;
        symlink(path, &link)?;
    }
    Ok(())
}

/// What there is and what to do with it, for the reader of a terminal.
pub(crate) fn summary(lab: &Lab) -> String {
    let dir = lab.dir().display();
    let mut text = String::from("\n");
    // Writing to a string does not fail.
    for cluster in lab.management().into_iter().chain(lab.clusters()) {
        let file = kubeconfig(lab.dir(), cluster);
        let _written =
            writeln!(text, "{:<11} {:<25} {}", cluster.name(), cluster.url(Route::Direct), file.display());
    }
    if let Some(nats) = lab.nats() {
        let _written = writeln!(text, "{:<11} {:<25} {dir}/nats.env", "nats", nats.url(Route::Direct));
    }
    let _written = write!(
        text,
        "\nIn another terminal:\n  \
           export PATH={dir}/bin:$PATH KUBECONFIG={dir}/management.kubeconfig\n  \
           . {dir}/nats.env\n  \
           kubectl get namespaces\n  \
           nats pub hello world\n\
         Ctrl-C stops it all.\n\n"
    );
    text
}

fn kubeconfig(dir: &Path, cluster: &Cluster) -> PathBuf {
    dir.join(format!("{}.kubeconfig", cluster.name()))
}

/// Removes those of an earlier lab in this folder, which may have had more clusters.
fn remove_kubeconfigs(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "kubeconfig") {
            remove(&path)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
