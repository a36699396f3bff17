//! What every [`WorkStore`] keeps to. See [`work_store!`](super::work_store!).

mod checks;
mod records;

use std::sync::Arc;
use std::time::Duration;

use super::{NotChecked, checks};
use crate::cluster::ClusterId;
use crate::store::WorkStore;

use self::checks::*;

/// A store under test, and what the suite does to it. Every check has a fixture of its own. The data need not be empty:
/// each check names its records as no other does.
pub trait Fixture: Send + Sync + 'static {
    /// A handle on the data, as an operator has it.
    fn store(&self) -> impl Future<Output = Arc<dyn WorkStore>> + Send;

    /// Another handle on the same data at the same time, as another operator has it.
    fn another(&self) -> impl Future<Output = Result<Arc<dyn WorkStore>, NotChecked>> + Send;

    /// A handle on the data as they are if the process is killed at this instant. The handle from before is not used any
    /// more.
    fn after_a_crash(&self) -> impl Future<Output = Result<Arc<dyn WorkStore>, NotChecked>> + Send;

    /// Three clusters for which records can be stored. Stored are names only, by default `civo/c1` to `civo/c3`.
    fn clusters(&self) -> [ClusterId; 3] {
        records::CLUSTERS.map(records::cluster)
    }

    /// How long a handle may take to hear what another one wrote.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// Makes one test of every rule in the contract of [`WorkStore`](crate::store::WorkStore), in a module of its own.
///
/// Its arguments are the name of the module, and an expression that makes a
/// [`Fixture`](crate::testing::conformance::work_store::Fixture), evaluated once for each test; it may `.await`.
///
/// ```
/// use std::sync::Arc;
///
/// use fleet_core::memory::MemoryStore;
/// use fleet_core::store::WorkStore;
/// use fleet_core::testing::conformance::{NotChecked, work_store};
///
/// struct Memory(MemoryStore);
///
/// impl work_store::Fixture for Memory {
///     async fn store(&self) -> Arc<dyn WorkStore> {
///         Arc::new(self.0.another_handle())
///     }
///
///     async fn another(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
///         Ok(Arc::new(self.0.another_handle()))
///     }
///
///     async fn after_a_crash(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
///         Err(NotChecked::because("nothing in memory survives the process"))
///     }
/// }
///
/// work_store!(memory, Memory(MemoryStore::default()));
/// # fn main() {}
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_work_store {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_work_store_checks!($crate::__conformance_tests; work_store, $name, $fixture);
    };
}

/// The checks, for whoever makes something of each.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_work_store_checks {
    ($then:path; $($arguments:tt)*) => {
        $then! {
            $($arguments)*; "WorkStore";
            a_work_comes_back_as_it_was: "Records come back exactly as they were written",
            an_applied_work_comes_back_as_it_was: "Records come back exactly as they were written",
            a_dead_letter_comes_back_byte_for_byte: "Records come back exactly as they were written",
            a_stale_write_of_a_work_fails:
                "A write names the revision it expects, and MUST fail with StoreError::Conflict where another one is there",
            a_stale_write_of_an_applied_work_fails:
                "A write names the revision it expects, and MUST fail with StoreError::Conflict where another one is there",
            one_of_many_writers_wins: "two operators by mistake cannot overwrite each other",
            a_revision_never_comes_twice: "Every record has a revision that changes with each write",
            reads_see_what_was_written:
                "Reads see all writes that returned through the same handle before they began",
            plans_replace_nothing: "A plan for which one is stored already is left out",
            works_are_listed_in_the_order_of_their_ids:
                "A page of Works in the order of their ids, those of one trigger or all, after an id",
            what_was_applied_is_listed_also_without_its_work: "What belongs to a Work that is gone is among it",
            pages_have_a_limit: "What a call reads or writes is bounded by its arguments: pages have a limit",
            floors_only_rise: "A floor is never lowered",
            epochs_only_grow: "Hands out the next epoch of a domain, from 1. Each call gives a higher one",
            dead_letters_are_listed_in_the_order_of_their_ids:
                "A page of dead letters in the order of their ids (that is, of time), after an id",
            a_dead_letter_replaces_itself: "A letter with the same id is replaced",
            what_another_handle_wrote_is_told:
                "What others wrote is seen at the latest once watch has told of it",
            after_a_conflict_a_read_is_fresh: "after a StoreError::Conflict the record is read anew",
            floors_and_epochs_are_read_as_they_are: "Floors and epochs are always read as they are",
            everything_survives_a_crash:
                "When a call returns Ok, what it wrote survives a crash of the process and of the machine",
        }
    };
}

crate::__conformance_work_store_checks!(checks;);
