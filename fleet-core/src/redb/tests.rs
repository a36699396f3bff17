//! What a real disk cannot be made to do in a test: to be full for a while.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;

/// A file in memory that outlives the database, on a disk that may be full.
#[derive(Debug, Clone)]
struct Disk {
    file: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> Result<(), io::Error> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.check()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.check()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.check()?;
        self.file.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_costs_time_and_no_restart() {
    let disk = Disk { file: Arc::new(InMemoryBackend::new()), full: Arc::default() };
    let full = Arc::clone(&disk.full);
    let open = move || Builder::new().create_with_backend(disk.clone());
    let store = RedbStore::open_by(Path::new("in-memory"), open).unwrap();
    let domain = Domain::new("d");
    assert_eq!(store.next_epoch(&domain).await.unwrap(), 1);
    full.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        let error = store.next_epoch(&domain).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    let error = store.floors("s").await.unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    full.store(false, Ordering::Relaxed);
    assert_eq!(store.next_epoch(&domain).await.unwrap(), 2);
    assert!(store.floors("s").await.unwrap().is_empty());
}
