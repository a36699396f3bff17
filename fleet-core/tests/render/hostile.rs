//! Invariant 6: data never becomes structure. Hostile values go through every position of a template; the result has
//! the same shape as with a harmless value, and the value arrives byte for byte.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use fleet_core::render::TemplateKind;
use fleet_core::testing::conformance::renderer::HOSTILE;
use proptest::prelude::*;
use serde_json::json;

use crate::positions::{HARMLESS, POSITIONS, Position, SOURCES, expected, leaves_room, setting};
use crate::setting::{Setting, compile};

#[test]
fn the_corpus_is_large_and_no_value_in_it_twice() {
    let different: BTreeSet<_> = HOSTILE.iter().collect();
    assert!(
        different.len() == HOSTILE.len() && HOSTILE.len() >= 200,
        "{} of {}",
        different.len(),
        HOSTILE.len()
    );
}

/// Where a trigger renders all its keys together, in a loop over their events.
#[test]
fn in_a_loop_over_events_too() {
    let sources = ["it.event.data.v", "it.event.subject", "it.message.headers.h", "it.origin.labels.l"];
    for (index, (definitions, fields)) in POSITIONS.iter().enumerate() {
        for source in sources.iter().take(if index < 2 { sources.len() } else { 1 }) {
            let text = format!(
                "{{% for it in events %}}\n---\n{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}\n{{% endfor %}}"
            )
            .replace("VALUE", source);
            let template = compile(TemplateKind::Manifests, &text).unwrap();
            let render = |value: &str| {
                let settings = [setting(value), setting(HARMLESS), setting(value)];
                Setting::render_together(&settings, &*template)
            };
            let harmless = render(HARMLESS).unwrap_or_else(|error| panic!("{text}: {error}"));
            let in_each = harmless.len() / 3;
            for value in HOSTILE.iter().filter(|value| !value.is_empty() || !source.ends_with("subject")) {
                let of =
                    |place: usize| if (in_each..2 * in_each).contains(&place) { HARMLESS } else { value };
                let wanted: Vec<_> =
                    harmless.iter().enumerate().map(|(place, it)| expected(it, of(place))).collect();
                assert_eq!(render(value).as_ref(), Ok(&wanted), "{value:?} in {text}");
            }
        }
    }
}

/// Names of fields are data too: none of them reaches anything but its own value.
#[test]
fn keys_of_data_are_data() {
    let text = "apiVersion: v1\nkind: A\nmetadata: {name: a}\nall: {{ event.data | tojson }}\none: {{ event.data[message.headers.h] }}\n\
                each:\n{% for key, value in event.data | items %}\n- {{ key }}\n- {{ value }}\n{% endfor %}\n";
    let template = compile(TemplateKind::Manifests, text).unwrap();
    for key in HOSTILE {
        let data = json!({ *key: "kind: Secret" });
        let mut setting = Setting::with(data.clone());
        setting.message.headers = vec![("h".into(), (*key).into())];
        let found = setting.render_compiled(&*template).unwrap_or_else(|error| panic!("{key:?}: {error}"));
        assert_eq!((&found[0]["all"], &found[0]["one"]), (&data, &data[*key]), "{key:?}");
        assert_eq!(found[0]["each"], json!([key, data[*key]]), "{key:?}");
    }
}

/// The corpus is worth what it finds: printed the usual way, most of it changes shape.
#[test]
fn printed_raw_the_corpus_finds_faults() {
    let harmed = |(definitions, fields): (&str, &str), value: &str| {
        let text = format!("{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\n{fields}")
            .replace("VALUE", "v");
        let mut environment = minijinja::Environment::new();
        environment.add_filter("toyaml", |value: minijinja::Value| value.to_string());
        let raw = |value: &str| {
            let text = environment.render_str(&text, minijinja::context! { v => value }).ok()?;
            let documents = fleet_core::yaml::documents(&text);
            documents
                .into_iter()
                .map(|document| document.ok().map(|document| document.value))
                .collect::<Option<Vec<_>>>()
        };
        let harmless = raw(HARMLESS)?;
        Some(raw(value) != Some(harmless.iter().map(|harmless| expected(harmless, value)).collect()))
    };
    let (mut harmful_values, mut weak_positions) = (0, 0);
    for value in HOSTILE {
        harmful_values +=
            usize::from(POSITIONS.iter().any(|position| harmed(*position, value) == Some(true)));
    }
    for position in POSITIONS {
        weak_positions += usize::from(HOSTILE.iter().any(|value| harmed(*position, value) == Some(true)));
    }
    assert!(harmful_values > HOSTILE.len() * 2 / 3, "{harmful_values} of {} values do harm", HOSTILE.len());
    assert!(
        weak_positions > POSITIONS.len() * 2 / 3,
        "{weak_positions} of {} positions are weak",
        POSITIONS.len()
    );
}

/// Text made of pieces that mean something to YAML, JSON or Jinja, and of anything.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(HOSTILE).prop_map(str::to_owned),
        2 => "[\\x00-\\x7f]{0,4}",
        1 => ".{0,4}",
        1 => any::<char>().prop_map(String::from),
    ];
    let text = prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat());
    text.prop_filter("one plane is needed", |text| leaves_room(text))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_stays_a_value(value in hostile_text(), position in 0..POSITIONS.len()) {
        static COMPILED: LazyLock<Vec<Position>> =
            LazyLock::new(|| POSITIONS.iter().map(|position| Position::new(*position, SOURCES[0])).collect());
        prop_assert_eq!(COMPILED[position].check(&value), Ok(()));
    }
}
