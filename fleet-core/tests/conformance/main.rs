//! What we ship keeps its contracts; and each check of the kit finds what it is there to find, shown by implementations
//! that are broken on purpose.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod appliers;
mod broken_appliers;
#[cfg(feature = "minijinja")]
mod broken_renderers;
mod broken_selectors;
mod broken_sources;
mod broken_stores;
mod feed;
mod selectors;
mod sources;
mod stores;

use std::fmt::Debug;

use fleet_core::testing::conformance::{Broken, Check};

/// What a suite finds, check by check, each with a fixture of its own.
async fn found<F>(checks: Vec<Check<F>>, fixture: impl AsyncFn() -> F) -> Vec<Broken> {
    let run = checks.iter().map(async |check| check.run(&fixture().await).await.err());
    futures::future::join_all(run).await.into_iter().flatten().collect()
}

/// That of each fault the checks find what they are there to find, and nothing else; and that each says which rule of which
/// contract is broken.
#[track_caller]
fn assert_found<T: Copy + Debug>(contract: &str, cases: &[(T, Vec<Broken>, &[&str])]) {
    let wrong = cases
        .iter()
        .filter(|(_, found, expected)| !found.iter().map(|it| it.check).eq(expected.iter().copied()));
    let wrong: Vec<_> = wrong
        .map(|(fault, found, expected)| format!("{fault:?}: {expected:?} expected, found {found:#?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for broken in cases.iter().flat_map(|(_, found, _)| found) {
        let message = broken.to_string();
        let named = format!("{contract} contract broken: {:?} ({}): ", broken.rule, broken.check);
        assert!(message.starts_with(&named) && message.len() > named.len() + 10, "{message}");
    }
}

/// That no check is without a fault that it finds.
#[track_caller]
fn assert_each_can_fail<F, T>(checks: Vec<Check<F>>, cases: &[(T, &[&str])]) {
    for check in checks {
        let finds = cases.iter().any(|(_, expected)| expected.contains(&check.name()));
        assert!(finds, "nothing shows that {} can fail", check.name());
    }
}
