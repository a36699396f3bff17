//! Where the socket lies, also where the path is longer than a socket's address may be (108 bytes on Linux).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "control.sock";

/// A name for a file in the data folder that is short enough for a socket's address. Valid while `folder` is held.
pub(super) struct Reach {
    _folder: Option<File>,
    base: PathBuf,
}

impl Reach {
    pub(super) fn new(data: &Path) -> io::Result<Self> {
        const SAFE: usize = 80;
        if data.as_os_str().len() <= SAFE {
            return Ok(Self { _folder: None, base: data.to_path_buf() });
        }
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let folder = File::open(data)?;
            let base = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            Ok(Self { _folder: Some(folder), base })
        }
        #[cfg(not(target_os = "linux"))]
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path of the data folder is too long for a socket in it",
        ))
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.base.join(NAME)
    }

    /// Where a socket is made before it takes its place, so that nobody reaches it before it is for its owner alone.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.base.join(format!(".{NAME}.{}", std::process::id()))
    }
}
