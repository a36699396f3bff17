//! Elections in virtual time, against an API server in memory that is as bad as one may be.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_core::environment::{Clock, Entropy, SplitMix};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinHandle;

use super::lease::{Lease, Record};
use super::*;

const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(10);
/// The longest pause between two attempts of a candidate, with jitter.
const LONGEST_PAUSE: Duration = Duration::from_millis(4400);

/// An API server that keeps one Lease.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Option<Lease>>>);

impl Server {
    fn record(&self) -> Option<Record> {
        self.0.lock().unwrap().as_ref().map(Lease::record)
    }

    /// What somebody else writes.
    fn edit(&self, edit: impl FnOnce(&mut Record)) {
        let mut there = self.0.lock().unwrap();
        let lease = there.take().unwrap();
        let mut record = lease.record();
        edit(&mut record);
        *there = Some(next(&lease.with(&record)));
    }

    fn take_in(&self, ask: &Ask) -> Answer {
        let mut there = self.0.lock().unwrap();
        match (ask, there.as_ref()) {
            (Ask::Read, None) => return Answer::Absent,
            (Ask::Read, Some(lease)) => return Answer::Is(lease.clone()),
            (Ask::Create(lease), None) => *there = Some(lease.clone().of_version(1)),
            (Ask::Update(lease), Some(old)) if lease.version() == old.version() => *there = Some(next(lease)),
            _ => return Answer::Raced,
        }
        Answer::Is(there.clone().unwrap())
    }
}

fn next(lease: &Lease) -> Lease {
    let version: u64 = lease.version().unwrap().parse().unwrap();
    lease.clone().of_version(version + 1)
}

/// The way to it, and what can go wrong on it.
#[derive(Clone, Copy, Debug, Default)]
enum Road {
    #[default]
    Good,
    /// Nothing arrives.
    Cut,
    /// What is asked has its effect, but no answer comes.
    Deaf,
    /// Both ways take this long, together.
    Slow(Duration),
}

#[derive(Clone, Default)]
struct Way {
    server: Server,
    road: Arc<Mutex<Road>>,
}

impl Leases for Way {
    async fn ask(&self, ask: &Ask, deadline: Instant) -> Answer {
        let road = *self.road.lock().unwrap();
        let answer = async {
            match road {
                Road::Good => self.server.take_in(ask),
                Road::Cut => std::future::pending().await,
                Road::Deaf => {
                    self.server.take_in(ask);
                    std::future::pending().await
                }
                Road::Slow(time) => {
                    tokio::time::sleep(time / 2).await;
                    let answer = self.server.take_in(ask);
                    tokio::time::sleep(time / 2).await;
                    answer
                }
            }
        };
        let late = Answer::Failed("no answer in time".to_owned());
        tokio::time::timeout_at(deadline, answer).await.unwrap_or(late)
    }
}

/// A wall clock that is wrong by this many hours.
struct Wrong(i64, Instant);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(self.0) + self.1.elapsed()
    }
}

fn race(server: &Server, identity: &str, wrong: i64) -> (Race<Way>, Arc<Mutex<Road>>) {
    let way = Way { server: server.clone(), road: Arc::default() };
    let road = Arc::clone(&way.road);
    let environment = Environment {
        clock: Arc::new(Wrong(wrong, Instant::now())),
        entropy: Arc::new(SplitMix::new(identity.len() as u64)),
        ..Environment::default()
    };
    let candidate = Candidate::new("fleet-events", "fleet-operator", identity, Timing::default());
    (Race::new(way, candidate, environment), road)
}

async fn leader(server: &Server, identity: &str) -> (Leadership, Arc<Mutex<Road>>) {
    let (race, road) = race(server, identity, 0);
    (race.acquire().await, road)
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_is_written_down_and_the_other_waits() {
    let server = Server::default();
    let (first, _road) = leader(&server, "first").await;
    let record = server.record().unwrap();
    assert_eq!((record.holder.as_str(), record.duration, record.transitions), ("first", LEASE, 0));
    let (race, _) = race(&server, "second", 0);
    let standing = race.standing.subscribe();
    let second = tokio::spawn(race.acquire());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!second.is_finished() && first.tenure().holds());
    assert_eq!(*standing.borrow(), Standing::Waiting { holder: "first".to_owned() });
    let later = server.record().unwrap();
    assert_eq!((later.holder.as_str(), later.acquired, later.transitions), ("first", record.acquired, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_followed_within_the_lease_time_and_not_earlier() {
    let server = Server::default();
    // Clocks of this and the last century: neither matters.
    for wrong in [0, -400_000, 400_000] {
        let (first, _road) = leader(&server, "first").await;
        let (race, _) = race(&server, "second", wrong);
        let second = tokio::spawn(race.acquire());
        // Dies at no particular time between two renewals.
        tokio::time::sleep(Duration::from_millis(61_300)).await;
        let died = Instant::now();
        drop(first);
        let second = second.await.unwrap();
        let took = died.elapsed();
        assert!(took > LEASE - Duration::from_secs(2) && took <= LEASE + LONGEST_PAUSE, "{took:?}");
        let record = server.record().unwrap();
        assert_eq!(record.holder, "second");
        assert!(record.transitions > 0);
        assert!(second.release().await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_left_by_the_dead_is_taken_over_within_the_lease_time() {
    let server = Server::default();
    drop(leader(&server, "dead").await);
    // It says that it was renewed in the far future, or long ago: that is not looked at.
    for time in ["2999-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000000Z"] {
        server.edit(|record| {
            record.holder = "dead".to_owned();
            record.duration = LEASE;
            time.clone_into(&mut record.renewed);
        });
        let begun = Instant::now();
        let (leadership, _road) = leader(&server, "living").await;
        assert_eq!(begun.elapsed().as_secs(), LEASE.as_secs(), "{time}");
        leadership.release().await.unwrap();
    }
    // The holder's own word on how long it holds counts.
    server.edit(|record| {
        record.holder = "dead".to_owned();
        record.duration = Duration::from_secs(60);
    });
    let begun = Instant::now();
    let _living = leader(&server, "living").await;
    assert_eq!(begun.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_taken_over_at_once() {
    let server = Server::default();
    let (first, _road) = leader(&server, "first").await;
    let tenure = first.tenure();
    let second = tokio::spawn(race(&server, "second", 0).0.acquire());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let asked = Instant::now();
    first.release().await.unwrap();
    assert!(!tenure.holds());
    assert_eq!(tenure.lost().await, Lost::GivenUp);
    let record = server.record().unwrap();
    assert_eq!((record.holder.as_str(), record.duration.as_secs()), ("", 1));
    let second = second.await.unwrap();
    assert!(asked.elapsed() <= LONGEST_PAUSE, "{:?}", asked.elapsed());
    assert!(second.tenure().holds());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_was_under_way_does_not_undo_giving_up() {
    let server = Server::default();
    let (first, road) = leader(&server, "first").await;
    *road.lock().unwrap() = Road::Deaf;
    // It renews, which has its effect; but nobody tells it.
    let before = server.record();
    while server.record() == before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    *road.lock().unwrap() = Road::Good;
    first.release().await.unwrap();
    assert_eq!(server.record().unwrap().holder, "");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_before_anybody_else_may_lead() {
    let server = Server::default();
    let (first, road) = leader(&server, "first").await;
    let second = tokio::spawn(race(&server, "second", 0).0.acquire());
    tokio::time::sleep(Duration::from_secs(60)).await;
    for bad in [Road::Cut, Road::Deaf, Road::Slow(Duration::from_secs(60))] {
        assert!(first.tenure().holds());
        // Short troubles are none.
        *road.lock().unwrap() = bad;
        tokio::time::sleep(Duration::from_secs(2)).await;
        *road.lock().unwrap() = Road::Good;
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    *road.lock().unwrap() = Road::Cut;
    let cut = Instant::now();
    let lost = first.lost().await;
    assert_eq!(lost, Lost::NotRenewed { within: RENEW, trouble: Some("no answer in time".to_owned()) });
    assert!(cut.elapsed() <= RENEW && cut.elapsed() >= RENEW - Duration::from_secs(2), "{:?}", cut.elapsed());
    assert!(!first.tenure().holds() && !second.is_finished());
    second.await.unwrap();
    assert!(cut.elapsed() >= LEASE - Duration::from_secs(2), "{:?}", cut.elapsed());
    assert_eq!(
        first.release().await.unwrap_err().to_string(),
        "the Lease was not given up, so it runs out by itself: it was lost before"
    );
}

#[tokio::test(start_paused = true)]
async fn a_frozen_leader_notices_before_it_acts() {
    let start = Instant::now();
    let wall = Timestamp::UNIX_EPOCH;
    let server = Server::default();
    let mut candidate = Candidate::new("fleet-events", "fleet-operator", "frozen", Timing::default());
    let go = |candidate: &mut Candidate, now| match candidate.step(now, wall, 0) {
        Step::Ask(ask) => candidate.answered(&ask, now, now, server.take_in(&ask)),
        Step::Pause(_) => {}
        Step::Stop(lost) => panic!("{lost}"),
    };
    while candidate.leads_until().is_none() {
        go(&mut candidate, start);
    }
    go(&mut candidate, start);
    // What counts is when a renewal was sent: others may have seen it right then.
    let sent = start + Duration::from_secs(1);
    let Step::Ask(ask) = candidate.step(sent, wall, 0) else { panic!() };
    candidate.answered(&ask, sent, start + Duration::from_secs(4), server.take_in(&ask));
    assert_eq!(candidate.leads_until(), Some(sent + RENEW));
    assert!(matches!(candidate.step(start + Duration::from_secs(4), wall, 0), Step::Pause(_)));
    // It wakes up where it was going to renew, or where the answer to a renewal waits for it.
    let awake = start + Duration::from_secs(16);
    let Step::Ask(ask) = candidate.step(start + Duration::from_secs(6), wall, 0) else { panic!() };
    candidate.answered(&ask, start + Duration::from_secs(6), awake, server.take_in(&ask));
    assert_eq!(candidate.leads_until(), None);
    assert!(matches!(candidate.step(awake, wall, 0), Step::Stop(Lost::NotRenewed { .. })));

    let (_term, watched) = watch::channel(Term::Until(start + RENEW));
    let tenure = Tenure { term: watched, over: CancellationToken::new() };
    assert!(tenure.holds());
    tokio::time::advance(LEASE).await;
    assert!(!tenure.holds(), "though nobody has told it");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_makes_no_difference() {
    let server = Server::default();
    let (race, road) = race(&server, "one", 0);
    *road.lock().unwrap() = Road::Deaf;
    let acquiring = tokio::spawn(race.acquire());
    while server.record().is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // It reads first; that answer must come.
        let absent = server.record().is_none();
        *road.lock().unwrap() = if absent { Road::Good } else { Road::Deaf };
    }
    *road.lock().unwrap() = Road::Good;
    let leadership = acquiring.await.unwrap();
    assert!(leadership.tenure().holds());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_others_meddle_with() {
    let server = Server::default();
    let (first, _road) = leader(&server, "first").await;
    // A label, or whatever does not concern the record.
    server.edit(|_| {});
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(first.tenure().holds());
    // Deleted, and nobody else was there: it is made anew.
    *server.0.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(first.tenure().holds());
    assert_eq!(server.record().unwrap().holder, "first");
    server.edit(|record| record.holder.clear());
    assert_eq!(first.lost().await, Lost::Emptied);
    let (again, _road) = leader(&server, "again").await;
    server.edit(|record| "thief".clone_into(&mut record.holder));
    assert_eq!(again.lost().await, Lost::Taken { holder: "thief".to_owned() });
}

/// One candidate after the other of one name, on a bad road, each for as long as it is let.
async fn serve(server: Server, identity: String, road: Arc<Mutex<Road>>, leads: Arc<Mutex<Vec<Tenure>>>) {
    for life in 0.. {
        let (mut race, _) = race(&server, &format!("{identity}-{life}"), 0);
        race.leases.road = Arc::clone(&road);
        let leadership = race.acquire().await;
        leads.lock().unwrap().push(leadership.tenure());
        leadership.lost().await;
    }
}

#[tokio::test(start_paused = true)]
async fn never_do_two_lead_and_always_somebody_comes_to() {
    for seed in 0..60 {
        let chance = SplitMix::new(seed);
        let server = Server::default();
        let leads: Arc<Mutex<Vec<Tenure>>> = Arc::default();
        let mut candidates: Vec<(Arc<Mutex<Road>>, JoinHandle<()>)> = Vec::new();
        for number in 0..3 {
            let road: Arc<Mutex<Road>> = Arc::default();
            let task = serve(server.clone(), format!("{number}"), Arc::clone(&road), Arc::clone(&leads));
            candidates.push((road, tokio::spawn(task)));
        }
        let holding = || leads.lock().unwrap().iter().filter(|tenure| tenure.holds()).count();
        for tick in 0..6000 {
            if tick % 40 == 0 {
                let (road, _) = &candidates[(chance.next() % 3) as usize];
                *road.lock().unwrap() = match chance.next() % 6 {
                    0 => Road::Cut,
                    1 => Road::Deaf,
                    2 | 3 => Road::Slow(Duration::from_millis(chance.next() % 12_000)),
                    _ => Road::Good,
                };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(holding() <= 1, "seed {seed}: two lead");
        }
        for (road, _) in &candidates {
            *road.lock().unwrap() = Road::Good;
        }
        tokio::time::sleep(LEASE + LONGEST_PAUSE * 2).await;
        assert_eq!(holding(), 1, "seed {seed}: nobody leads");
        for (_, task) in candidates {
            task.abort();
        }
    }
}
