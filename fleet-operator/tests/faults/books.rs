//! What an operator leaves behind, read from its database: every event has to be found there.

use std::collections::BTreeMap;

use fleet_core::dead_letter::DeadLetter;
use fleet_core::position::{Domain, Position};
use fleet_core::store::WorkStore;
use fleet_core::work::{AppliedWork, EventKey, Work, WorkId};
use fleet_operator::run::DataFolder;
use std::sync::Arc;

use crate::feed::STREAM;
use crate::process::Home;
use crate::stage::wait_for;

const PAGE: usize = 256;

pub(crate) struct Books {
    pub(crate) works: BTreeMap<WorkId, Arc<Work>>,
    pub(crate) applied: Vec<Arc<AppliedWork>>,
    pub(crate) letters: Vec<Arc<DeadLetter>>,
    floors: Vec<Position>,
}

impl Books {
    /// Opens the database of an operator that has stopped.
    pub(crate) fn of(home: &Home) -> Self {
        let store = DataFolder::at(home.data()).open_to_read().unwrap();
        wait_for(async {
            let (mut works, mut applied, mut letters) = (BTreeMap::new(), Vec::new(), Vec::new());
            loop {
                let after = works.last_key_value().map(|(id, _): (&WorkId, _)| id);
                let page = store.works(None, after, PAGE).await.unwrap();
                let last = page.len() < PAGE;
                works.extend(page.into_iter().map(|it| (it.value.id.clone(), it.value)));
                if last {
                    break;
                }
            }
            loop {
                let after = applied.last().map(|it: &Arc<AppliedWork>| (&it.work, &it.cluster));
                let page = store.all_applied(after, PAGE).await.unwrap();
                let last = page.len() < PAGE;
                applied.extend(page.into_iter().map(|it| it.value));
                if last {
                    break;
                }
            }
            loop {
                let after = letters.last().map(|it: &Arc<DeadLetter>| it.id.as_str());
                let page = store.dead_letters(after, PAGE).await.unwrap();
                let last = page.len() < PAGE;
                letters.extend(page);
                if last {
                    break;
                }
            }
            let floors = store.floors(STREAM).await.unwrap();
            Self { works, applied, letters, floors }
        })
    }

    /// The Work of a trigger about a subject.
    pub(crate) fn work(&self, trigger: &str, subject: &str) -> Option<&Arc<Work>> {
        let key = EventKey::About {
            origin: None,
            source: "auth.example.com".to_owned(),
            subject: Some(subject.to_owned()),
        };
        self.works.get(&WorkId::new(trigger, &key))
    }

    /// Up to which sequence of the stream nothing comes again.
    pub(crate) fn floor(&self) -> u64 {
        self.floors.iter().find(|floor| floor.domain == domain()).map_or(0, |floor| floor.sequence)
    }

    /// The epochs that positions speak of: as many as the stream had lives.
    pub(crate) fn epochs(&self) -> Vec<u64> {
        let positions = self.works.values().filter_map(|work| work.positions.in_domain(&domain()));
        let floors = self.floors.iter().filter(|floor| floor.domain == domain());
        let mut epochs: Vec<u64> = positions.chain(floors).map(|position| position.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs
    }

    /// The highest sequence of the stream that a Work has seen.
    pub(crate) fn seen(work: &Work) -> u64 {
        work.positions.in_domain(&domain()).map_or(0, |position| position.sequence)
    }
}

/// The stream, as the EventSource reads it.
fn domain() -> Domain {
    Domain::new(format!("jetstream/{STREAM}/{STREAM}"))
}
