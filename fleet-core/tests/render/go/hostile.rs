//! Invariant 6 for Go templates: the same corpus, in every position of a Go template, in one pass and in two.

use fleet_core::render::{GoPasses, TemplateKind};
use serde_json::json;

use super::positions::{IN_THE_SECOND_PASS, POSITIONS, SOURCES, compile, position, text};
use crate::corpus::HOSTILE;
use crate::positions::{HARMLESS, Position, expected, setting};
use crate::setting::Setting;

fn faults(position: &Position, values: &[&str]) -> Vec<String> {
    values.iter().filter_map(|value| position.check(value).err()).collect()
}

#[test]
fn hostile_values_stay_values_in_every_position() {
    let long = ["x".repeat(20_000), "a: b\n".repeat(5_000), "👩‍👩‍👧\u{f0000}".repeat(2_000)];
    let values: Vec<&str> = HOSTILE.iter().copied().chain(long.iter().map(String::as_str)).collect();
    let mut all = Vec::new();
    for it in POSITIONS {
        all.extend(faults(&position(*it, SOURCES[0], GoPasses::Event), &values));
    }
    assert!(all.is_empty(), "{} faults, the first: {}", all.len(), all[0]);
}

#[test]
fn in_two_passes_too() {
    let mut all = Vec::new();
    for it in POSITIONS.iter().chain(IN_THE_SECOND_PASS) {
        all.extend(faults(&position(*it, SOURCES[0], GoPasses::Both), HOSTILE));
    }
    assert!(all.is_empty(), "{} faults, the first: {}", all.len(), all[0]);
}

#[test]
fn wherever_they_come_from() {
    let everywhere = ("", "labels: {'k-{{ VALUE }}': '{{ VALUE }}'}\nx: |\n  {{ VALUE }}\ny: {{ VALUE }}\n");
    for source in SOURCES {
        let position = position(everywhere, source, GoPasses::Event);
        for value in HOSTILE.iter().filter(|value| !value.is_empty() || !source.ends_with("subject")) {
            position.check(value).unwrap();
        }
    }
    let target = position(everywhere, "$.Cluster.metadata.labels.l", GoPasses::Cluster);
    assert_eq!(faults(&target, HOSTILE), Vec::<String>::new());
}

#[test]
fn in_a_loop_over_events_too() {
    let text = "{{ range .CloudEvents }}\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\nx: {{ .data.v }}\ny: |\n  \
                {{ .ext }}\n{{ end }}";
    let template = compile(TemplateKind::Manifests, GoPasses::Event, text).unwrap();
    let render =
        |value: &str| Setting::render_together(&[setting(value), setting(HARMLESS)], &*template).unwrap();
    let harmless = render(HARMLESS);
    for value in HOSTILE {
        assert_eq!(render(value), [expected(&harmless[0], value), harmless[1].clone()], "{value:?}");
    }
}

/// Names of fields are data too: none of them reaches anything but its own value.
#[test]
fn keys_of_data_are_data() {
    let text = "apiVersion: v1\nkind: A\nmetadata: {name: a}\nall: {{ .CloudEvent.data | toJson }}\none: {{ index .CloudEvent.data \
                .Message.headers.h }}\neach:\n{{ range $k, $v := .CloudEvent.data }}\n- {{ $k }}\n- {{ $v }}\n{{ end }}\n";
    for passes in [GoPasses::Event, GoPasses::Both] {
        let template = compile(TemplateKind::Manifests, passes, text).unwrap();
        for key in HOSTILE {
            let data = json!({ *key: "kind: Secret" });
            let mut setting = Setting::with(data.clone());
            setting.message.headers = vec![("h".into(), (*key).into())];
            let found =
                setting.render_compiled(&*template).unwrap_or_else(|error| panic!("{key:?}: {error}"));
            assert_eq!((&found[0]["all"], &found[0]["one"]), (&data, &data[*key]), "{key:?}");
            assert_eq!(found[0]["each"], json!([key, data[*key]]), "{key:?}");
        }
    }
}

#[test]
fn they_stay_text_in_keys_and_actions() {
    for passes in [GoPasses::Event, GoPasses::Both] {
        let template = compile(TemplateKind::Text, passes, "a/{{ .CloudEvent.data.v }}/b").unwrap();
        for value in HOSTILE {
            let setting = setting(value);
            assert_eq!(template.text(&setting.context()).unwrap(), format!("a/{value}/b"));
        }
    }
}

/// The corpus is worth what it finds: printed as Go prints, most of it changes shape.
#[test]
fn printed_raw_the_corpus_finds_faults() {
    let harmed = |template: &dyn fleet_core::render::Template, value: &str| {
        let raw = |value: &str| {
            let text = template.text(&setting(value).context()).ok()?;
            let documents = fleet_core::yaml::documents(&text).into_iter();
            documents.map(|document| document.ok().map(|document| document.value)).collect::<Option<Vec<_>>>()
        };
        let harmless = raw(HARMLESS)?;
        Some(raw(value) != Some(harmless.iter().map(|harmless| expected(harmless, value)).collect()))
    };
    let templates: Vec<_> = POSITIONS
        .iter()
        .map(|position| compile(TemplateKind::Text, GoPasses::Event, &text(*position, SOURCES[0])).unwrap())
        .collect();
    let does_harm = |value: &&&str| templates.iter().any(|template| harmed(&**template, value) == Some(true));
    let harmful = HOSTILE.iter().filter(does_harm).count();
    assert!(harmful > HOSTILE.len() * 2 / 3, "{harmful} of {} values do harm", HOSTILE.len());
    let is_weak = |template: &&std::sync::Arc<dyn fleet_core::render::Template>| {
        HOSTILE.iter().any(|value| harmed(&***template, value) == Some(true))
    };
    let weak = templates.iter().filter(is_weak).count();
    assert!(weak > POSITIONS.len() * 2 / 3, "{weak} of {} positions are weak", POSITIONS.len());
}
