//! Epochs: which life of a stream a sequence number belongs to.
//!
//! JetStream gives sequence numbers twice in two cases. A stream that is deleted and made again starts at 1; its
//! `created` is a later one. A stream that lost its tail (a power failure before the file was synced) goes on from
//! what it still has. Either begins a new epoch, whose number is a time in nanoseconds since 1970: no storage but the
//! floors is needed to find it again.
//!
//! * Of a stream that is made anew, the number is its `created`, made even.
//! * Of a stream that lost its tail, it is the time of the newest message seen before, plus one, made odd. A message
//!   belongs to the epoch that its own publishing time falls into. So what survived the loss, published before, keeps
//!   its epoch, and what reuses the numbers, published after, is above all that was seen.
//!
//! A loss shows when a number at or below the newest one seen comes with a later time, when the stream's last sequence
//! is below the newest one seen, or when the newest message seen is still there but with another time. For the last
//! two, also after a restart, that newest message is kept as a second floor, in a domain of its own: its epoch is the
//! message's time, its sequence the message's. From a loss until all that survived it is settled this witness stays
//! as it is, so that a restart finds the same loss and the same number again. After that the number is the epoch of
//! the stream's own floor.

use fleet_core::position::{Domain, Position};

/// The epochs of the stream that a source reads.
#[derive(Debug, PartialEq)]
pub(super) struct Epochs {
    domain: Domain,
    witness_domain: Domain,
    /// The epoch of the floor handed in.
    floor: Option<Position>,
    /// Where the epochs of the present stream begin, ascending. Empty until the stream was met.
    starts: Vec<u64>,
    newest: Option<Seen>,
    lost: Option<Lost>,
}

/// A loss of which not all survivors are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lost {
    /// The newest message seen before.
    newest: Seen,
    /// The epoch that floors stay in meanwhile.
    floor_epoch: u64,
    /// None above this one survived.
    survivors: u64,
}

/// A message that was seen, by its sequence and its time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sequence: u64,
    pub(super) published: u64,
}

/// What meeting a stream showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// The stream that was read before, or the first one.
    Same,
    /// Another stream of this name: made again since.
    Recreated,
    /// A stream that is older than the one read before: which events are new cannot be told.
    Older,
}

impl Epochs {
    /// With what the store kept of an earlier life.
    pub(super) fn restore(domain: Domain, witness_domain: Domain, floors: &[Position]) -> Self {
        // One at 0 says that nothing was settled yet.
        let find =
            |domain: &Domain| floors.iter().find(|floor| floor.domain == *domain && floor.sequence > 0);
        let newest = find(&witness_domain)
            .map(|witness| Seen { sequence: witness.sequence, published: witness.epoch });
        Self { floor: find(&domain).cloned(), domain, witness_domain, starts: Vec::new(), newest, lost: None }
    }

    /// Whether the source was read before.
    pub(super) fn has_history(&self) -> bool {
        self.floor.is_some() || self.newest.is_some()
    }

    /// The newest message seen: whether the stream still has it tells whether it lost its tail.
    pub(super) fn newest(&self) -> Option<Seen> {
        self.newest
    }

    /// The sequence of the floor, if it is one of the stream that was met. What was lost above is given again.
    pub(super) fn floor_sequence(&self) -> Option<u64> {
        let first = self.starts.first()?;
        let highest = self.lost.map_or(u64::MAX, |lost| lost.survivors);
        self.floor.as_ref().filter(|floor| floor.epoch >= *first).map(|floor| floor.sequence.min(highest))
    }

    /// Meets a stream, by the time it was created.
    pub(super) fn meet(&mut self, created: u64) -> Met {
        let created = created & !1;
        if let Some(first) = self.starts.first() {
            return match created {
                created if created == *first => Met::Same,
                created if created < *first => Met::Older,
                created => self.begin_stream(created),
            };
        }
        let met = match self.floor.as_ref().map(|floor| floor.epoch) {
            // A floor in an epoch that began with a loss.
            Some(epoch) if epoch > created && epoch % 2 == 1 => {
                self.starts = vec![created, epoch];
                Met::Same
            }
            Some(epoch) if epoch > created => Met::Older,
            Some(epoch) if epoch < created => self.begin_stream(created),
            Some(_) => {
                self.starts = vec![created];
                Met::Same
            }
            // Seen, but nothing was settled yet: a stream made after the newest message was published is another one.
            None if self.newest.is_some_and(|seen| seen.published < created) => self.begin_stream(created),
            None => {
                self.starts = vec![created];
                Met::Same
            }
        };
        // A floor of this epoch was stored, and the process died before the newest message seen was: that one is of an
        // epoch before, and says nothing of this one.
        let current = self.current();
        self.newest = self.newest.filter(|seen| seen.published >= current);
        met
    }

    /// Whether this is the stream met last.
    pub(super) fn is_present(&self, created: u64) -> bool {
        self.first() == created & !1
    }

    fn begin_stream(&mut self, created: u64) -> Met {
        self.starts = vec![created];
        self.newest = None;
        self.lost = None;
        Met::Recreated
    }

    /// Looks whether the stream lost its tail while nobody looked: by its last sequence, and by when the message that
    /// now has the sequence of the newest one seen was published (`None`: it is gone, which proves nothing).
    pub(super) fn check_tail(&mut self, last_sequence: u64, published: Option<u64>) -> bool {
        let Some(newest) = self.newest else { return false };
        let is_another = published.is_some_and(|published| published != newest.published);
        let lost = last_sequence < newest.sequence || is_another;
        if lost {
            self.begin_after_loss(last_sequence.min(newest.sequence - u64::from(is_another)));
        }
        lost
    }

    /// Takes note of a message: the epoch it belongs to, and whether it shows that the stream lost its tail.
    pub(super) fn see(&mut self, message: Seen) -> (u64, bool) {
        let reused = self.newest.is_some_and(|newest| {
            message.sequence <= newest.sequence && message.published > newest.published
        });
        if reused {
            self.begin_after_loss(message.sequence.saturating_sub(1));
        }
        if self.newest.is_none_or(|newest| message.sequence > newest.sequence) {
            self.newest = Some(message);
        }
        let epoch = self.epoch_of(message.published);
        if epoch == self.current()
            && let Some(lost) = &mut self.lost
        {
            lost.survivors = lost.survivors.min(message.sequence.saturating_sub(1));
        }
        (epoch, reused)
    }

    fn begin_after_loss(&mut self, survivors: u64) {
        let Some(newest) = self.newest.take() else { return };
        let last = self.starts.last().copied().unwrap_or_default();
        self.starts.push(newest.published.max(last).saturating_add(1) | 1);
        let floor_epoch = self.lost.map_or(last, |earlier| earlier.floor_epoch);
        self.lost = Some(Lost { newest, floor_epoch, survivors });
    }

    fn epoch_of(&self, published: u64) -> u64 {
        let began = self.starts.iter().rev().find(|start| **start <= published);
        // A mirror keeps the times of its origin, which may be before it was created.
        began.or(self.starts.first()).copied().unwrap_or_default()
    }

    /// The epoch that messages published now belong to.
    pub(super) fn current(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Where the present stream's epochs begin.
    pub(super) fn first(&self) -> u64 {
        self.starts.first().copied().unwrap_or_default()
    }

    pub(super) fn position(&self, epoch: u64, sequence: u64) -> Position {
        Position { domain: self.domain.clone(), epoch, sequence }
    }

    /// Raises the floor to a sequence at and below which all is settled, of a stream whose last sequence is
    /// `last_sequence`; the floor, if it is a higher one.
    pub(super) fn raise(&mut self, sequence: u64, last_sequence: u64) -> Option<Position> {
        // Which numbers survived a loss is not known, only which did not.
        if self.lost.is_some_and(|lost| sequence >= lost.survivors.min(last_sequence)) {
            self.lost = None;
        }
        let epoch = self.lost.map_or(self.current(), |lost| lost.floor_epoch);
        let floor = self.position(epoch, sequence);
        let higher = sequence > 0 && self.floor.as_ref().is_none_or(|known| floor.is_above(known));
        higher.then(|| {
            self.floor = Some(floor.clone());
            floor
        })
    }

    /// The floor that keeps the newest message seen, for [`check_tail`](Self::check_tail) after a restart.
    pub(super) fn witness(&self) -> Option<Position> {
        let seen = self.lost.map(|lost| lost.newest).or(self.newest)?;
        Some(Position { domain: self.witness_domain.clone(), epoch: seen.published, sequence: seen.sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: u64 = 1_000_000;

    fn fresh() -> Epochs {
        let mut epochs = restart([]);
        assert_eq!(epochs.meet(CREATED), Met::Same);
        epochs
    }

    fn seen(sequence: u64, published: u64) -> Seen {
        Seen { sequence, published: CREATED + published }
    }

    fn restart(floors: impl IntoIterator<Item = Option<Position>>) -> Epochs {
        let floors: Vec<Position> = floors.into_iter().flatten().collect();
        Epochs::restore(Domain::new("s"), Domain::new("s/newest"), &floors)
    }

    #[test]
    fn one_life_is_one_epoch_whatever_comes_again() {
        let mut epochs = fresh();
        for message in [seen(1, 10), seen(2, 20), seen(1, 10), seen(5, 50), seen(2, 20)] {
            assert_eq!(epochs.see(message), (CREATED, false));
        }
        assert!(!epochs.check_tail(5, Some(CREATED + 50)));
        assert!(!epochs.check_tail(9, None), "a message that expired proves nothing");
    }

    #[test]
    fn a_stream_made_again_is_above_the_old_one_also_after_a_restart() {
        let mut epochs = fresh();
        epochs.see(seen(100, 50));
        let floor = epochs.raise(100, 100).unwrap();
        assert_eq!(epochs.meet(CREATED + 1001), Met::Recreated);
        let (epoch, _) = epochs.see(seen(1, 2000));
        assert!(epochs.position(epoch, 1).is_above(&floor));

        let mut again = restart([Some(floor.clone())]);
        assert_eq!(again.meet(CREATED + 1001), Met::Recreated);
        assert_eq!(again.floor_sequence(), None, "the old floor says nothing about the new stream");
        assert_eq!(again.see(seen(1, 2000)).0, epoch);
        assert_eq!(restart([Some(floor)]).meet(CREATED - 1000), Met::Older);
    }

    #[test]
    fn reused_numbers_are_above_what_was_seen_and_survivors_keep_their_place() {
        let mut epochs = fresh();
        for message in [seen(98, 80), seen(99, 90), seen(100, 100)] {
            epochs.see(message);
        }
        let before = epochs.position(CREATED, 100);
        // 99 and 100 were lost; 98 survived and comes again after the new 99.
        let (epoch, lost) = epochs.see(seen(99, 200));
        assert!(lost);
        assert!(epochs.position(epoch, 99).is_above(&before));
        assert_eq!(epochs.see(seen(98, 80)), (CREATED, false));
        assert_eq!(epochs.see(seen(99, 200)), (epoch, false), "its redelivery is no other loss");
        assert_eq!(epochs.see(seen(100, 210)), (epoch, false));
    }

    #[test]
    fn a_restart_finds_the_same_loss_and_the_same_epoch() {
        let mut epochs = fresh();
        epochs.see(seen(100, 100));
        let floor = epochs.raise(80, 100);
        let (epoch, lost) = epochs.see(seen(95, 200));
        assert!(lost);
        epochs.see(seen(130, 300));
        // Survivors up to 94 are not settled yet: the floor stays in the old epoch, and the witness as it was.
        let later = epochs.raise(85, 130).unwrap();
        assert_eq!(later.epoch, CREATED);
        for floors in [[floor, epochs.witness()], [Some(later), epochs.witness()]] {
            let mut again = restart(floors);
            assert_eq!(again.meet(CREATED), Met::Same);
            assert!(again.check_tail(130, Some(CREATED + 250)), "100 is another message now");
            assert_eq!(again.see(seen(131, 310)), (epoch, false));
            assert_eq!(again.see(seen(90, 60)).0, CREATED);
        }
        // All that could have survived is settled: the floor moves into the new epoch, which a restart takes from it.
        let moved = epochs.raise(110, 130).unwrap();
        assert_eq!(moved.epoch, epoch);
        let mut again = restart([Some(moved), epochs.witness()]);
        assert_eq!(again.meet(CREATED), Met::Same);
        assert!(!again.check_tail(130, Some(CREATED + 300)));
        assert_eq!(again.see(seen(131, 310)), (epoch, false));
        assert_eq!(again.see(seen(90, 60)).0, CREATED);
    }

    #[test]
    fn a_shorter_stream_lost_its_tail_and_its_floor_moves_on_when_all_of_it_is_settled() {
        let mut epochs = fresh();
        epochs.see(seen(100, 100));
        assert!(epochs.check_tail(90, None));
        assert_eq!(epochs.raise(85, 90).unwrap().epoch, CREATED);
        let (epoch, _) = epochs.see(seen(91, 200));
        assert!(epoch > CREATED);
        assert_eq!(epochs.raise(91, 91).unwrap(), epochs.position(epoch, 91));
        assert!(!epochs.check_tail(91, Some(CREATED + 200)));
    }

    #[test]
    fn a_floor_moves_on_before_the_lost_numbers_were_all_given_again() {
        let mut epochs = fresh();
        epochs.see(seen(100, 100));
        let (epoch, _) = epochs.see(seen(91, 200));
        assert_eq!(epochs.raise(89, 91).unwrap().epoch, CREATED);
        assert_eq!(
            epochs.raise(90, 91).unwrap(),
            epochs.position(epoch, 90),
            "91 was lost, and what came after"
        );
    }

    #[test]
    fn a_witness_of_the_stream_before_says_nothing() {
        let mut epochs = fresh();
        epochs.see(seen(4, 40));
        let witness = epochs.witness();
        assert_eq!(epochs.meet(CREATED + 1000), Met::Recreated);
        let floor = epochs.raise(1, 9);
        let mut again = restart([floor, witness]);
        assert_eq!(again.meet(CREATED + 1000), Met::Same);
        assert_eq!(again.newest(), None);
        assert!(!again.check_tail(9, Some(CREATED + 2000)));
    }

    #[test]
    fn a_witness_of_the_epoch_before_says_nothing() {
        let mut epochs = fresh();
        epochs.see(seen(13, 100));
        let witness = epochs.witness();
        let (epoch, lost) = epochs.see(seen(12, 200));
        assert!(lost);
        epochs.see(seen(20, 300));
        let floor = epochs.raise(15, 20);
        let mut again = restart([floor, witness]);
        assert_eq!(again.meet(CREATED), Met::Same);
        assert!(!again.check_tail(20, Some(CREATED + 210)), "the loss is known");
        assert_eq!(again.see(seen(18, 290)), (epoch, false));
    }

    #[test]
    fn numbers_below_the_floor_that_were_lost_are_read_again() {
        let mut epochs = fresh();
        epochs.see(seen(17, 100));
        epochs.raise(17, 17);
        assert!(epochs.check_tail(13, None));
        assert_eq!(epochs.floor_sequence(), Some(13));
    }

    #[test]
    fn floors_only_rise() {
        let mut epochs = fresh();
        epochs.see(seen(10, 100));
        assert_eq!(epochs.raise(0, 10), None);
        assert_eq!(epochs.raise(5, 10).map(|floor| floor.sequence), Some(5));
        assert_eq!(epochs.raise(5, 10), None);
        assert_eq!(epochs.raise(4, 10), None);
        assert_eq!(epochs.floor_sequence(), Some(5));
    }
}
