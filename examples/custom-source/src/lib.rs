//! A file as an event source: a CloudEvent in JSON a line, only ever appended to. A line's position is where it ends.
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use fleet_core::position::{Domain, Position};
use fleet_core::{event::Event, source::*};
use futures::stream::{BoxStream, StreamExt, unfold};
use tokio::{fs::File, io::AsyncReadExt, io::AsyncSeekExt, time::Instant, time::sleep};
use {bytes::Bytes, parking_lot::Mutex};

/// A file. What is known of its lines outlives a stream: clones share it.
#[derive(Clone)]
pub struct FileTail {
    /// The name of the source.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What is known of its lines.
    pub lines: Arc<Mutex<Lines>>,
}

/// What is known of the lines.
#[derive(Default)]
pub struct Lines {
    /// Up to where the file was read.
    read: u64,
    /// What is not settled, by its end: with the time to deliver it, unless somebody has it.
    pub open: BTreeMap<u64, (Bytes, Option<Instant>)>,
}

impl FileTail {
    fn at(&self, end: u64) -> Position {
        // One epoch, as the file is never begun anew; a source that can be takes its epoch from what it reads.
        Position { domain: Domain::new(format!("{}/lines", self.name)), epoch: 1, sequence: end }
    }

    /// What there is to tell above a floor.
    fn look(&self, floor: u64) -> Option<SourceItem> {
        let mut lines = self.lines.lock();
        // All before the first line that is not settled will never come again.
        let first = lines.open.first_key_value().map(|(end, (raw, _))| end - raw.len() as u64 - 1);
        if let Some(settled) = first.or(Some(lines.read)).filter(|settled| *settled > floor) {
            return Some(SourceItem::Floor(self.at(settled)));
        }
        let is_due = |due: &Option<Instant>| due.is_some_and(|due| due <= Instant::now());
        let (&end, (raw, due)) = lines.open.iter_mut().find(|(_, (_, due))| is_due(due))?;
        *due = None;
        let shared = Arc::clone(&self.lines);
        let settle = Settle::tell(move |settled| match (settled.again(), &mut shared.lock().open) {
            (None, open) => drop(open.remove(&end)),
            (Some(delay), open) => drop(open.entry(end).and_modify(|it| it.1 = Some(Instant::now() + delay))),
        });
        let delivery = Delivery::new(Event::from_json(raw), raw.clone(), settle);
        Some(SourceItem::Delivery(Delivery { position: Some(self.at(end)), ..delivery }))
    }

    /// Reads what was appended. At most 1,024 lines wait to be settled, others wait in the file.
    async fn read(&self) -> io::Result<()> {
        let (from, mut more) = (self.lines.lock().read, Vec::new());
        let mut file = File::open(&self.path).await?;
        file.seek(io::SeekFrom::Start(from)).await?;
        file.take(1 << 20).read_to_end(&mut more).await?;
        let lines = &mut *self.lines.lock();
        // Another stream of the same source may have been faster.
        let more = if lines.read == from { more } else { Vec::new() };
        for line in more.split_inclusive(|byte| *byte == b'\n') {
            let Some(raw) = line.strip_suffix(b"\n").filter(|_| lines.open.len() < 1024) else { break };
            lines.read += line.len() as u64;
            lines.open.insert(lines.read, (Bytes::copy_from_slice(raw), Some(Instant::now())));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl EventSource for FileTail {
    fn name(&self) -> &str {
        &self.name
    }

    async fn open(&self, floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let floor = floors.iter().find(|it| it.domain == self.at(0).domain).map_or(0, |it| it.sequence);
        let mut lines = self.lines.lock();
        lines.read = lines.read.max(floor);
        let next = async |(tail, told, floor): (Self, Option<SourceStatus>, u64)| loop {
            if let Some(item) = tail.look(floor) {
                let floor = if let SourceItem::Floor(it) = &item { it.sequence } else { floor };
                return Some((item, (tail, told, floor)));
            }
            let status = match tail.read().await {
                Ok(()) => SourceStatus::ready("Reading", "new lines are read"),
                Err(why) => SourceStatus::trouble("Unreadable", format!("{}: {why}", tail.path.display())),
            };
            if told.as_ref() != Some(&status) {
                return Some((SourceItem::Status(status.clone()), (tail, Some(status), floor)));
            }
            sleep(Duration::from_millis(20)).await;
        };
        Ok(unfold((self.clone(), None, floor), next).boxed())
    }
}
