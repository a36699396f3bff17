//! What expressions are, seen by health checks.

use serde_json::json;

use crate::health::{Check, Health};
use crate::policy::{HealthCheck, Target};

fn compile(expression: &str) -> Result<Check, String> {
    let check = HealthCheck { name: "c".into(), target: Target::default(), expression: expression.into() };
    Check::compile(&check)
}

fn evaluate(expression: &str, object: &serde_json::Value) -> Health {
    compile(expression).unwrap().evaluate(object.as_object().unwrap())
}

fn message(health: Health) -> String {
    match health {
        Health::Progressing { message } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_true_is_ready_and_all_else_may_become_so() {
    let object = json!({
        "spec": {"replicas": 3},
        "status": {"phase": "hunter2", "ready": 2, "list": [1, 2], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"},
        ]},
    });
    for expression in [
        "true",
        "object.status.ready + 1 == object.spec.replicas",
        "object.status.ready - object.spec.replicas == -1",
        "object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
        "has(object.status.phase) && !has(object.status.other)",
        "object.status.phase.matches('^hunter[0-9]$') && size(object.status.list) == 2",
        "type(object.status.list) == list",
        "object.status.list.all(x, object.status.list.exists(y, x == y))",
    ] {
        assert_eq!(evaluate(expression, &object), Health::Ready, "{expression}");
    }
    for (expression, expected) in [
        ("object.status.ready == 3", "check c is not true yet"),
        ("object.status.missing == 3", "check c looks at a field that is not there (yet)"),
        ("object.status.list[7] == 3", "check c looks at an item that is not there (yet)"),
        ("object.status.phase", "check c gives neither true nor false"),
        ("object.status.phase + 1 == 2", "check c "),
        ("object.status.phase / 0 == 2", "check c "),
        ("object.status.ready / 0 == 2", "check c cannot be evaluated"),
    ] {
        let message = message(evaluate(expression, &object));
        assert!(message.starts_with(expected), "{expression}: {message}");
        assert!(!message.contains("hunter2"), "{expression}: {message}");
    }
}

#[test]
fn what_cannot_be_a_check_is_refused_with_its_place() {
    let deep = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    for (expression, expected) in [
        ("", "check c: line 1, column 1"),
        ("object.a ==", "check c: line 1, column 12: mismatched input '<EOF>'"),
        ("true &&\n  * 2", "check c: line 2, column 3"),
        ("objct.status.ready", "check c: line 1, column 1: objct is not known"),
        ("true && event.data == 1", "check c: line 1, column 9: event is not known"),
        ("object.l.all(x, x > 1) && x == 1", "check c: line 1, column 27: x is not known"),
        ("object.status.redy()", "there is no function redy"),
        ("lower(object.a) == 'b'", "there is no function lower"),
        ("'text'", "gives a string; it has to give true or false"),
        ("size(object.a)", "gives a number"),
        ("object", "gives an object"),
        ("[true]", "gives a list"),
        (&deep(17), "column 17: brackets are nested more than 16 deep"),
        (&deep(1000), "brackets are nested more than 16 deep"),
        (&vec!["1"; 500].join("+"), "nested more than 20 deep"),
        (&format!("object{} == 1", ".a".repeat(900)), "nested more than 20 deep"),
        (&" ".repeat(3000), "has 3000 bytes, more than 2048"),
        ("object.l.all(x, object.l.all(y, object.l.all(z, x + y + z > 0)))", "more than 2 in each other"),
        (&["object.l.all(x, x > 0)"; 9].join(" && "), "more than 8 loops"),
    ] {
        let why = compile(expression).unwrap_err();
        assert!(why.contains(expected), "{expression}: {why}");
    }
    assert!(compile(&deep(16)).is_ok());
}

#[test]
fn the_deepest_that_is_allowed_fits_a_small_stack() {
    let sum = format!("{} > 0", vec!["1"; 20].join("+"));
    let loops = format!("object.l.all(x, object.l.all(y, {}true{}))", "!(".repeat(8), ")".repeat(8));
    let checks = [compile(&sum).unwrap(), compile(&loops).unwrap()];
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let object = json!({"l": [1, 2]});
        checks.map(|check| check.evaluate(object.as_object().unwrap()))
    });
    assert_eq!(thread.unwrap().join().unwrap(), [Health::Ready, Health::Ready]);
}

#[test]
fn loops_over_too_much_are_not_run() {
    let object = json!({"l": (0..2000).collect::<Vec<_>>()});
    assert_eq!(evaluate("object.l.all(x, x >= 0)", &object), Health::Ready);
    let nested = evaluate("object.l.all(x, object.l.exists(y, x == y))", &object);
    assert!(message(nested).contains("too long"));
}

#[test]
fn what_an_expression_looks_at_is_known() {
    use super::Expression;

    let fields = |text: &str| {
        let expression = Expression::compile(text, &["resource", "event"]).unwrap();
        expression.fields_of("resource").map(|fields| fields.iter().cloned().collect::<Vec<_>>().join(","))
    };
    for (text, expected) in [
        ("resource.metadata.labels['a'] == 'b' && has(resource.kind)", Some("kind,metadata")),
        ("event.x == 1", Some("")),
        ("[1].all(resource, resource > 0)", Some("")),
        ("resource.metadata.name == 'a' || size(resource) > 3", None),
        ("resource['metadata'].name == 'a'", None),
        ("[resource].all(r, r.status.x == 1)", None),
    ] {
        assert_eq!(fields(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn what_is_said_twice_is_compiled_once() {
    use std::sync::Arc;

    use super::Expression;

    let one = Expression::compile("object.once == 1", &["object"]).unwrap();
    let two = Expression::compile("object.once == 1", &["object"]).unwrap();
    assert!(Arc::ptr_eq(&one.program, &two.program));
    // Not with other variables, in which it may mean nothing.
    assert!(Expression::compile("object.once == 1", &["event"]).is_err());
}
