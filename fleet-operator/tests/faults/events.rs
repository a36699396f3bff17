//! What is published about whom, and what it comes to.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::random::Random;

/// What the first keys get is a namespace, which takes its time to go away; all others get a ConfigMap.
const NAMESPACES: usize = 12;

/// What there is to know of a message that is an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) subject: String,
    pub(crate) id: String,
    pub(crate) is_login: bool,
}

/// Messages in the order of their publication: logins, logouts, logins again, the same once more, and some that are no
/// events.
pub(crate) fn history(random: &mut Random, count: usize, keys: usize) -> Vec<Bytes> {
    let mut history: Vec<Bytes> = Vec::new();
    let mut logged_in = vec![false; keys];
    for number in 0..count {
        if random.percent(1) {
            history.push(format!("message {number} is no event").into());
        } else if number > 0 && random.percent(10) {
            let again = history[random.below(history.len())].clone();
            history.push(again);
        } else {
            let key = random.below(keys);
            // A login of who is logged in changes what is there; a logout of who is not changes nothing.
            logged_in[key] = if random.percent(85) { !logged_in[key] } else { logged_in[key] };
            let what = if logged_in[key] { "login" } else { "logout" };
            history.push(event(what, &subject(key), number).to_string().into());
        }
    }
    history
}

pub(crate) fn subject(key: usize) -> String {
    if key < NAMESPACES { format!("space-{key}") } else { format!("user-{key}") }
}

pub(crate) fn event(what: &str, subject: &str, id: usize) -> Value {
    json!({
        "specversion": "1.0", "type": format!("auth.example.com.{what}"), "source": "auth.example.com",
        "id": id.to_string(), "subject": subject, "data": {"secret": "hunter2"},
    })
}

/// `None`: it is no event.
pub(crate) fn read(payload: &[u8]) -> Option<Known> {
    let event: Value = serde_json::from_slice(payload).ok()?;
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    Some(Known { subject: text("subject"), id: text("id"), is_login: text("type").ends_with("login") })
}

/// What has to be in every cluster, by name, with the event that it is rendered from: the last event of a key decides.
pub(crate) fn model<'a>(messages: impl Iterator<Item = &'a [u8]>) -> BTreeMap<String, String> {
    let mut model = BTreeMap::new();
    for Known { subject, id, is_login } in messages.filter_map(read) {
        if is_login {
            model.insert(subject, id);
        } else {
            model.remove(&subject);
        }
    }
    model
}
