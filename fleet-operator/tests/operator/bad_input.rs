//! Bad input: one clear error that says where, why and what to do; nothing else stops; it heals without a restart.

use std::fs;

use serde_json::Value;

use crate::process::{Home, Operator, event, eventually};

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

/// Waits until an event about a user shows up as stalled, and gives the message.
fn stalled(home: &Home) -> String {
    eventually("the Work is stalled", || {
        let rows = home.show("addons");
        rows.iter().find(|row| row["state"] == "Stalled").map(|row| text(row, "message"))
    })
}

fn arrives(home: &Home, user: &str) {
    for cluster in ["cluster1", "cluster2"] {
        let file = home.namespace_file(cluster, user);
        eventually(&format!("{user} arrives in {cluster}"), || file.exists().then_some(()));
    }
}

fn condition(home: &Home, expected: &str) -> String {
    eventually(&format!("the condition says {expected:?}"), || {
        let row = home.show("triggers").remove(0);
        let condition = format!("{} {}", text(&row, "reason"), text(&row, "message"));
        condition.contains(expected).then_some(condition)
    })
}

/// The log says it too, and neither says what events or Secrets hold.
fn is_logged(home: &Home, expected: &str) {
    eventually(&format!("the log says {expected:?}"), || home.log().contains(expected).then_some(()));
    assert!(!home.log().contains("hunter2"));
}

#[test]
fn what_is_no_event_is_refused_and_kept_as_a_dead_letter() {
    let home = Home::with("quickstart");
    let operator = home.start();
    let json = ("Content-Type", "application/cloudevents+json");
    let huge = format!("{{\"data\":\"{}\"}}", "x".repeat(2 << 20));
    let large = event("login", "large").replace("hunter2", &"x".repeat(300 << 10));
    for (headers, body, status, expected) in [
        (&[json][..], "hello", 400, "not a CloudEvent: the message is not JSON"),
        (&[json], "[]", 400, "not an object"),
        (&[json], "{}", 400, "specversion is missing"),
        (&[json], r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#, 400, "id is empty"),
        (&[("Content-Type", "text/plain")], "hello", 415, "send a JSON event with Content-Type"),
        (&[("ce-specversion", "1.0"), ("ce-id", "1")], "", 400, "source is missing"),
        (&[json], &huge, 413, "larger than"),
        (&[json], &large, 422, "maxEventBytes"),
    ] {
        let (found, answer) = operator.request("POST", "events", headers, body.as_bytes());
        assert_eq!(found, status, "{answer}");
        assert!(answer.contains(expected), "{expected:?} in {answer}");
    }
    let letters = home.dead_letters();
    let reasons: Vec<String> = letters.iter().map(|letter| text(letter, "reason")).collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "NotACloudEvent").count(), 6, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| *reason == "TooLarge").count(), 1, "{reasons:?}");
    assert!(
        letters
            .iter()
            .all(|letter| letter["source"] == "user-operation" && !text(letter, "detail").is_empty())
    );
    is_logged(&home, "specversion is missing");
    operator.accepts(&event("login", "mgianluc"));
    arrives(&home, "mgianluc");
}

#[test]
fn an_event_without_a_subject_stalls_where_the_template_needs_one() {
    let home = Home::with("quickstart");
    let operator = home.start();
    operator.accepts(
        r#"{"specversion":"1.0","type":"auth.example.com.login","source":"auth.example.com","id":"1"}"#,
    );
    let message = stalled(&home);
    assert!(message.contains("ConfigMap default/namespace") && message.contains("subject"), "{message}");
    assert!(message.contains("line 4"), "{message}");
    operator.accepts(&event("login", "mgianluc"));
    arrives(&home, "mgianluc");
}

#[test]
fn a_subject_that_is_no_name_goes_nowhere() {
    let home = Home::with("quickstart");
    let operator = home.start();
    let subjects =
        ["https://x/y", &"x".repeat(300), "😀", "../../x", "a: b", "{{ 7 }}", "x\n---\nkind: Secret"];
    for subject in subjects {
        operator.accepts(&event("login", subject));
    }
    let messages = eventually("all are stalled", || {
        let rows = home.show("addons");
        let stalled = rows.into_iter().filter(|row| row["state"] == "Stalled");
        let messages: Vec<String> = stalled.map(|row| text(&row, "message")).collect();
        (messages.len() == 2 * subjects.len()).then_some(messages)
    });
    for message in messages {
        assert!(
            message.contains("ConfigMap default/namespace") && message.contains("metadata.name"),
            "{message}"
        );
    }
    let written = home.data().join("clusters/civo");
    assert!(!written.exists() || fs::read_dir(written).unwrap().next().is_none());
    operator.accepts(&event("login", "mgianluc"));
    arrives(&home, "mgianluc");
    for subject in subjects {
        operator.accepts(&event("logout", subject));
    }
    eventually("a logout clears up", || (home.show("addons").len() == 2).then_some(()));
}

/// Puts another template into the quickstart, sends a login, and expects it to stall; then mends the template.
fn bad_template(from: &str, to: &str, expected: &[&str]) {
    let home = Home::with("quickstart");
    let operator = home.start();
    operator.accepts(&event("login", "before"));
    arrives(&home, "before");
    home.edit("event-trigger.yaml", from, to);
    // The edit counts once what exists is rendered anew.
    let message = stalled(&home);
    for expected in expected {
        assert!(message.contains(expected), "{expected:?} in {message:?}");
    }
    assert!(!message.contains("hunter2"), "{message}");
    assert!(home.namespace_file("cluster1", "before").exists(), "what was rendered last stays");
    operator.accepts(&event("login", "after"));
    assert!(!home.namespace_file("cluster1", "after").exists());
    home.edit("event-trigger.yaml", to, from);
    arrives(&home, "after");
    eventually("nothing is stalled any more", || {
        home.show("addons").iter().all(|row| row["state"] == "Applied").then_some(())
    });
}

const NAME: &str = "name: {{ event.subject }}";

#[test]
fn an_undefined_variable_is_named() {
    bad_template(NAME, "name: {{ event.sbject }}", &["TemplateError", "namespace.yaml", "line 4", "sbject"]);
}

#[test]
fn a_syntax_error_is_named() {
    bad_template(NAME, "name: {{ event.subject", &["TemplateError", "namespace.yaml", "line 4"]);
}

#[test]
fn output_that_is_not_yaml_is_named() {
    bad_template(NAME, "name: [{{ event.subject }}", &["TemplateError", "namespace.yaml", "line "]);
}

#[test]
fn output_that_is_no_kubernetes_object_is_named() {
    bad_template(
        "kind: Namespace\n",
        "kynd: Namespace\n",
        &["TemplateError", "namespace.yaml", "kind is missing"],
    );
}

#[test]
fn an_action_that_is_neither_word_is_a_dead_letter() {
    let home = Home::with("quickstart");
    let operator = home.start();
    home.edit("event-trigger.yaml", "{% else %}Create{%", "{% else %} Maybe {%");
    eventually("the action is refused", || {
        let output = operator.send(&event("login", "mgianluc"));
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    });
    let letter = home.dead_letters().pop().unwrap();
    assert_eq!(
        (text(&letter, "reason").as_str(), text(&letter, "trigger").as_str()),
        ("ActionInvalid", "manage-namespace")
    );
    is_logged(&home, "ActionInvalid");
    home.edit("event-trigger.yaml", "{% else %} Maybe {%", "{% else %}\n Create \n{%");
    eventually("white space around the word is trimmed", || {
        operator.send(&event("login", "mgianluc")).status.success().then_some(())
    });
    arrives(&home, "mgianluc");
}

#[test]
fn a_missing_configmap_stalls_until_it_is_there() {
    let home = Home::with("quickstart");
    home.edit("event-trigger.yaml", "      name: namespace\n", "      name: elsewhere\n");
    let operator = home.start();
    operator.accepts(&event("login", "mgianluc"));
    let message = stalled(&home);
    assert!(message.contains("ConfigMap default/elsewhere"), "{message}");
    is_logged(&home, "ConfigMap default/elsewhere");
    condition(&home, "ConfigMap default/elsewhere");
    home.edit(
        "event-trigger.yaml",
        "  namespace: default\n  name: namespace\n",
        "  namespace: default\n  name: elsewhere\n",
    );
    arrives(&home, "mgianluc");
    condition(&home, "Ready");
}

/// Breaks a manifest, expects file and line in the log and in `show`, and that all goes on as before.
fn bad_manifest(broken: impl FnOnce(&Home), expected: &str) {
    let home = Home::with("quickstart");
    let operator = home.start();
    broken(&home);
    is_logged(&home, expected);
    shows_note(&home, expected);
    operator.accepts(&event("login", "mgianluc"));
    arrives(&home, "mgianluc");
    drop(operator);
    let operator = home.start();
    shows_note(&home, expected);
    operator.accepts(&event("logout", "mgianluc"));
    eventually("also after a restart", || {
        (!home.namespace_file("cluster1", "mgianluc").exists()).then_some(())
    });
    mends(&home, operator);
}

fn shows_note(home: &Home, expected: &str) {
    let output = home.cli(&["show", "triggers"]);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains(expected), "{expected:?} in {notes}");
}

fn mends(home: &Home, operator: Operator<'_>) {
    for entry in fs::read_dir(crate::process::example("quickstart")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, home.folder().join(path.file_name().unwrap())).unwrap();
    }
    let _ = fs::remove_file(home.folder().join("pod.yaml"));
    eventually("it heals", || home.cli(&["show", "triggers"]).stderr.is_empty().then_some(()));
    drop(operator);
}

#[test]
fn yaml_that_does_not_parse_is_named_with_its_line() {
    bad_manifest(
        |home| home.edit("event-trigger.yaml", "  policyRefs:\n", "  policyRefs: [\n"),
        "event-trigger.yaml:",
    );
}

#[test]
fn an_unknown_field_is_named_with_its_line() {
    let broken = |home: &Home| home.edit("event-trigger.yaml", "  syncMode: ", "  syncMod: ");
    bad_manifest(broken, "event-trigger.yaml:12: EventTrigger manage-namespace: spec.syncMod: ");
}

#[test]
fn an_unknown_kind_is_named() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: y}\n";
    bad_manifest(|home| home.write("pod.yaml", pod), "pod.yaml:");
}

#[test]
fn an_edit_of_what_is_immutable_is_refused() {
    let broken = |home: &Home| {
        home.edit("event-trigger.yaml", "eventSourceName: user-operation", "eventSourceName: other")
    };
    bad_manifest(broken, "spec.eventSourceName: is immutable");
}

#[test]
fn an_emptied_folder_withdraws_nothing() {
    let home = Home::with("quickstart");
    let operator = home.start();
    operator.accepts(&event("login", "mgianluc"));
    arrives(&home, "mgianluc");
    fs::rename(home.folder(), home.folder().with_extension("away")).unwrap();
    is_logged(&home, "cannot be read");
    fs::create_dir(home.folder()).unwrap();
    is_logged(&home, "there are no manifests here");
    operator.accepts(&event("login", "another"));
    arrives(&home, "another");
    drop(operator);
    let operator = home.start();
    operator.accepts(&event("login", "third"));
    arrives(&home, "third");
    arrives(&home, "mgianluc");
    fs::remove_dir(home.folder()).unwrap();
    fs::rename(home.folder().with_extension("away"), home.folder()).unwrap();
    eventually("it heals", || home.cli(&["show", "triggers"]).stderr.is_empty().then_some(()));
}

#[test]
fn too_many_withdrawals_wait_to_be_confirmed() {
    let home = Home::with("quickstart");
    let operator = home.start();
    for n in 0..12 {
        operator.accepts(&event("login", &format!("user{n}")));
    }
    (0..12).for_each(|n| arrives(&home, &format!("user{n}")));
    home.edit("event-trigger.yaml", "      env: production\n", "      env: staging\n");
    eventually("it is held", || {
        let notes = home.cli(&["show", "triggers"]).stderr;
        String::from_utf8_lossy(&notes).contains("12 of 12 Works would be withdrawn").then_some(())
    });
    assert!(home.namespace_file("cluster1", "user0").exists());
    let confirmed = home.cli(&["withdrawals", "confirm"]);
    assert!(confirmed.status.success() && String::from_utf8_lossy(&confirmed.stderr).contains("12 Works"));
    for n in 0..12 {
        let file = home.namespace_file("cluster1", &format!("user{n}"));
        eventually("it is withdrawn", || (!file.exists()).then_some(()));
    }
    eventually("staging1 has all", || home.namespace_file("staging1", "user11").exists().then_some(()));
}
