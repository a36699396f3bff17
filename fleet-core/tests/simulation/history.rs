//! One history: what happens, in which order, and whether all is well in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::engine::{Config, Engine, Handle, Parts};
use fleet_core::environment::{Environment, SplitMix};
use fleet_core::memory::{MemoryCatalog, MemoryClusters};
use fleet_core::source::EventSource;
use tokio_util::sync::CancellationToken;

use crate::applier::SimApplier;
use crate::clusters::{Clusters, SETTLE};
use crate::dice::Dice;
use crate::ledger::{Kind, Ledger};
use crate::model::{self, Definitions};
use crate::process::Process;
use crate::source::{Here, SOURCE, StreamSource, Subject, SubjectSource};
use crate::store::Disk;
use crate::stream::Server;
use crate::templates::{self, BROKEN, Words, trigger};
use crate::world::{Faults, Lie, World};

const ENVS: [&str; 2] = ["production", "staging"];
const WORDS: [&str; 4] = ["a", "a b", "b", "b c"];

/// How long it may take, after the last fault, until all is well: the longest pause of the engine is ten minutes.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How a history ended.
pub(crate) struct End {
    /// What is not as it has to be.
    pub(crate) problems: Vec<String>,
    pub(crate) trace: String,
    pub(crate) fingerprint: String,
}

/// Runs the history of a seed.
pub(crate) fn run(seed: u64, lie: Lie, traced: bool) -> End {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (world, problems) = runtime.block_on(async {
        let dice = Dice::new(seed);
        let faults = Faults::choose(&dice).that_show(lie);
        let world = World::new(dice, faults, lie, traced);
        world.trace(|| format!("history {seed}: {faults:?}"));
        let mut history = History::begin(&world);
        history.happen().await;
        let problems = history.end().await;
        (world, problems)
    });
    drop(runtime);
    End {
        problems,
        trace: world.traced(),
        fingerprint: if traced { world.fingerprint() } else { String::new() },
    }
}

/// An operator and its process.
struct Operator {
    process: Arc<Process>,
    handle: Handle,
    stop: CancellationToken,
}

/// Where events come from.
enum Feed {
    Stream(Arc<Server>),
    Subject(Arc<Subject>),
}

struct History {
    world: Arc<World>,
    ledger: Arc<Ledger>,
    feed: Feed,
    disk: Arc<Disk>,
    clusters: Arc<Clusters>,
    catalog: Arc<MemoryCatalog>,
    selector: Arc<MemoryClusters>,
    /// As they are to be in the end.
    definitions: Definitions,
    /// The triggers as they are now, if lists are complete.
    defined: BTreeMap<String, (String, String)>,
    config: Config,
    keys: Vec<String>,
    names: Vec<ClusterId>,
    operators: Vec<Operator>,
    /// How many there are to be.
    wanted: usize,
    started: usize,
}

impl History {
    fn begin(world: &Arc<World>) -> Self {
        let dice = &world.dice;
        let ledger = Arc::<Ledger>::default();
        // Without an order of its own, a second operator's is anybody's guess.
        let feed = match dice.chance(150) && !world.faults.second {
            true => Feed::Subject(Arc::default()),
            false => Feed::Stream(Server::new(world, &ledger)),
        };
        let triggers: BTreeMap<_, _> = (1..=dice.roll(1..3))
            .map(|n| (format!("t{n}"), (dice.pick(&ENVS).to_owned(), dice.pick(&WORDS).to_owned())))
            .collect();
        let names: Vec<_> =
            (1..=dice.roll(1..4)).map(|n| ClusterId::new("fleet", &format!("c{n}")).unwrap()).collect();
        let clusters: BTreeMap<_, _> =
            names.iter().map(|name| (name.clone(), dice.pick(&ENVS).to_owned())).collect();
        let config = Config {
            max_in_flight: dice.pick(&[2, 8, 1024]),
            cluster_concurrency: dice.pick(&[1, 4, 32]),
            max_queued: dice.pick(&[2, 10_000]),
            max_tombstones: dice.pick(&[2, 100_000]),
            store_patience: Duration::from_secs(dice.pick(&[3, 30])),
            max_withdraw_floor: 1000,
            ..Config::default()
        };
        Self {
            world: Arc::clone(world),
            feed,
            disk: Disk::new(world),
            clusters: Clusters::new(world),
            catalog: Arc::new(MemoryCatalog::new(
                [templates::source()],
                triggers.iter().map(|(name, (env, words))| trigger(name, env, words)),
            )),
            selector: Arc::new(MemoryClusters::new(clusters.iter().map(cluster))),
            defined: triggers.clone(),
            definitions: Definitions { triggers, clusters },
            config,
            keys: (1..=dice.roll(1..7)).map(|n| format!("k{n}")).collect(),
            names,
            operators: Vec::new(),
            wanted: 1,
            started: 0,
            ledger,
        }
    }

    /// Starts an operator in a process of its own.
    fn start(&mut self) {
        // What a catalog tells first has all that it ever read.
        self.define_all();
        self.started += 1;
        let process = Process::new(format!("P{}", self.started), &self.world);
        self.world.trace(|| format!("{} starts", process.name));
        let here = Here {
            world: Arc::clone(&self.world),
            process: Arc::clone(&process),
            ledger: Arc::clone(&self.ledger),
        };
        let source: Arc<dyn EventSource> = match &self.feed {
            Feed::Stream(server) => Arc::new(StreamSource { here, server: Arc::clone(server) }),
            Feed::Subject(subject) => Arc::new(SubjectSource { here, subject: Arc::clone(subject) }),
        };
        let applier = SimApplier {
            world: Arc::clone(&self.world),
            process: Arc::clone(&process),
            clusters: Arc::clone(&self.clusters),
        };
        let parts = Parts {
            store: self.disk.open(&process),
            catalog: Arc::clone(&self.catalog) as _,
            clusters: Arc::clone(&self.selector) as _,
            renderer: Arc::new(Words),
            applier: Arc::new(applier),
            environment: Environment {
                clock: Arc::clone(&self.world) as _,
                entropy: Arc::new(SplitMix::new(self.world.dice.roll(0..u64::MAX))),
                spawner: Arc::clone(&process) as _,
            },
        };
        let engine = Engine::new(parts, self.config.clone());
        let handle = engine.handle();
        handle.attach(source);
        let stop = CancellationToken::new();
        let running = engine.run(stop.clone());
        let this = Arc::clone(&process);
        fleet_core::environment::Spawner::spawn(
            &*process,
            Box::pin(async move {
                running.await;
                this.kill("for it has stopped");
            }),
        );
        self.operators.push(Operator { process, handle, stop });
    }

    /// Starts what has died, as whatever supervises it would.
    fn supervise(&mut self) {
        self.operators.retain(|operator| operator.process.is_alive());
        while self.operators.len() < self.wanted {
            self.start();
        }
    }

    async fn happen(&mut self) {
        let world = Arc::clone(&self.world);
        let dice = &world.dice;
        let often = if world.lie == Lie::FloorFromServer { 1000 } else { 300 };
        self.disk.set_slow(world.fault(world.faults.store, often));
        for _ in 0..dice.roll(10..60) {
            if dice.chance(700) {
                self.supervise();
            }
            match dice.roll(0..20) {
                0..14 => self.publish(),
                14..16 => self.trouble(),
                _ => tokio::time::sleep(dice.millis(0..10_000)).await,
            }
            if dice.chance(600) {
                tokio::time::sleep(dice.millis(0..1500)).await;
            }
        }
    }

    /// Events come, often of one key shortly after each other.
    fn publish(&mut self) {
        let dice = &self.world.dice;
        let key = dice.pick(&self.keys);
        for _ in 0..dice.roll(1..4) {
            let key = if dice.chance(700) { key.clone() } else { dice.pick(&self.keys) };
            let kind = match dice.roll(0..20) {
                0 | 1 if self.world.faults.poison => dice.pick(&[Kind::Odd, Kind::Garbage]),
                0..11 => Kind::Login,
                _ => Kind::Logout,
            };
            self.publish_one(kind, &key);
        }
    }

    fn publish_one(&self, kind: Kind, key: &str) {
        let (number, raw) = self.ledger.add(kind, key);
        match &self.feed {
            Feed::Stream(server) => {
                if !server.publish(number, raw) {
                    self.ledger.lost(number);
                }
            }
            Feed::Subject(subject) => {
                // What is not settled was lost.
                self.ledger.lost(number);
                subject.publish(number, &raw);
            }
        }
    }

    /// Something goes wrong, or right again.
    fn trouble(&mut self) {
        let world = Arc::clone(&self.world);
        let (dice, faults) = (&world.dice, &world.faults);
        let cluster = dice.pick(&self.names);
        match dice.roll(0..12) {
            0 | 1 if faults.kills => {
                if let Some(operator) = self.operators.first() {
                    operator.process.kill("by somebody");
                }
            }
            2 if !faults.second => {
                if let Some(operator) = self.operators.last() {
                    world.trace(|| format!("{} is told to stop", operator.process.name));
                    operator.stop.cancel();
                }
            }
            3 if faults.second => self.wanted = 2,
            4 if faults.store => match dice.chance(300) {
                true => self.disk.set_down(dice.chance(500)),
                false => self.disk.set_slow(dice.chance(600)),
            },
            5 | 6 if faults.clusters => match dice.roll(0..3) {
                0 => self.clusters.set_down(&cluster, true),
                1 => self.clusters.hang(&cluster),
                _ => self.clusters.set_down(&cluster, false),
            },
            7 | 8 => self.server_trouble(),
            9 if faults.foreign => {
                let trigger = dice.pick(&self.triggers());
                let name = templates::name(&trigger, &dice.pick(&self.keys), dice.pick(&["a", "b", "c"]));
                self.clusters.toggle_foreign(&cluster, &name);
            }
            10 if faults.definitions => self.edit(),
            11 if faults.fleet => self.change_fleet(&cluster),
            _ => {}
        }
    }

    fn server_trouble(&mut self) {
        let (dice, faults) = (&self.world.dice, &self.world.faults);
        let Feed::Stream(server) = &self.feed else { return };
        if !faults.server && !faults.losses {
            return;
        }
        match dice.roll(0..8) {
            0..3 => server.stop(),
            3 if faults.losses => server.recreate(),
            4 | 5 if faults.server => server.delete_consumer(),
            _ => {}
        }
        if server.connect().is_err() {
            match dice.roll(0..3) {
                0 if faults.losses => server.lose_tail(self.safe(server)),
                1 if faults.server => server.reset_floor(),
                _ => {}
            }
            if dice.chance(600) {
                server.start();
            }
        }
    }

    /// What the server cannot lose without breaking a promise that is not given: see the limits in `main.rs`.
    fn safe(&self, server: &Server) -> u64 {
        let (handed_out, faults) = (server.handed_out(), &self.world.faults);
        let witnesses = self.disk.floors(SOURCE).into_iter();
        let mut of_this_stream = witnesses
            .filter(|floor| floor.domain.as_str().ends_with("/newest") && floor.epoch >= server.created());
        let is_known = !faults.kills || of_this_stream.any(|witness| witness.sequence >= handed_out);
        if faults.second || !is_known { handed_out } else { 0 }
    }

    /// Somebody edits a template, breaks it, or a list comes back partial.
    fn edit(&mut self) {
        let dice = &self.world.dice;
        let name = &dice.pick(&self.triggers());
        match dice.roll(0..4) {
            0 => self.define(name, BROKEN),
            1 if self.operators.iter().all(|operator| operator.handle.is_loaded()) => {
                self.world.trace(|| format!("a list comes back without {name}"));
                self.catalog.edit(|snapshot| {
                    snapshot.complete = false;
                    snapshot.triggers.remove(name.as_str());
                });
            }
            _ => {
                let words = dice.pick(&WORDS).to_owned();
                self.define(name, &words);
                self.definitions.triggers.get_mut(name).unwrap().1 = words;
            }
        }
    }

    fn triggers(&self) -> Vec<String> {
        self.definitions.triggers.keys().cloned().collect()
    }

    fn define(&mut self, name: &str, words: &str) {
        self.world.trace(|| format!("{name} is edited: {words}"));
        self.defined.get_mut(name).unwrap().1 = words.to_owned();
        self.define_all();
    }

    /// Whatever list came last, it was a complete one.
    fn define_all(&self) {
        self.catalog.edit(|snapshot| {
            snapshot.complete = true;
            for (name, (env, words)) in &self.defined {
                snapshot.triggers.insert(name.as_str().into(), Arc::new(trigger(name, env, words)));
            }
        });
    }

    /// A cluster joins, leaves, or gets another label.
    fn change_fleet(&mut self, name: &ClusterId) {
        let dice = &self.world.dice;
        if dice.chance(300) {
            self.world.trace(|| format!("{name} leaves"));
            self.selector.remove(name);
            self.definitions.clusters.remove(name);
        } else {
            self.label(name, dice.pick(&ENVS));
        }
    }

    fn label(&mut self, name: &ClusterId, env: &str) {
        self.world.trace(|| format!("{name} is labelled {env}"));
        self.definitions.clusters.insert(name.clone(), env.to_owned());
        self.selector.put(cluster((name, &env.to_owned())));
    }

    /// Faults end, and all becomes well, or does not.
    async fn end(&mut self) -> Vec<String> {
        let world = Arc::clone(&self.world);
        let dice = &world.dice;
        world.calm_down();
        self.disk.set_down(false);
        self.disk.set_slow(false);
        for name in self.names.clone() {
            self.clusters.set_down(&name, false);
            if !self.definitions.clusters.contains_key(&name) && dice.chance(500) {
                self.label(&name, dice.pick(&ENVS));
            }
        }
        self.defined.clone_from(&self.definitions.triggers);
        self.define_all();
        if let Feed::Stream(server) = &self.feed {
            server.start();
        }
        // The feed goes on: without that, nothing would tell that what was before is over.
        self.publish_one(Kind::Logout, "last");
        // What may land late has landed then.
        self.supervise();
        tokio::time::sleep(SETTLE + self.config.apply_deadline).await;
        let problems = self.until_well(Self::problems).await;
        if !problems.is_empty() {
            return problems;
        }
        // And it stays so over a restart, after which nothing is left that a crash left behind.
        self.wanted = 1;
        self.operators.iter().for_each(|operator| operator.process.kill("to begin once more"));
        self.supervise();
        tokio::time::sleep(SETTLE + self.config.apply_deadline).await;
        let problems = self.until_well(Self::all_problems).await;
        self.operators.iter().for_each(|operator| operator.process.kill("for all is over"));
        problems
    }

    /// Waits until there are no problems, or patience ends.
    async fn until_well(&mut self, problems: impl Fn(&Self) -> Vec<String>) -> Vec<String> {
        let began = self.world.elapsed();
        loop {
            self.supervise();
            let problems = problems(self);
            if problems.is_empty() || self.world.elapsed() - began > PATIENCE {
                return problems;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    fn all_problems(&self) -> Vec<String> {
        let mut problems = self.problems();
        problems.extend(model::leftovers(&self.definitions, &self.disk));
        problems
    }

    fn problems(&self) -> Vec<String> {
        let server = match &self.feed {
            Feed::Stream(server) => Some(&**server),
            Feed::Subject(_) => None,
        };
        let mut problems = self.world.violations();
        problems.extend(model::check(&self.definitions, &self.ledger, &self.clusters, &self.disk, server));
        problems
    }
}

fn cluster((name, env): (&ClusterId, &String)) -> Cluster {
    Cluster::new(name.clone(), [("env", env)])
}
