//! Conformance suites: what every implementation of a trait has to keep to, ours and yours.
//!
//! Each suite is a macro that makes one test of every rule in the contract of its trait. You write the fixture: how your
//! implementation is made, and what makes something happen in the world behind it. What it cannot do it says, with the
//! reason; the rules that need it are named on standard error as not checked.
//!
//! | trait | suite | fixture |
//! |---|---|---|
//! | [`Applier`](crate::apply::Applier) | [`applier!`] | [`applier::Fixture`] |
//! | [`ClusterSelector`](crate::cluster::ClusterSelector) | [`cluster_selector!`] | [`cluster_selector::Fixture`] |
//! | [`EventSource`](crate::source::EventSource) | [`event_source!`] | [`event_source::Fixture`] |
//! | [`Renderer`](crate::render::Renderer) | [`renderer!`] | [`renderer::Fixture`] |
//! | [`WorkStore`](crate::store::WorkStore) | [`work_store!`] | [`work_store::Fixture`] |
//!
//! A test that fails names the contract, its rule in the words of the trait's documentation, and what was seen:
//!
//! ```text
//! EventSource contract broken: "A SourceItem::Floor MUST be true for ever: nothing at or below it comes again, also
//! after a restart" (nothing_below_a_floor_comes_again): a delivery at lines@1.2 came after the floor lines@1.2
//! ```
//!
//! The tests run on tokio; the crate that uses a suite needs `tokio` with `macros` and `rt-multi-thread` among its
//! dev-dependencies.

pub mod applier;
pub mod cluster_selector;
pub mod event_source;
pub mod renderer;
pub mod work_store;

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;

#[doc(inline)]
pub use crate::__conformance_applier as applier;
#[doc(inline)]
pub use crate::__conformance_cluster_selector as cluster_selector;
#[doc(inline)]
pub use crate::__conformance_event_source as event_source;
#[doc(inline)]
pub use crate::__conformance_renderer as renderer;
#[doc(inline)]
pub use crate::__conformance_work_store as work_store;

/// No check takes that long.
const NEVER_ENDS: Duration = Duration::from_secs(120);

/// Why something cannot be checked of an implementation. A fixture returns it in place of what it cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotChecked(String);

impl NotChecked {
    /// For this reason: `a file has one writer`.
    pub fn because(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for NotChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a check found where it did not find that the rule holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The rule does not hold: what was seen, and what was expected.
    Broken(String),
    /// The fixture cannot do what the check needs.
    NotChecked(NotChecked),
}

impl From<NotChecked> for Finding {
    fn from(why: NotChecked) -> Self {
        Self::NotChecked(why)
    }
}

/// A rule of a contract, and how it is checked with a fixture.
pub struct Check<F> {
    contract: &'static str,
    name: &'static str,
    rule: &'static str,
    run: for<'a> fn(&'a F) -> BoxFuture<'a, Result<(), Finding>>,
}

impl<F> Check<F> {
    /// The name of the check, which is that of the test.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The rule, in the words of the trait.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// Checks an implementation.
    ///
    /// # Errors
    /// When the rule does not hold.
    pub async fn run(&self, fixture: &F) -> Result<Checked, Broken> {
        let ended = tokio::time::timeout(NEVER_ENDS, (self.run)(fixture)).await;
        let never = Finding::Broken(format!("the check came to no end within {NEVER_ENDS:?}"));
        match ended.unwrap_or(Err(never)) {
            Ok(()) => Ok(Checked::Holds),
            Err(Finding::NotChecked(why)) => Ok(Checked::Not(why)),
            Err(Finding::Broken(seen)) => {
                Err(Broken { contract: self.contract, check: self.name, rule: self.rule, seen })
            }
        }
    }
}

impl<F> fmt::Debug for Check<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What came of a check that found nothing broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The rule holds, as far as a test can tell.
    Holds,
    /// The fixture cannot do what the check needs.
    Not(NotChecked),
}

/// A rule that an implementation does not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{contract} contract broken: {rule:?} ({check}): {seen}")]
pub struct Broken {
    /// The trait.
    pub contract: &'static str,
    /// The name of the check.
    pub check: &'static str,
    /// The rule, in the words of the trait.
    pub rule: &'static str,
    /// What was seen, and what was expected.
    pub seen: String,
}

/// What the tests of a suite call.
#[doc(hidden)]
#[allow(clippy::panic, reason = "a test says what it found by panicking")]
pub async fn assert_kept<F>(checks: Vec<Check<F>>, name: &str, fixture: &F) {
    use std::io::Write;
    let Some(check) = checks.into_iter().find(|check| check.name == name) else {
        panic!("there is no check {name}")
    };
    match check.run(fixture).await {
        Ok(Checked::Holds) => {}
        // Past the capturing of the test harness: nothing is left out in silence.
        Ok(Checked::Not(why)) => {
            let _ = writeln!(std::io::stderr(), "{} {name}: not checked: {why}", check.contract);
        }
        Err(broken) => panic!("{broken}"),
    }
}

/// Makes one test of every check of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($suite:ident, $name:ident, $fixture:expr; $contract:literal; $($check:ident: $rule:literal,)+) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $check() {
                    let fixture = $fixture;
                    let checks = $crate::testing::conformance::$suite::checks();
                    $crate::testing::conformance::assert_kept(checks, stringify!($check), &fixture).await;
                }
            )+
        }
    };
}

/// The list of a suite's checks.
macro_rules! checks {
    (; $contract:literal; $($check:ident: $rule:literal,)+) => {
        #[cfg(test)]
        pub(super) const RULES: &[(&str, &str)] = &[$((stringify!($check), $rule)),+];

        /// Every check of the suite.
        pub fn checks<F: Fixture>() -> Vec<$crate::testing::conformance::Check<F>> {
            vec![$($crate::testing::conformance::Check {
                contract: $contract,
                name: stringify!($check),
                rule: $rule,
                run: |fixture| Box::pin($check(fixture)),
            }),+]
        }
    };
}

/// Ends a check where a condition does not hold.
macro_rules! holds {
    ($condition:expr, $($seen:tt)+) => {
        if !$condition {
            return Err($crate::testing::conformance::Finding::Broken(format!($($seen)+)));
        }
    };
}

use {checks, holds};

/// What should have come and did not ends a check.
trait OrBroken<T> {
    /// `seen` says what should have been.
    fn or_broken(self, seen: &str) -> Result<T, Finding>;
}

impl<T> OrBroken<T> for Option<T> {
    fn or_broken(self, seen: &str) -> Result<T, Finding> {
        self.ok_or_else(|| Finding::Broken(seen.to_owned()))
    }
}

impl<T, E: fmt::Display> OrBroken<T> for Result<T, E> {
    fn or_broken(self, seen: &str) -> Result<T, Finding> {
        self.map_err(|why| Finding::Broken(format!("{seen}: {why}")))
    }
}

/// A name that no other run of a check has, so that what a fixture works on need not be empty.
fn tag() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = jiff::Timestamp::now().as_millisecond();
    format!("{now:x}-{:x}-{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file documents, as plain text.
    fn documented(source: &str) -> String {
        let lines = source.lines().map(str::trim).filter_map(|line| line.strip_prefix("///"));
        plain(&lines.map(|line| line.trim().trim_start_matches("* ")).collect::<Vec<_>>().join(" "))
    }

    /// Without the marks of links and code.
    fn plain(text: &str) -> String {
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['[', ']', '`']) {
            plain.push_str(&rest[..at]);
            let link = rest[at..].starts_with("](");
            rest = &rest[at + 1..];
            if link {
                rest = rest.split_once(')').map_or("", |(_, after)| after);
            }
        }
        plain + rest
    }

    /// The kit checks what the traits say, and nothing else.
    #[test]
    fn every_rule_stands_in_the_documentation_of_its_trait() {
        let compare = |rules: &[(&str, &str)], source: &str| {
            let documented = documented(source);
            for (check, rule) in rules {
                assert!(documented.contains(rule), "{check}: {rule:?} is nowhere");
            }
        };
        compare(work_store::RULES, include_str!("../../store.rs"));
        compare(renderer::RULES, include_str!("../../render.rs"));
        compare(event_source::RULES, include_str!("../../source.rs"));
        compare(applier::RULES, include_str!("../../apply.rs"));
        compare(cluster_selector::RULES, include_str!("../../cluster.rs"));
    }
}
