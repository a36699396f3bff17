//! What would happen, and that nothing does.

use fleet_core::apply::{Change, Mode, Outcome};
use serde_json::json;

use super::world::World;

#[tokio::test]
async fn what_would_change_is_told_and_nothing_does() {
    let world = World::new("previewed").await;
    let release = world.release(json!({"values": {"token": "s3cret-one"}}));
    assert_eq!(world.preview(&release).await, Outcome::Would(Change::Create));
    assert!(world.mark().await.is_none());
    assert!(world.admin.get(&format!("/api/v1/namespaces/{}", world.namespace)).await.is_none());

    let item = world.applied(&release, &[]).await;
    let runs = world.runs();
    assert_eq!(world.preview(&release).await, Outcome::Would(Change::Nothing));
    assert_eq!(world.runs(), runs);
    let other = world.release(json!({
        "chartVersion": "1.1.0", "values": {"token": "s3cret-two", "greeting": "hi", "small": true},
    }));
    let Outcome::Would(Change::Update { diff }) = world.preview(&other).await else { panic!() };
    for line in [
        "-  version: \"1.0.0\"",
        "+  version: \"1.1.0\"",
        "-  greeting: hello",
        "+  greeting: hi",
        "***",
        "-  name: beacon-more",
    ] {
        assert!(diff.contains(line), "{line}\n{diff}");
    }
    assert!(!diff.contains("s3cret"), "{diff}");
    assert_eq!(world.history().await.len(), 1);
    assert_eq!(world.data("beacon").await.unwrap()["greeting"], "hello");

    // What it would not survive shows, too.
    let bad = world.preview(&world.release(json!({"values": {"fail": "not like this"}}))).await;
    assert!(matches!(&bad, Outcome::Rejected { .. }), "{bad:?}");
    assert_eq!(world.remove(&item, Mode::Preview).await, Outcome::Would(Change::Delete));
    assert!(world.data("beacon").await.is_some());
}
