//! A release comes, changes and goes.

use fleet_core::apply::{Mode, Outcome};
use local_fleet::{Program, Progress, install};
use serde_json::{Value, json};

use super::world::World;

async fn comes_changes_and_goes(world: World) {
    let first = world.release(json!({"values": {"greeting": "hi", "token": "t0ken"}}));
    let item = world.applied(&first, &[]).await;
    assert_eq!(
        world.data("beacon").await.unwrap(),
        json!({"greeting": "hi", "count": "1", "chart": "1.0.0"})
    );
    assert_eq!(world.history().await, [(1, "deployed".into(), "beacon-1.0.0".into())]);
    assert_eq!(world.mark().await.as_deref(), Some(world.work.hash()));
    let chart = item.chart.clone().unwrap();
    assert_eq!(&*chart.version, "1.0.0");
    assert!(chart.digest.starts_with("sha256:") && chart.digest.len() == 71, "{chart:?}");

    // As it is, nothing is started; not even where nothing is remembered of it.
    let runs = world.runs();
    let again = world.applied(&first, std::slice::from_ref(&item)).await;
    assert_eq!((&again.uid, &again.version, &again.chart), (&item.uid, &item.version, &item.chart));
    assert_eq!(world.applied(&first, &[]).await.chart.unwrap().version, chart.version);
    assert_eq!(world.runs(), runs);

    // Other values, then another version: one upgrade each, and one pull for each version.
    let second = world.release(json!({"values": {"greeting": "hi again"}}));
    let item = world.applied(&second, &[again]).await;
    assert_eq!(world.data("beacon").await.unwrap()["greeting"], "hi again");
    assert_eq!(world.runs(), runs + 1, "the chart was there");
    let third = world.release(json!({"chartVersion": "^1.0.0", "values": {"small": true}}));
    let item = world.applied(&third, &[item]).await;
    assert_eq!(
        world.data("beacon").await.unwrap(),
        json!({"greeting": "hello", "count": "1", "chart": "1.1.0"})
    );
    assert!(world.data("beacon-more").await.is_none());
    assert_eq!(&*item.chart.clone().unwrap().version, "1.1.0");
    assert_eq!(world.repository.pulls().await, 2);
    let history = world.history().await;
    assert_eq!(history.last().unwrap(), &(3, "deployed".into(), "beacon-1.1.0".into()));

    assert_eq!(world.remove(&item, Mode::Write).await, Outcome::Gone);
    assert!(world.data("beacon").await.is_none());
    assert!(world.mark().await.is_none());
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/beacons.charts.example.com";
    assert!(world.admin.get(definition).await.is_some(), "as helm does, definitions stay");
    let runs = world.runs();
    assert_eq!(world.remove(&item, Mode::Write).await, Outcome::Gone);
    assert_eq!(world.runs(), runs);
    let left = std::fs::read_dir(world.dir.path().join("helm/tmp")).unwrap().count();
    assert_eq!(left, 0, "nothing secret is left behind");
}

#[tokio::test]
async fn a_release_comes_changes_and_goes_by_helm_4() {
    comes_changes_and_goes(World::new("helm-four").await).await;
}

#[tokio::test]
async fn a_release_comes_changes_and_goes_by_helm_3() {
    comes_changes_and_goes(World::with("helm-three", Program::Helm3).await).await;
}

#[tokio::test]
async fn a_release_goes_from_helm_3_to_4_and_back() {
    let mut world = World::with("changing", Program::Helm3).await;
    let release = |world: &World, greeting: &str| world.release(json!({"values": {"greeting": greeting}}));
    let first = release(&world, "one");
    let item = world.applied(&first, &[]).await;
    for (program, greeting) in [(Program::Helm, "two"), (Program::Helm3, "three")] {
        world.program = install::find(program, &Progress::default()).await.unwrap();
        world.restart();
        let runs = world.runs();
        world.applied(&first, std::slice::from_ref(&item)).await;
        let (next, before) = (release(&world, greeting), world.runs());
        assert_eq!(before > runs, program == Program::Helm3, "only what was changed since");
        world.applied(&next, &[]).await;
        assert_eq!(world.data("beacon").await.unwrap()["greeting"], greeting);
    }
}

#[tokio::test]
async fn a_release_that_is_to_be_absent_is_uninstalled() {
    let world = World::new("absent").await;
    let absent = world.release(json!({"action": "Uninstall"}));
    assert_eq!(world.apply(&absent, &[]).await, Outcome::Gone);
    assert_eq!(world.runs(), 0, "there was none");
    world.applied(&world.release(json!({})), &[]).await;
    assert_eq!(world.apply(&absent, &[]).await, Outcome::Gone);
    assert!(world.data("beacon").await.is_none());
}

/// Each of these would change what is rendered if it were anything but a value.
#[tokio::test]
async fn hostile_values_stay_one_value() {
    let world = World::new("hostile").await;
    let hostile = [
        "x: y",
        "{{ fail \"no\" }}",
        "\"",
        "'",
        "\\",
        "#",
        "a\nb: c",
        "\u{2028}\u{2029}",
        "yes",
        "null",
        "~",
        "1e3",
        "0x10",
        "- a",
        "!!binary x",
        "&a",
        "*a",
        "\u{1F600}",
        "\t",
        " ",
        "--set=greeting=x",
        "${HOME}",
        "$(id)",
        "%s%n",
        "\r\n",
        "a,greeting=b",
    ];
    let text = hostile.join("|");
    // These helm itself does not bring into an object, but it takes them as values.
    let control = "\u{7f}\u{85}\u{9f}\u{feff}\u{fffe}";
    let values = json!({"greeting": text, "more": {"nested": hostile, "control": control}});
    world.applied(&world.release(json!({"values": values.clone()})), &[]).await;
    assert_eq!(world.data("beacon").await.unwrap()["greeting"], Value::String(text));
    let kept: Value =
        serde_json::from_str(&world.by_hand(&["get", "values", "beacon", "-o", "json"]).await).unwrap();
    assert_eq!(kept, values);
}
