//! Many triggers of one source, of which each event concerns one.

use std::sync::Arc;

use fleet_core::catalog::TriggerDef;
use fleet_core::filter::{EventExpression, Filter, Pattern};

use crate::Failure;
use crate::engine::run;
use crate::parts::{Nothing, trigger};
use crate::table::line;

/// Events are `auth.example.com.login` from `auth.example.com` about `user-0`.
const WANTED: [(&str, &str); 3] =
    [("type", "auth.example.com.login"), ("source", "auth.example.com"), ("subject", "user-0")];

pub(crate) async fn measure(triggers: usize, events: usize) -> Result<(), Failure> {
    let mut kinds: Vec<(String, Vec<Filter>)> = Vec::new();
    for (name, wanted) in WANTED {
        let exact = |number: usize| {
            let value = if number == 0 { wanted.to_owned() } else { format!("{wanted}-{number}") };
            Filter::Exact([(name.to_owned(), value)].into())
        };
        kinds.push((format!("told apart by exact {name}"), (0..triggers).map(exact).collect()));
    }
    let pattern = |number: usize| {
        let text = if number == 0 { "user-0$".to_owned() } else { format!("nobody-{number}$") };
        Ok(Filter::Pattern([("subject".to_owned(), Pattern::new(&text)?)].into()))
    };
    kinds.push((
        "told apart by a pattern".to_owned(),
        (0..triggers).map(pattern).collect::<Result<_, Failure>>()?,
    ));
    let cel = |number: usize| {
        let wanted = if number == 0 { "logged in".to_owned() } else { format!("logged in {number}") };
        let text = format!("event.type.endsWith('.login') && event.data.message == '{wanted}'");
        Ok(Filter::Cel(EventExpression::new(&text)?))
    };
    kinds.push(("told apart by CEL".to_owned(), (0..triggers).map(cel).collect::<Result<_, Failure>>()?));

    for (name, filters) in kinds {
        let with = |filters: &[Filter], events: usize| {
            let named = |(number, filter): (usize, &Filter)| TriggerDef {
                name: format!("trigger-{number}").into(),
                filter: filter.clone(),
                ..trigger("x")
            };
            let triggers: Vec<_> = filters.iter().enumerate().map(named).collect();
            async move { 1e6 / run(events, 1, 1, Arc::new(Nothing::default()), triggers).await }
        };
        let alone = with(filters.get(..1).unwrap_or_default(), events).await;
        let among = with(&filters, events).await;
        line(
            &format!("{triggers} triggers {name}: an event with one alone / with all / ratio"),
            format!("{alone:.1} / {among:.1} µs / {:.2}", among / alone),
        );
    }
    Ok(())
}
