//! The reference operator's program.

use std::process::ExitCode;

use fleet_operator::cli::{Cli, main as run};

/// An event is a hundred small allocations, made by one thread and freed by another: with glibc's allocator the engine takes
/// six tenths of the events (`fleet-bench engine`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // An error means that somebody installed a provider before, which cannot be here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::read(std::env::args_os());
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run(cli));
            // What is still at work then was given up: it must not keep the process.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
