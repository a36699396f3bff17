//! What an agent's templates see of the hub.

use serde_json::{Value, json};

use super::Fleet;
use crate::process::eventually;

fn plan(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "prod1", "name": "cluster1-plan"},
        "stringData": {"plan": value}})
}

/// A profile for the first cluster that writes down a plan of the hub's.
fn profile(name: &str) -> Value {
    json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "ClusterProfile", "metadata": {"name": "plan"},
        "spec": {"clusterSelector": {"matchLabels": {"name": "cluster1"}},
            "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "plan"}],
            "templateResourceRefs": [{"identifier": "plan",
                "resource": {"apiVersion": "v1", "kind": "Secret", "name": name}}]}})
}

#[test]
fn an_agent_is_given_what_its_templates_see_of_the_hub_and_what_becomes_of_it() {
    let fleet = Fleet::start();
    let note = "apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: default, name: plan}\ndata:\n  \
                id: '{{ resources.plan.data.plan | b64decode }}'\n";
    fleet.at_hub(
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": "plan",
        "annotations": {"fleet-events.dev/template": "true"}}, "data": {"plan.yaml": note}}),
    );
    fleet.at_hub(&profile("{{ cluster.name }}-plan"));
    let hub = fleet.hub("file");
    fleet.register(0, &[]);
    let agent = fleet.agent(0, &[]);
    let has = |value: &str| {
        eventually(&format!("the plan is {value}\n{}", fleet.logs()), || {
            let notes = fleet.rig.notes_in(fleet.cluster(0));
            (notes.get("plan").map(String::as_str) == Some(value)).then_some(())
        });
    };
    // Missing at the hub, it stalls there, and the hub is told.
    eventually(&format!("it is stalled\n{}", fleet.logs()), || {
        let addons = fleet.rig.home.show("addons");
        addons.into_iter().find(|row| row["cluster"] == "prod1/cluster1" && row["state"] == "Stalled")
    });
    fleet.at_hub(&plan("free"));
    has("free");
    fleet.at_hub(&plan("gold"));
    has("gold");

    // What only an event tells is refused, by name.
    let refs = json!({"spec": {"templateResourceRefs": [{"identifier": "user",
        "resource": {"apiVersion": "v1", "kind": "Secret", "name": "{{ event.subject }}"}}]}});
    let patch = ["patch", "eventtrigger", "in-cluster1", "--type=merge", "-p", &refs.to_string()];
    fleet.rig.kubectl_ok(&fleet.rig.management(), &patch, "");
    let cluster = fleet.until_seen(0, "False", "TriggersLeftOut");
    let message = cluster["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("does not know of: in-cluster1, whose templateResourceRefs depend on the event"),
        "{message}"
    );
    has("gold");
    assert!(!fleet.logs().contains("gold\"") && !fleet.logs().contains("Z29sZA"), "{}", fleet.logs());
    assert!(agent.stop().success() && hub.stop().success());
}
