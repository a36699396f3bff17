//! One selector against many clusters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::engine::clusters::ClusterIndex;
use fleet_core::selector::LabelSelector;

use crate::table::line;

pub(crate) fn measure(count: usize) {
    let clusters: Vec<_> = (0..count)
        .map(|number| {
            let env = if number % 2 == 0 { "production" } else { "staging" };
            let labels = [
                ("env", env.to_owned()),
                ("region", format!("r{}", number % 20)),
                ("name", format!("c{number}")),
            ];
            // Constants that are valid.
            #[allow(clippy::unwrap_used)]
            Arc::new(Cluster::new(ClusterId::new("fleet", &format!("c{number}")).unwrap(), labels))
        })
        .collect();
    let index = ClusterIndex::new(clusters.iter().cloned());
    for (name, json) in [
        ("env=production (half)", r#"{"matchLabels":{"env":"production"}}"#),
        ("env=production,region=r2 (a twentieth)", r#"{"matchLabels":{"env":"production","region":"r2"}}"#),
        (
            "region in (r1,r2,r3)",
            r#"{"matchExpressions":[{"key":"region","operator":"In","values":["r1","r2","r3"]}]}"#,
        ),
        (
            "env notin (staging)",
            r#"{"matchExpressions":[{"key":"env","operator":"NotIn","values":["staging"]}]}"#,
        ),
        ("env exists", r#"{"matchExpressions":[{"key":"env","operator":"Exists"}]}"#),
        ("everything", "{}"),
    ] {
        // A constant that is valid.
        #[allow(clippy::unwrap_used)]
        let selector: LabelSelector = serde_json::from_str(json).unwrap();
        let looking = best(|| clusters.iter().filter(|cluster| selector.matches(&cluster.labels)).count());
        let computed = best(|| index.compute(&selector).len());
        let kept = best(|| index.select(&selector).len());
        line(
            &format!("{name}: every cluster / index / kept"),
            format!("{:.1} / {:.1} / {:.3} µs", micros(looking), micros(computed), micros(kept)),
        );
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The median of some runs.
fn best(mut run: impl FnMut() -> usize) -> Duration {
    let mut times: Vec<_> = (0..201)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(run());
            began.elapsed()
        })
        .collect();
    crate::table::percentile(&mut times, 50)
}
