//! An expression in CEL. It takes a bounded time, gives the same answer to the same event, and shows nothing of it.

use std::sync::LazyLock;

use fleet_core::event::Event;
use fleet_core::filter::{EventExpression, Facts, Filter};
use fleet_core::source::Message;
use serde_json::json;

use crate::{Outcome, SECRET, shows_no_secret};

static EVENT: LazyLock<Event> = LazyLock::new(|| {
    let data = json!({
        "text": SECRET, "int": 20, "float": 1.5, "yes": true, "nothing": null, "list": ["a", "b", SECRET],
        "map": {"a": {"b": 1}}, "long": vec![SECRET; 60],
    });
    let event = Event::builder("1", "auth.example.com", "auth.example.com.login").subject(SECRET);
    event.extension("region", "eu").extension("rank", 3).json(data).build().unwrap()
});
static MESSAGE: LazyLock<Message> =
    LazyLock::new(|| Message { subject: "user.operation".to_owned(), headers: Vec::new() });

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(input) else { return Outcome::Refused };
    match EventExpression::new(text) {
        Ok(expression) => {
            assert_eq!(expression.as_str(), text);
            let filter = Filter::Cel(expression);
            let answer = filter.matches(&Facts::new(&EVENT, &MESSAGE));
            assert_eq!(filter.matches(&Facts::new(&EVENT, &MESSAGE)), answer, "asked again");
            if let Err(error) = answer {
                shows_no_secret(&error.to_string(), text);
            }
            Outcome::Taken
        }
        Err(error) => {
            shows_no_secret(&error.to_string(), text);
            Outcome::Refused
        }
    }
}
