//! A file as an event source: a CloudEvent in JSON a line, only ever appended to. A line's position is where it ends.
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use fleet_core::position::{Domain, Position};
use fleet_core::{event::Event, source::*};
use futures::stream::{BoxStream, StreamExt, unfold};
use parking_lot::Mutex;
use tokio::{fs::File, io::AsyncReadExt, io::AsyncSeekExt, time::Instant, time::sleep};

/// A file: the name of the source, the path, and what its clones share.
#[derive(Clone)]
pub struct FileTail(pub String, pub PathBuf, pub Arc<Mutex<Lines>>);

/// What is known of its lines.
#[derive(Default)]
pub struct Lines {
    read: u64,
    /// What is not settled, by its end: with the time to deliver it, unless somebody has it.
    pub open: BTreeMap<u64, (Bytes, Option<Instant>)>,
}

impl FileTail {
    fn at(&self, end: u64) -> Position {
        Position { domain: Domain::new(format!("{}/lines", self.0)), epoch: 1, sequence: end }
    }

    /// What there is to tell above a floor.
    fn look(&self, floor: u64) -> Option<SourceItem> {
        let mut lines = self.2.lock();
        let first = lines.open.first_key_value().map(|(end, (raw, _))| end - raw.len() as u64 - 1);
        if let Some(settled) = first.or(Some(lines.read)).filter(|settled| *settled > floor) {
            return Some(SourceItem::Floor(self.at(settled)));
        }
        let free = |due: &Option<Instant>| due.is_some_and(|due| due <= Instant::now());
        let (&end, (raw, due)) = lines.open.iter_mut().find(|(_, (_, due))| free(due))?;
        *due = None;
        let lines = Arc::clone(&self.2);
        let settle = Settle::tell(move |settled| match (settled.again(), &mut lines.lock().open) {
            (None, open) => drop(open.remove(&end)),
            (Some(delay), open) => drop(open.entry(end).and_modify(|it| it.1 = Some(Instant::now() + delay))),
        });
        let delivery = Delivery::new(Event::from_json(raw), raw.clone(), settle);
        Some(SourceItem::Delivery(Delivery { position: Some(self.at(end)), ..delivery }))
    }

    /// Reads what was appended. At most 1,024 lines wait to be settled, others wait in the file.
    async fn read(&self) -> io::Result<()> {
        let (from, mut more) = (self.2.lock().read, Vec::new());
        let mut file = File::open(&self.1).await?;
        file.seek(io::SeekFrom::Start(from)).await?;
        file.take(1 << 20).read_to_end(&mut more).await?;
        let mut lines = self.2.lock();
        if lines.read != from {
            return Ok(());
        }
        for line in more.split_inclusive(|byte| *byte == b'\n') {
            let Some(raw) = line.strip_suffix(b"\n").filter(|_| lines.open.len() < 1024) else { break };
            lines.read += line.len() as u64;
            let end = lines.read;
            lines.open.insert(end, (Bytes::copy_from_slice(raw), Some(Instant::now())));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl EventSource for FileTail {
    fn name(&self) -> &str {
        &self.0
    }

    async fn open(&self, floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let floor = floors.iter().find(|it| it.domain == self.at(0).domain).map_or(0, |it| it.sequence);
        let mut lines = self.2.lock();
        lines.read = lines.read.max(floor);
        let next = async |(tail, told, floor): (Self, Option<SourceStatus>, u64)| loop {
            if let Some(item) = tail.look(floor) {
                let floor = if let SourceItem::Floor(it) = &item { it.sequence } else { floor };
                return Some((item, (tail, told, floor)));
            }
            let status = match tail.read().await {
                Ok(()) => SourceStatus::ready("Reading", "new lines are read"),
                Err(why) => SourceStatus::trouble("Unreadable", format!("{}: {why}", tail.1.display())),
            };
            if told.as_ref() != Some(&status) {
                return Some((SourceItem::Status(status.clone()), (tail, Some(status), floor)));
            }
            sleep(Duration::from_millis(20)).await;
        };
        Ok(unfold((self.clone(), None, floor), next).boxed())
    }
}
