//! The checks, each of one rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::setting::Part;
use super::{Fixture, HARMLESS, HOSTILE, Setting};
use crate::manifest::Manifest;
use crate::render::{Template, TemplateError, TemplateSource};
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

/// What no error may show.
const SECRET: &str = "s3cr3t-0b2d";

fn compile(fixture: &impl Fixture, source: &TemplateSource) -> Result<Arc<dyn Template>, Finding> {
    fixture.renderer().compile(source).or_broken(&format!("a template does not compile: {}", source.text))
}

fn objects(manifests: &[Manifest]) -> Vec<Value> {
    manifests.iter().map(|manifest| Value::Object(manifest.object().clone())).collect()
}

/// As a person reads it.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What the result with a harmless value becomes with another one: the same, with that value in its places. JSON within a
/// text holds it as JSON.
pub fn expected(harmless: &Value, value: &str) -> Value {
    match harmless {
        Value::String(text) => Value::String(instead(text, value)),
        Value::Array(items) => items.iter().map(|item| expected(item, value)).collect(),
        Value::Object(entries) => {
            let entry = |(key, item): (&String, &Value)| (instead(key, value), expected(item, value));
            Value::Object(entries.iter().map(entry).collect())
        }
        other => other.clone(),
    }
}

fn instead(text: &str, value: &str) -> String {
    let as_json = |text: &str| Value::from(text).to_string();
    text.replace(&as_json(HARMLESS), &as_json(value)).replace(HARMLESS, value)
}

/// The corpus, and some that are long.
fn hostile() -> impl Iterator<Item = String> {
    let long = ["x".repeat(20_000), "a: b\n".repeat(5_000), "👩‍👩‍👧\u{f0000}".repeat(2_000)];
    HOSTILE.iter().map(|value| (*value).to_owned()).chain(long)
}

/// So much of a value that a person sees which it is.
fn shown(value: &str) -> String {
    let mut shown: String = value.chars().take(40).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// That a template prints every value of the corpus as that value.
fn keeps_shape<T: PartialEq + Serialize>(
    source: &TemplateSource,
    render: impl Fn(&Setting) -> Result<T, TemplateError>,
    expected: impl Fn(&T, &str) -> T,
) -> Verdict {
    let harmless =
        render(&Setting::holding(HARMLESS)).or_broken(&format!("it cannot be rendered: {}", source.text))?;
    for value in hostile() {
        // An event has no empty subject: whoever prints that meets what is not there.
        if value.is_empty() && source.text.contains("subject") {
            continue;
        }
        let shown = shown(&value);
        let found = render(&Setting::holding(&value))
            .or_broken(&format!("{shown} cannot be rendered in {}", source.text))?;
        let right = expected(&harmless, &value);
        holds!(found == right, "{shown} in {} gave {}, not {}", source.text, json(&found), json(&right));
    }
    Ok(())
}

pub(super) async fn the_same_input_gives_the_same_result(fixture: &impl Fixture) -> Verdict {
    let setting = Setting::holding(HARMLESS);
    for source in fixture.printing() {
        let (one, two) = (compile(fixture, &source)?, compile(fixture, &source)?);
        let render = |template: &dyn Template| {
            let manifests = template.manifests(&setting.context());
            manifests.or_broken("a template cannot be rendered").map(|manifests| objects(&manifests))
        };
        let results = [render(&*one)?, render(&*two)?, render(&*one)?];
        let same = results.iter().all(|result| *result == results[0]);
        holds!(same, "three renderings of {} gave {}", source.text, json(&results));
        holds!(one.reads() == two.reads(), "{} reads {:?} and {:?}", source.text, one.reads(), two.reads());
    }
    Ok(())
}

pub(super) async fn values_never_become_structure(fixture: &impl Fixture) -> Verdict {
    for source in fixture.printing() {
        let template = compile(fixture, &source)?;
        let render = |setting: &Setting| Ok(objects(&template.manifests(&setting.context())?));
        let right =
            |harmless: &Vec<Value>, value: &str| harmless.iter().map(|it| expected(it, value)).collect();
        keeps_shape(&source, render, right)?;
    }
    Ok(())
}

pub(super) async fn a_text_is_its_text(fixture: &impl Fixture) -> Verdict {
    let source = fixture.text()?;
    let template = compile(fixture, &source)?;
    let render = |setting: &Setting| template.text(&setting.context());
    keeps_shape(&source, render, |_, value| format!("a/{value}/b"))
}

pub(super) async fn values_of_a_chart_are_one_mapping(fixture: &impl Fixture) -> Verdict {
    let (source, empty) = fixture.values()?;
    let template = compile(fixture, &source)?;
    let render = |setting: &Setting| Ok(Value::Object(template.values(&setting.context())?));
    keeps_shape(&source, render, expected)?;
    let setting = Setting::holding(HARMLESS);
    let nothing = compile(fixture, &empty)?.values(&setting.context());
    let nothing = nothing.or_broken("no document at all cannot be rendered as values")?;
    holds!(nothing.is_empty(), "no document at all gave the values {nothing:?}");
    Ok(())
}

pub(super) async fn empty_documents_are_left_out(fixture: &impl Fixture) -> Verdict {
    let template = compile(fixture, &fixture.empty_documents()?)?;
    let setting = Setting::holding(HARMLESS);
    let found = template.manifests(&setting.context()).or_broken("empty documents cannot be rendered")?;
    holds!(found.len() == 1, "one object among empty documents gave {}", json(&objects(&found)));
    Ok(())
}

pub(super) async fn syntax_errors_are_known_when_compiled(fixture: &impl Fixture) -> Verdict {
    for (source, _) in fixture.no_templates() {
        holds!(fixture.renderer().compile(&source).is_err(), "what is no template compiles: {}", source.text);
    }
    Ok(())
}

/// Each error that the fixture knows how to bring about, with the source and the line.
fn errors(fixture: &impl Fixture) -> Result<Vec<(TemplateError, TemplateSource, u32)>, Finding> {
    let mut errors = Vec::new();
    for (source, line) in fixture.no_templates() {
        if let Err(error) = fixture.renderer().compile(&source) {
            errors.push((error, source, line));
        }
    }
    let setting = Setting::holding(SECRET);
    for (source, line) in fixture.failing() {
        match compile(fixture, &source)?.manifests(&setting.context()) {
            Err(error) => errors.push((error, source, line)),
            Ok(found) => {
                let found = json(&objects(&found));
                return Err(Finding::Broken(format!(
                    "what cannot be rendered gave {found}: {}",
                    source.text
                )));
            }
        }
    }
    Ok(errors)
}

pub(super) async fn errors_name_template_and_line(fixture: &impl Fixture) -> Verdict {
    for (error, source, line) in errors(fixture)? {
        holds!(
            error.template == source.name && error.line == Some(line),
            "the error is in {}, line {line}; {error} says {}, line {:?}",
            source.name,
            error.template,
            error.line
        );
    }
    Ok(())
}

pub(super) async fn errors_never_show_a_value(fixture: &impl Fixture) -> Verdict {
    for (error, source, _) in errors(fixture)? {
        let told = format!("{error} {error:?}");
        holds!(!told.contains(SECRET), "the error of {} shows what the context holds: {error}", source.text);
    }
    Ok(())
}

pub(super) async fn work_is_bounded(fixture: &impl Fixture) -> Verdict {
    for source in fixture.costly()? {
        let (renderer, text) = (fixture.renderer(), Arc::clone(&source.text));
        // On a thread of its own, which is left behind if it never ends.
        let (done, waiting) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let setting = Setting::holding(HARMLESS);
            let rendered =
                renderer.compile(&source).and_then(|template| template.manifests(&setting.context()));
            let _ = done.send(rendered.map(|found| found.len()));
        });
        let ended = tokio::time::timeout(fixture.patience(), waiting).await;
        let ended = ended.or_broken(&format!("after {:?} it was still at {text}", fixture.patience()))?;
        let rendered = ended.or_broken(&format!("it panicked at {text}"))?;
        holds!(rendered.is_err(), "what is too costly was rendered to {rendered:?} objects: {text}");
    }
    Ok(())
}

pub(super) async fn what_is_read_is_named(fixture: &impl Fixture) -> Verdict {
    for source in fixture.printing() {
        let template = compile(fixture, &source)?;
        let render = |setting: &Setting| {
            let manifests = template.manifests(&setting.context());
            manifests.or_broken("a template cannot be rendered").map(|manifests| objects(&manifests))
        };
        let before = render(&Setting::holding(HARMLESS))?;
        for part in Part::ALL {
            let after = render(&Setting::of(|it| if it == part { "other" } else { HARMLESS }))?;
            holds!(
                after == before || names(template.reads(), part.path()),
                "{} shows {}, and says that it reads {:?}",
                source.text,
                part.path(),
                template.reads()
            );
        }
    }
    Ok(())
}

/// Whether a path, or what it is part of, is among those that are read.
fn names(reads: &BTreeSet<String>, path: &str) -> bool {
    reads
        .iter()
        .any(|read| path.strip_prefix(&**read).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}
