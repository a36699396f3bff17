//! Invariant 6 for Go templates: the same corpus, in every position of a Go template, in one pass and in two.

use fleet_core::render::{GoPasses, TemplateKind};
use fleet_core::testing::conformance::renderer::HOSTILE;
use serde_json::json;

use super::positions::{POSITIONS, SOURCES, compile, text};
use crate::positions::{HARMLESS, expected, setting};
use crate::setting::Setting;

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
