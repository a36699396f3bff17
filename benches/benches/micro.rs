//! The small steps of an event's way, each next to a floor: `cargo bench -p fleet-benches`.

// Inputs are constants that are valid; the macros of criterion make undocumented items.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fleet_core::event::Event;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::{Context, Renderer, TemplateSource};
use fleet_core::work::{EventKey, WorkId};

const LOGIN: &[u8] = include_bytes!("../../examples/quickstart/login.json");
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {{ event.subject }}\n";
const LITERAL: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: mgianluc\n";

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.bench_function("floor: serde_json into a value", |bencher| {
        bencher.iter(|| serde_json::from_slice::<serde_json::Value>(LOGIN).unwrap());
    });
    group.bench_function("event", |bencher| bencher.iter(|| Event::from_json(LOGIN).unwrap()));
    group.finish();
}

fn render(criterion: &mut Criterion) {
    let event = Event::from_json(LOGIN).unwrap();
    let compile = |text: &str| {
        let source = TemplateSource::manifests("namespace.yaml", text);
        MinijinjaRenderer.compile(&source).unwrap()
    };
    let context = Context {
        event: Some(&event),
        message: None,
        events: None,
        cluster: None,
        origin: None,
        resources: None,
        trigger: "manage-namespace",
    };
    let mut group = criterion.benchmark_group("render");
    group.bench_function("floor: the YAML reader alone", |bencher| {
        bencher.iter(|| fleet_core::yaml::documents(LITERAL));
    });
    let template = compile(NAMESPACE);
    group.bench_function("namespace template", |bencher| {
        bencher.iter(|| template.manifests(&context).unwrap())
    });
    group.bench_function("compile", |bencher| {
        bencher.iter_batched(|| NAMESPACE, compile, BatchSize::SmallInput);
    });
    group.finish();
}

fn identify(criterion: &mut Criterion) {
    let key = EventKey::About {
        origin: None,
        source: "auth.example.com".to_owned(),
        subject: Some("mgianluc".to_owned()),
    };
    criterion
        .bench_function("name of a Work", |bencher| bencher.iter(|| WorkId::new("manage-namespace", &key)));
}

criterion_group!(benches, decode, render, identify);
criterion_main!(benches);
