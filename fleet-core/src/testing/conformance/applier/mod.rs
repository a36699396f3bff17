//! What every [`Applier`] keeps to. See [`applier!`](super::applier!).

mod applying;
mod observing;
mod outcomes;
mod ownership;
mod removing;
mod rig;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{NotChecked, checks};
use crate::apply::Applier;
use crate::cluster::Cluster;
use crate::manifest::ObjectRef;

use self::applying::*;
use self::observing::*;
use self::outcomes::*;
use self::ownership::*;
use self::removing::*;

/// An Applier under test, a cluster, and somebody else in that. Every check has a fixture of its own, and names its objects
/// as no other does.
pub trait Fixture: Send + Sync + 'static {
    /// The Applier, as a process makes it that starts now.
    fn applier(&self) -> impl Future<Output = Arc<dyn Applier>> + Send;

    /// The cluster. It is there and can be reached.
    fn cluster(&self) -> Arc<Cluster>;

    /// An object of this name which holds these texts at `/data`: by default a ConfigMap in the namespace `default`.
    fn object(&self, name: &str, texts: &[(&str, &str)]) -> Value {
        let data: serde_json::Map<_, _> =
            texts.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
        let metadata = json!({"name": name, "namespace": "default"});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    }

    /// One that the cluster, or the Applier, refuses for what it is.
    fn refused(&self, name: &str) -> Result<Value, NotChecked>;

    /// Two objects that are not there: the first, and one that can only be there once the first is. No namespace is made
    /// unasked meanwhile ([`Policy::skip_namespace_creation`](crate::policy::Policy::skip_namespace_creation)).
    fn in_order(&self, name: &str) -> Result<[Value; 2], NotChecked> {
        let _ = name;
        Err(NotChecked::because("no object needs another one"))
    }

    /// One that is not there, which others live in and would die with.
    fn lived_in(&self) -> Result<Value, NotChecked> {
        Err(NotChecked::because("nothing lives in another object"))
    }

    /// The object, as somebody else finds it: its mark, and its texts at `/data`, where they belong, whatever else there is.
    fn read(&self, object: &ObjectRef) -> impl Future<Output = Option<Value>> + Send;

    /// Somebody else makes an object, or changes one to be this; also while it is out of reach for the Applier.
    fn put(&self, object: &Value) -> impl Future<Output = ()> + Send;

    /// Somebody else deletes an object, which is then not there any more; also while it is out of reach for the Applier.
    fn delete(&self, object: &ObjectRef) -> impl Future<Output = ()> + Send;

    /// Somebody else deletes an object, which is being deleted from then on, until [`let_go`](Self::let_go).
    fn hold(&self, object: &ObjectRef) -> impl Future<Output = Result<(), NotChecked>> + Send {
        let _ = object;
        async { Err(NotChecked::because("what is deleted is gone at once")) }
    }

    /// Lets go of an object that is being deleted.
    fn let_go(&self, object: &ObjectRef) -> impl Future<Output = ()> + Send {
        let _ = object;
        async {}
    }

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
    /// It knows by its UID what is in the inventory and lost its mark.
    pub knows_by_uid: Result<(), NotChecked>,
    /// It takes over what carries no mark, where the policy says so.
    pub adopts: Result<(), NotChecked>,
    /// It leaves fields alone that the policy excludes.
    pub excludes: Result<(), NotChecked>,
    /// An object keeps its UID when it is changed.
    pub keeps_uids: Result<(), NotChecked>,
    /// It tries one object after the other, so that a conflict is known before the next is tried.
    pub holds_up: Result<(), NotChecked>,
    /// It tells what becomes of objects.
    pub observes: Result<(), NotChecked>,
}

impl Abilities {
    /// It can do everything.
    pub fn all() -> Self {
        Self {
            knows_by_uid: Ok(()),
            adopts: Ok(()),
            excludes: Ok(()),
            keeps_uids: Ok(()),
            holds_up: Ok(()),
            observes: Ok(()),
        }
    }
}

/// Makes one test of every rule in the contract of [`Applier`](crate::apply::Applier), in a module of its own.
///
/// Its arguments are the name of the module, and an expression that makes a
/// [`Fixture`](crate::testing::conformance::applier::Fixture), evaluated once for each test; it may `.await`.
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
///         applier::Abilities::all()
///     }
/// }
///
/// fn memory() -> Memory {
///     let cluster = Cluster::new(ClusterId::new("civo", "c1").expect("a name"), [("env", "production")]);
///     Memory(Arc::default(), Arc::new(cluster))
/// }
///
/// applier!(in_memory, memory());
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
            what_lost_its_mark_is_ours_by_the_inventory:
                "An object that is neither in the inventory nor carries the mark of this Work",
            what_another_work_has_is_a_conflict:
                "So is one that carries another Work's mark, even if it is in the inventory",
            what_is_claimed_is_taken: "unless the request claims it from that Work",
            what_is_taken_over_has_no_mark: "With Policy::adopt an object without any mark is taken over",
            what_was_adopted_is_given_back:
                "An object that was adopted is given back instead: mark and ownership go, values stay",
            what_others_live_in_is_never_deleted:
                "What others live in and would die with (kube-system) is never deleted",
            removal_takes_what_is_ours: "Deletes the request's inventory items, as far as they are ours",
            removal_checks_uid_and_mark: "Deletion checks UID and mark",
            fields_that_are_not_wanted_any_more_go:
                "Fields that were applied before and are not in the manifest any more are removed",
            what_is_excluded_stays: "Where Policy::excluded names a field, the value that is there stays",
            what_is_as_it_should_be_stays_as_it_is: "Applied again, what is as it should be stays as it is",
            what_others_need_goes_first:
                "What others need goes first: namespaces and definitions of kinds before what lives in them",
            a_preview_changes_nothing:
                "A Mode::Preview MUST NOT change anything; its outcomes are Outcome::Would in place of Applied and Gone",
            what_is_being_deleted_is_waited_for:
                "An object that is being deleted is not there: it is Outcome::Waiting until it is gone",
            what_is_not_answered_is_unknown:
                "A call whose answer did not arrive (time-out, broken connection, 504) is Outcome::Unknown: it may still take effect",
            outcomes_are_in_the_order_of_what_was_asked:
                "One outcome for each manifest (apply) or inventory item (remove), in the same order",
            a_failure_keeps_no_other_from_being_tried:
                "An object's failure does not keep the others from being tried",
            a_conflict_holds_up_the_rest:
                "Only a conflict does, unless Policy::continue_on_conflict is set: those not tried are Outcome::Waiting",
            it_returns_by_the_deadline: "MUST return by the deadline",
            a_list_comes_first: "a complete list first",
            each_change_is_told: "then each change as it happens",
            what_happened_out_of_reach_is_told: "a list again whenever something may have been missed",
            observing_goes_on: "MUST NOT end while the cluster is known",
            one_that_cannot_watch_tells_nothing: "An Applier that cannot watch returns a stream that is empty",
        }
    };
}

crate::__conformance_applier_checks!(checks;);
