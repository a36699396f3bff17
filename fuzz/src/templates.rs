//! What holds of every template, in whichever language.

use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::manifest::Manifest;
use fleet_core::render::{
    Context, Language, Renderer, Template, TemplateError, TemplateKind, TemplateSource,
};
use serde_json::{Map, Value, json};

use crate::setting::Setting;
use crate::{Outcome, SECRET, shows_no_secret};

/// What a template gave.
#[derive(Debug, PartialEq)]
enum Given {
    Manifests(Vec<Manifest>),
    Text(String),
    Values(Map<String, Value>),
}

/// Compiles a template and renders it: it takes a bounded time and memory, gives the same to the same context, is not
/// touched by what it does not read, and tells nothing of what it does.
pub(crate) fn hold(renderer: &dyn Renderer, kind: TemplateKind, language: Language, text: &str) -> Outcome {
    let source = TemplateSource::new("fuzz", text, kind).in_language(language);
    let template = match renderer.compile(&source) {
        Ok(template) => template,
        Err(error) => {
            shows_no_secret(&error.to_string(), text);
            return Outcome::Refused;
        }
    };
    let setting = setting();
    let given = render(&*template, kind, &setting.context());
    assert_eq!(render(&*template, kind, &setting.context()), given, "it is not the same again");
    let other = Cluster { ready: !setting.cluster.ready, ..other(&setting.cluster.id) };
    for (name, changed) in [
        ("cluster", Context { cluster: Some(&other), ..setting.context() }),
        ("origin", Context { origin: Some(&other), ..setting.context() }),
    ] {
        let reads = |path: &String| path == name || path.starts_with(&format!("{name}."));
        if !template.reads().iter().any(reads) {
            assert_eq!(render(&*template, kind, &changed), given, "it reads {name} and does not say so");
        }
    }
    match given {
        Ok(given) => {
            if let Given::Manifests(manifests) = given {
                for manifest in manifests {
                    let object = Value::Object(manifest.object().clone());
                    assert_eq!(Manifest::new(object).as_ref(), Ok(&manifest));
                }
            }
            Outcome::Taken
        }
        Err(error) => {
            shows_no_secret(&error.to_string(), text);
            Outcome::Refused
        }
    }
}

fn render(
    template: &dyn Template,
    kind: TemplateKind,
    context: &Context<'_>,
) -> Result<Given, TemplateError> {
    match kind {
        TemplateKind::Manifests | TemplateKind::Literal => template.manifests(context).map(Given::Manifests),
        TemplateKind::Text => template.text(context).map(Given::Text),
        TemplateKind::Values => template.values(context).map(Given::Values),
    }
}

fn setting() -> Setting {
    let mut setting = Setting::with(json!({
        "text": SECRET, "int": 5, "float": 1.5, "big": u64::MAX, "yes": true, "nothing": null, "lines": "one\ntwo\n",
        "list": ["a", SECRET], "map": {"k": SECRET, "n": 1}, "deep": {"list": [{"a": 1, "b": []}, [true, null]]},
    }));
    setting.cluster.annotations.insert("example.com/note".into(), SECRET.into());
    setting
}

/// A cluster of the same name, which is another in everything else.
fn other(id: &ClusterId) -> Cluster {
    let mut cluster = Cluster::new(id.clone(), [("env", "other"), ("tier", "x")]);
    cluster.annotations.insert("example.com/note".into(), "other".into());
    cluster
}

/// What the first line of an input chooses: the kind of the template, and a number from its second character.
pub(crate) fn chosen(line: &str) -> (TemplateKind, usize) {
    let at = |place: usize| line.as_bytes().get(place).map_or(0, |byte| usize::from(*byte));
    let kinds = [TemplateKind::Manifests, TemplateKind::Text, TemplateKind::Values];
    (kinds[at(0) % kinds.len()], at(1))
}
