//! What every [`Applier`] keeps to. See [`applier!`](super::applier!).

mod checks;
mod observing;
mod ownership;
mod rig;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{NotChecked, checks};
use crate::apply::Applier;
use crate::cluster::Cluster;
use crate::manifest::ObjectRef;

use self::checks::*;
use self::observing::*;
use self::ownership::*;

/// An Applier under test, a cluster, and somebody else in that. Every check has a fixture of its own, and names its objects
/// as no other does.
pub trait Fixture: Send + Sync + 'static {
    /// The Applier, as a process makes it that starts now.
    fn applier(&self) -> impl Future<Output = Arc<dyn Applier>> + Send;

    /// The cluster. It is there and can be reached.
    fn cluster(&self) -> Arc<Cluster>;

    /// An object of this name which holds these texts at `/data`: by default a ConfigMap in the namespace `default`.
    fn object(&self, name: &str, texts: &[(&str, &str)]) -> Value {
        let data: serde_json::Map<_, _> = texts.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data})
    }

    /// Another one, without anything in it, that the cluster refuses for what it is.
    fn refused(&self, name: &str) -> Result<Value, NotChecked>;

    /// The object, as somebody else finds it.
    fn read(&self, object: &ObjectRef) -> impl Future<Output = Option<Value>> + Send;

    /// Somebody else makes an object, or changes one to be this.
    fn put(&self, object: &Value) -> impl Future<Output = ()> + Send;

    /// Somebody else deletes an object, which is then not there any more.
    fn delete(&self, object: &ObjectRef) -> impl Future<Output = ()> + Send;

    /// Puts the cluster out of reach: what is sent there is not answered.
    fn break_off(&self) -> impl Future<Output = Result<(), NotChecked>> + Send;

    /// Puts it within reach again.
    fn mend(&self) -> impl Future<Output = ()> + Send;

    /// What the Applier can do.
    fn abilities(&self) -> Abilities;

    /// How long anything may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// What an Applier can do. Where it cannot, the reason, which is told.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// It takes over what carries no mark, where the policy says so.
    pub adopts: Result<(), NotChecked>,
    /// Two Works can be told apart by their marks, and one can take what the other has to leave.
    pub hands_over: Result<(), NotChecked>,
    /// It leaves fields alone that the policy excludes.
    pub excludes: Result<(), NotChecked>,
    /// It tells what becomes of objects.
    pub observes: Result<(), NotChecked>,
}

/// Makes one test of every rule in the contract of [`Applier`](crate::apply::Applier), in a module of its own.
///
/// Its arguments are the name of the module, and an expression that makes a
/// [`Fixture`](crate::testing::conformance::applier::Fixture), evaluated once for each test; it may `.await`. An Applier
/// that wraps another one is tested with the fixture of that:
///
/// ```
/// use std::sync::Arc;
///
/// use fleet_core::apply::Applier;
/// use fleet_core::cluster::{Cluster, ClusterId};
/// use fleet_core::manifest::{Manifest, ObjectRef};
/// use fleet_core::memory::MemoryApplier;
/// use fleet_core::testing::conformance::{NotChecked, applier};
/// use serde_json::Value;
///
/// struct Memory(Arc<MemoryApplier>, Arc<Cluster>);
///
/// impl applier::Fixture for Memory {
///     async fn applier(&self) -> Arc<dyn Applier> {
///         Arc::clone(&self.0) as _
///     }
///
///     fn cluster(&self) -> Arc<Cluster> {
///         Arc::clone(&self.1)
///     }
///
///     fn refused(&self, _name: &str) -> Result<Value, NotChecked> {
///         Err(NotChecked::because("memory refuses nothing"))
///     }
///
///     async fn read(&self, object: &ObjectRef) -> Option<Value> {
///         self.0.object(&self.1.id, object).map(|it| Value::Object(it.object))
///     }
///
///     async fn put(&self, object: &Value) {
///         let id = Manifest::new(object.clone()).expect("an object").id().clone();
///         let fields = object.as_object().expect("an object").clone();
///         match self.0.object(&self.1.id, &id) {
///             Some(_) => self.0.edit(&self.1.id, &id, |there| *there = fields),
///             None => self.0.put_foreign(&self.1.id, id, fields),
///         }
///     }
///
///     async fn delete(&self, object: &ObjectRef) {
///         self.0.take_away(&self.1.id, object);
///     }
///
///     async fn break_off(&self) -> Result<(), NotChecked> {
///         Err(NotChecked::because("memory is never out of reach"))
///     }
///
///     async fn mend(&self) {}
///
///     fn abilities(&self) -> applier::Abilities {
///         let excludes = Err(NotChecked::because("in memory all fields are written"));
///         applier::Abilities { adopts: Ok(()), hands_over: Ok(()), excludes, observes: Ok(()) }
///     }
/// }
///
/// fn memory() -> Memory {
///     let cluster = Cluster::new(ClusterId::new("civo", "c1").expect("a name"), [("env", "production")]);
///     Memory(Arc::default(), Arc::new(cluster))
/// }
///
/// applier!(memory_keeps_it, memory());
/// # fn main() {}
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_applier {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_applier_checks!($crate::__conformance_tests; applier, $name, $fixture);
    };
}

/// The checks, for whoever makes something of each.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_applier_checks {
    ($then:path; $($arguments:tt)*) => {
        $then! {
            $($arguments)*; "Applier";
            what_is_applied_is_there_and_marked: "Every object written carries the mark",
            what_somebody_made_is_a_conflict:
                "An object that is neither in the inventory nor carries the mark of this Work MUST NOT be changed or deleted: it is a Outcome::Conflict",
            what_another_work_has_is_a_conflict:
                "So is one that carries another Work's mark, even if it is in the inventory",
            what_is_claimed_is_taken: "unless the request claims it from that Work",
            what_was_adopted_is_given_back:
                "An object that was adopted is given back instead: mark and ownership go, values stay",
            removal_takes_what_is_ours: "Deletes the request's inventory items, as far as they are ours",
            removal_checks_uid_and_mark: "Deletion checks UID and mark",
            fields_that_are_not_wanted_any_more_go:
                "Fields that were applied before and are not in the manifest any more are removed",
            what_is_excluded_stays: "Where Policy::excluded names a field, the value that is there stays",
            what_is_as_it_should_be_stays_as_it_is: "Applied again, what is as it should be stays as it is",
            a_preview_changes_nothing:
                "A Mode::Preview MUST NOT change anything; its outcomes are Outcome::Would in place of Applied and Gone",
            outcomes_are_in_the_order_of_what_was_asked:
                "One outcome for each manifest (apply) or inventory item (remove), in the same order",
            a_failure_keeps_no_other_from_being_tried:
                "An object's failure does not keep the others from being tried",
            a_conflict_holds_up_the_rest: "those not tried are Outcome::Waiting",
            it_returns_by_the_deadline: "MUST return by the deadline",
            a_list_comes_first: "a complete list first",
            each_change_is_told: "then each change as it happens",
            observing_goes_on: "MUST NOT end while the cluster is known",
        }
    };
}

crate::__conformance_applier_checks!(checks;);
