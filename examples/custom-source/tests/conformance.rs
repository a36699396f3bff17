//! A source that is not in the box keeps the contract of those that are.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected says so and stops")]

use std::fs::{File, OpenOptions, rename};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use custom_source::FileTail;
use fleet_core::event::Event;
use fleet_core::source::EventSource;
use fleet_core::testing::conformance::{NotChecked, event_source};
use parking_lot::Mutex;

struct Lines {
    folder: tempfile::TempDir,
    last: Mutex<Option<FileTail>>,
}

impl Lines {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join("events.jsonl")).unwrap();
        Self { folder, last: Mutex::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("events.jsonl")
    }

    fn append(&self, line: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(self.path()).unwrap();
        // In two pieces, as a program that writes while we read.
        let (first, second) = line.split_at(line.len() / 2);
        for piece in [first, second, b"\n"] {
            file.write_all(piece).unwrap();
        }
    }
}

impl event_source::Fixture for Lines {
    async fn source(&self) -> Arc<dyn EventSource> {
        let tail = FileTail { name: "lines".to_owned(), path: self.path(), lines: Arc::default() };
        *self.last.lock() = Some(tail.clone());
        Arc::new(tail)
    }

    async fn publish(&self, subject: &str) {
        let event = Event::builder("1", "kit", "test").subject(subject).build().unwrap();
        self.append(event.to_json().to_string().as_bytes());
    }

    async fn publish_event(&self, event: &Event) -> Result<(), NotChecked> {
        self.append(event.to_json().to_string().as_bytes());
        Ok(())
    }

    async fn publish_garbage(&self, garbage: &[u8]) -> Result<(), NotChecked> {
        self.append(garbage);
        Ok(())
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        rename(self.path(), self.folder.path().join("away")).unwrap();
        Ok(())
    }

    async fn mend(&self) {
        rename(self.folder.path().join("away"), self.path()).unwrap();
    }

    fn abilities(&self) -> event_source::Abilities {
        event_source::Abilities {
            // What is dropped is given back in the same instant.
            redelivers: Ok(Duration::from_millis(100)),
            status: Ok(()),
            floors: Ok(()),
            reopens: Ok(()),
            bound: Ok(1024),
        }
    }

    async fn taken(&self) -> Result<u64, NotChecked> {
        let last = self.last.lock();
        Ok(last.as_ref().map_or(0, |tail| tail.lines.lock().open.len() as u64))
    }
}

event_source!(file_tail, Lines::new());
