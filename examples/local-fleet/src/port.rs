//! Free TCP ports on 127.0.0.1.
//!
//! Ports are taken from below the range that the kernel gives to outgoing connections. So nothing but another server
//! can take a port between the moment it is chosen and the moment its server listens, nor while a server is restarted.
//! For that rest [`crate::server`] chooses again. A folder remembers its ports, so that a lab started again is found where it was.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{LabError, Result, private};

const FIRST: u16 = 10_000;
const LAST: u16 = 31_999;

/// The ports of one server's folder.
#[derive(Debug)]
pub(crate) struct Ports {
    dir: PathBuf,
}

impl Ports {
    pub(crate) fn of(dir: &Path) -> Self {
        Ports { dir: dir.to_path_buf() }
    }

    /// The port that this folder used last for `purpose`, or else a free one, remembered.
    pub(crate) fn remembered(&self, purpose: &str) -> Result<u16> {
        let file = self.file(purpose);
        if let Ok(text) = fs::read_to_string(&file)
            && let Ok(port) = text.trim().parse()
            && is_free(port)
        {
            return Ok(port);
        }
        let port = free()?;
        private::write(&file, format!("{port}\n").as_bytes()).map_err(LabError::file("write", &file))?;
        Ok(port)
    }

    /// Forgets a port, because another program took it.
    pub(crate) fn forget(&self, purpose: &str) {
        let _absent = fs::remove_file(self.file(purpose));
    }

    fn file(&self, purpose: &str) -> PathBuf {
        self.dir.join(format!("{purpose}.port"))
    }
}

/// The address of a port on this machine.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(local(port)).is_ok()
}

fn free() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = u32::from(LAST - FIRST) + 1;
    for _ in 0..range {
        // Each process starts at another place, so that test programs that run side by side rarely meet.
        let step = process::id().wrapping_mul(7_919).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(step % range).ok().and_then(|offset| FIRST.checked_add(offset));
        if let Some(port) = port
            && is_free(port)
        {
            return Ok(port);
        }
    }
    Err(LabError::NoPort { from: FIRST, to: LAST })
}
