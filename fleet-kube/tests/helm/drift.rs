//! What others do to the objects of a release.

use std::collections::BTreeMap;

use fleet_core::apply::{Applier, InventoryItem};
use fleet_core::observe::{Depth, Observation, Seen};
use fleet_kube::helm;
use futures::StreamExt;
use futures::stream::BoxStream;
use local_fleet::Program;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::world::{LONG, World};

/// What is told of the release of one world.
struct Watch {
    told: BoxStream<'static, Observation>,
    mark: String,
    namespace: String,
}

impl Watch {
    fn of(world: &World) -> Self {
        let told = world.helm.observe(&world.target.id, &helm::kind(), Depth::Whole);
        Self { told, mark: world.work.hash().to_owned(), namespace: world.namespace.clone() }
    }

    async fn next(&mut self) -> Option<Seen> {
        loop {
            match self.told.next().await.expect("the stream must not end") {
                Observation::There(seen) if *seen.mark == *self.mark => return Some(seen),
                Observation::Gone { object, .. } if object.namespace.as_deref() == Some(&self.namespace) => {
                    return None;
                }
                _ => {}
            }
        }
    }

    /// Waits until it is seen with another print, or with this one.
    async fn until(&mut self, item: &InventoryItem, is_it: bool) -> Seen {
        let seen = async {
            loop {
                let seen = self.next().await.expect("it should be there");
                let is_same = item.print.as_deref() == Some(&*seen.owned.print([]))
                    && item.uid.as_ref() == Some(&seen.uid);
                if is_same == is_it {
                    return seen;
                }
            }
        };
        timeout(LONG, seen).await.expect("it should have been seen so")
    }
}

fn number(version: Option<&std::sync::Arc<str>>) -> u64 {
    version.unwrap().parse().unwrap()
}

async fn is_put_right(world: World) {
    let release = world.release(json!({"values": {"greeting": "hi"}}));
    let mut item = world.kept(&release, &[]).await;
    let mut watch = Watch::of(&world);
    let seen = watch.until(&item, true).await;
    assert_eq!(fleet_core::health::of_object(&seen.whole.unwrap()), fleet_core::health::Health::Ready);
    let runs = world.runs();
    assert_eq!(world.kept(&release, std::slice::from_ref(&item)).await, item);
    assert_eq!(world.runs(), runs);

    let role = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{}-beacon", world.namespace);
    let changes: [(&str, String, Option<Value>); 4] = [
        ("DELETE", world.at("configmaps", "beacon-more"), None),
        ("PATCH", world.at("configmaps", "beacon"), Some(json!({"data": {"greeting": "changed"}}))),
        ("PATCH", world.at("secrets", "beacon-token"), Some(json!({"data": {"token": null}}))),
        ("DELETE", role.clone(), None),
    ];
    for (turn, (method, path, body)) in changes.into_iter().enumerate() {
        world.admin.send(method, &path, body.as_ref()).await.unwrap();
        let seen = watch.until(&item, false).await;
        assert!(number(seen.version.as_ref()) > number(item.version.as_ref()), "it is known to be newer");
        let repaired = world.kept(&release, std::slice::from_ref(&item)).await;
        assert_eq!(world.runs(), runs + 1 + turn, "one upgrade");
        assert_eq!(world.data("beacon").await.unwrap()["greeting"], "hi");
        assert_eq!(world.data("beacon-more").await, Some(json!({"of": "beacon"})));
        assert!(
            world.admin.get(&world.at("secrets", "beacon-token")).await.unwrap()["data"]["token"].is_string()
        );
        assert!(world.admin.get(&role).await.is_some());
        // And then it is as it is expected.
        watch.until(&repaired, true).await;
        assert_eq!(world.kept(&release, std::slice::from_ref(&repaired)).await, repaired);
        item = repaired;
    }
    let runs = world.runs();

    // What others add is none of our business.
    let theirs = json!({"data": {"theirs": "1"}, "metadata": {"annotations": {"theirs": "1"}}});
    world.admin.send("PATCH", &world.at("configmaps", "beacon"), Some(&theirs)).await.unwrap();
    assert_eq!(world.kept(&release, std::slice::from_ref(&item)).await.print, item.print);
    assert_eq!(world.runs(), runs);

    world.by_hand(&["uninstall", "beacon"]).await;
    let gone = async { while watch.next().await.is_some() {} };
    timeout(LONG, gone).await.expect("it should have been seen to go");
}

#[tokio::test]
async fn what_others_change_is_seen_and_put_right_by_helm_4() {
    is_put_right(World::new("drifting-four").await).await;
}

#[tokio::test]
async fn what_others_change_is_seen_and_put_right_by_helm_3() {
    is_put_right(World::with("drifting-three", Program::Helm3).await).await;
}

#[tokio::test]
async fn an_upgrade_by_hand_is_seen_and_put_right() {
    let world = World::new("by-hand").await;
    let release = world.release(json!({"values": {"greeting": "ours"}}));
    let item = world.kept(&release, &[]).await;
    let mut watch = Watch::of(&world);
    watch.until(&item, true).await;
    world.by_hand(&["upgrade", "beacon", &world.chart("1.1.0"), "--set", "greeting=theirs"]).await;
    assert_eq!(world.mark().await.as_deref(), Some(world.work.hash()), "helm takes the labels along");
    watch.until(&item, false).await;
    let repaired = world.kept(&release, &[item]).await;
    let data = world.data("beacon").await.unwrap();
    assert_eq!(data, json!({"greeting": "ours", "count": "1", "chart": "1.0.0"}));
    watch.until(&repaired, true).await;
}

#[tokio::test]
async fn a_list_tells_all_releases_at_once() {
    let world = World::new("listed").await;
    let item = world.kept(&world.release(json!({})), &[]).await;
    let mut told = world.helm.observe(&world.target.id, &helm::kind(), Depth::Whole);
    let list = async {
        assert!(matches!(told.next().await, Some(Observation::Listing)));
        let mut there = BTreeMap::new();
        loop {
            match told.next().await.unwrap() {
                Observation::There(seen) => there.insert(seen.object.namespace.clone(), seen),
                Observation::Listed { version } => return (there, version),
                other => panic!("{other:?}"),
            };
        }
    };
    let (there, version) = timeout(LONG, list).await.unwrap();
    let seen = &there[&Some(world.namespace.as_str().into())];
    assert_eq!(Some(seen.owned.print([])), item.print);
    assert!(number(version.as_ref()) >= number(item.version.as_ref()));
}
