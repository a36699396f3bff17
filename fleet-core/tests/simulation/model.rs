//! The model: what has to be there in the end. For every trigger, key and cluster that is what processing each event
//! once, in the order of publishing, gives.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::cluster::ClusterId;
use fleet_core::work::Intent;

use crate::clusters::Clusters;
use crate::ledger::{Entry, Kind, Ledger};
use crate::store::Disk;
use crate::stream::Server;
use crate::templates::name;

/// Definitions and clusters as they are in the end.
pub(crate) struct Definitions {
    /// Triggers: the value of the label `env` that they select, and the words of their template.
    pub(crate) triggers: BTreeMap<String, (String, String)>,
    /// Clusters, and the value of their label.
    pub(crate) clusters: BTreeMap<ClusterId, String>,
}

/// The last word on a key: the event that logged in, or that nobody is.
type LastWord = Option<usize>;

/// What the last word on a key may be. An event that the stream lost counts if an operator has it safe; if one was only
/// given it, it may or may not.
fn last_words(entries: &[Entry], key: &str) -> Vec<LastWord> {
    let word = |(number, entry): (usize, &Entry)| (entry.kind == Kind::Login).then_some(number);
    let mut words: Vec<LastWord> = vec![None];
    for (number, entry) in entries.iter().enumerate() {
        if entry.key != *key || !matches!(entry.kind, Kind::Login | Kind::Logout) {
            continue;
        }
        if !entry.lost || entry.settled {
            words.clear();
        }
        if !entry.lost || entry.handed_out {
            words.push(word((number, entry)));
        }
    }
    words
}

type Place = (ClusterId, String);

impl Definitions {
    /// The objects of a trigger and key, and their content.
    fn objects(&self, trigger: &str, key: &str, word: LastWord) -> BTreeMap<Place, String> {
        let (env, words) = &self.triggers[trigger];
        let mut objects = BTreeMap::new();
        for (cluster, label) in &self.clusters {
            if let Some(number) = word
                && label == env
            {
                let names = words.split(' ').map(|word| name(trigger, key, word));
                objects.extend(names.map(|name| ((cluster.clone(), name), format!("e{number}"))));
            }
        }
        objects
    }
}

/// What is not as it has to be.
pub(crate) fn check(
    definitions: &Definitions,
    ledger: &Ledger,
    clusters: &Clusters,
    disk: &Disk,
    server: Option<&Server>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let (objects, foreign) = (clusters.objects(), clusters.foreign());
    for (place, object) in &foreign {
        if objects.get(place) != Some(object) {
            problems.push(format!("somebody else's {place:?} is now {:?}", objects.get(place)));
        }
    }
    let entries = ledger.entries();
    let keys: BTreeSet<_> = entries.iter().map(|entry| &*entry.key).collect();
    let is_here = |place: &Place| definitions.clusters.contains_key(&place.0) && !foreign.contains_key(place);
    for trigger in definitions.triggers.keys() {
        for key in &keys {
            let prefix = name(trigger, key, "");
            let found: BTreeMap<_, _> = objects
                .iter()
                .filter(|(place, _)| is_here(place) && place.1.starts_with(&prefix))
                .map(|(place, object)| (place.clone(), object))
                .collect();
            let words = last_words(&entries, key);
            let is_right = |word: &LastWord| {
                let mut expected = definitions.objects(trigger, key, *word);
                // What is not rendered any more stays for as long as something of somebody else's is in the way.
                let in_the_way = expected.keys().filter(|place| foreign.contains_key(*place));
                let blocked: BTreeSet<_> = in_the_way.map(|(cluster, _)| cluster.clone()).collect();
                expected.retain(|place, _| is_here(place));
                found.keys().all(|place| expected.contains_key(place) || blocked.contains(&place.0))
                    && expected.iter().all(|(place, content)| {
                        found.get(place).is_some_and(|object| object.content == *content && !object.is_going)
                    })
            };
            if !words.iter().any(is_right) {
                problems.push(format!(
                    "{trigger} {key}: the last word is one of {words:?}, and there is {found:?}"
                ));
            }
        }
    }
    if server.is_some_and(|server| !server.is_settled()) {
        problems.push("not every delivery is settled".to_owned());
    }
    problems.extend(letters(definitions, &entries, disk));
    problems
}

/// What the store should not hold any more once everything is as it has to be: records of what is to be gone, in clusters
/// that are there, and tombstones, for nothing can come again.
pub(crate) fn leftovers(definitions: &Definitions, disk: &Disk) -> Vec<String> {
    let records = disk.records();
    let is_live = |work| records.works.get(work).is_some_and(|stored| stored.value.intent == Intent::Create);
    let here = records.applied.iter().filter(|((_, cluster), _)| definitions.clusters.contains_key(cluster));
    let left = here.filter(|((work, _), _)| !is_live(work));
    let left = left.map(|(_, stored)| format!("left in the store: {:?}", stored.value));
    let dead = records.works.values().filter(|stored| !is_live(&stored.value.id));
    let done = dead.filter(|stored| !records.applied.keys().any(|(work, _)| *work == stored.value.id));
    left.chain(done.map(|stored| format!("left in the store: {:?}", stored.value))).collect()
}

/// What nothing can be made of is a dead letter, with its bytes; nothing else is.
fn letters(definitions: &Definitions, entries: &[Entry], disk: &Disk) -> Vec<String> {
    let mut problems = Vec::new();
    let letters = disk.letters();
    for entry in entries {
        let found: Vec<_> = letters.iter().filter(|letter| letter.raw == entry.raw).collect();
        let by = |trigger: Option<&str>| found.iter().filter(|it| it.trigger.as_deref() == trigger).count();
        let refused_by: Vec<_> = match entry.kind {
            Kind::Login | Kind::Logout => Vec::new(),
            Kind::Garbage => vec![None],
            Kind::Odd => definitions.triggers.keys().map(|name| Some(name.as_str())).collect(),
        };
        let must = !entry.lost || entry.settled;
        if must && refused_by.iter().any(|trigger| by(*trigger) == 0) {
            problems.push(format!("there is no dead letter of {:?}", entry.raw));
        }
        if found.len() > refused_by.iter().map(|trigger| by(*trigger).min(1)).sum() {
            problems.push(format!("there are too many dead letters of {:?}: {found:?}", entry.raw));
        }
    }
    problems
}
