//! What API servers were asked, by their own count.

use std::collections::BTreeMap;

use http::Request;
use kube::Client;

use crate::Failure;

/// How many requests there were, by verb and by what they were for; watches aside, which stand.
#[derive(Default)]
pub(super) struct Requests(BTreeMap<(String, String), f64>);

impl Requests {
    /// Of all these servers, since they started.
    pub(super) async fn of(servers: &[Client]) -> Result<Self, Failure> {
        let mut requests = Self::default();
        for server in servers {
            let metrics = server.request_text(Request::get("/metrics").body(Vec::new())?).await?;
            metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")).for_each(|line| {
                let label =
                    |name: &str| line.split_once(&format!(",{name}=\""))?.1.split_once('"').map(|it| it.0);
                let what = [label("resource"), label("subresource")].into_iter().flatten();
                let what = what.filter(|it| !it.is_empty()).collect::<Vec<_>>().join("/");
                let count = line.rsplit_once(' ').and_then(|(_, count)| count.parse::<f64>().ok());
                if let Some((verb, count)) = label("verb").zip(count).filter(|(verb, _)| *verb != "WATCH") {
                    *requests.0.entry((verb.to_owned(), what)).or_default() += count;
                }
            });
        }
        Ok(requests)
    }

    /// What is more than in another count: what came since, or what others do not ask.
    pub(super) fn beyond(&self, other: &Self) -> Self {
        let new = self
            .0
            .iter()
            .map(|(what, count)| (what.clone(), count - other.0.get(what).copied().unwrap_or_default()));
        Self(new.filter(|(_, count)| *count > 0.0).collect())
    }

    /// Those for ConfigMaps that write, and those that do not.
    pub(super) fn of_config_maps(&self) -> (f64, f64) {
        let is_read = |verb: &str| matches!(verb, "GET" | "LIST");
        let count = |reads: bool| {
            let of = self.0.iter().filter(|((verb, what), _)| what == "configmaps" && is_read(verb) == reads);
            of.fold(0.0, |all, (_, count)| all + count)
        };
        (count(false), count(true))
    }

    pub(super) fn total(&self) -> f64 {
        self.0.values().fold(0.0, |all, count| all + count)
    }
}

impl std::fmt::Display for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each = self.0.iter().map(|((verb, what), count)| format!("{count} {verb} {what}"));
        f.write_str(&each.collect::<Vec<_>>().join(", "))
    }
}
