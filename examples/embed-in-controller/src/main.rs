//! Runs the controller with the client of the environment (a kubeconfig, or the account of a pod) until Ctrl-C, and prints
//! the metrics of both at the end.

use std::error::Error;
use std::path::Path;

use embed_in_controller::run;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Several crates use rustls: the program says once by what.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = kube::Client::try_default().await?;
    let mut registry = Registry::default();
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(client, Path::new("works.redb"), &mut registry, stop.clone())?);
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    running.await?;
    let mut shown = String::new();
    encode(&mut shown, &registry)?;
    print!("{shown}");
    Ok(())
}
