//! What users see of their mistakes in a trigger, a source or a cluster.

use super::*;

/// Each edit of the story, and the one problem that it gives.
#[test]
fn each_mistake_gives_one_clear_problem() {
    for (good, bad, expected) in [
        (
            "  syncMode: Continuous",
            "  syncMod: Continuous",
            "f.yaml:28: EventTrigger manage-namespace: spec.syncMod: unknown field `syncMod`, expected one of \
             `adopt`, `cloudEventAction`, `continueOnConflict`, `dependsOn`, `destinationClusterSelector`, \
             `driftExclusions`, `eventSourceName`, `filters`, `helmCharts`, `key`, `maxUpdate`, `oneForEvent`, `policyRefs`, \
             `serviceAccountName`, `serviceAccountNamespace`, `skipNamespaceCreation`, `sourceClusterSelector`, \
             `stopMatchingBehavior`, `syncMode`, `templateResourceRefs`, `tier`, `ttl`, `validateHealths`",
        ),
        (
            "syncMode: Continuous",
            "syncMode: continuous",
            "f.yaml:28: EventTrigger manage-namespace: spec.syncMode: unknown variant `continuous`, expected one of \
             `Continuous`, `OneTime`, `ContinuousWithDriftDetection`, `DryRun`",
        ),
        (
            "  oneForEvent: true\n",
            "",
            "f.yaml:23: EventTrigger manage-namespace: spec: oneForEvent is missing; write true for resources of its \
             own for each key, or false for one rendering of all keys together",
        ),
        (
            "oneForEvent: true",
            "oneForEvent: \"true\"",
            "f.yaml:27: EventTrigger manage-namespace: spec.oneForEvent: invalid type: string \"true\", expected a \
             boolean",
        ),
        (
            "  eventSourceName: user-operation\n",
            "",
            "f.yaml:23: EventTrigger manage-namespace: spec: missing field `eventSourceName`",
        ),
        (
            "eventSourceName: user-operation",
            "eventSourceName: user-operations",
            "f.yaml:24: EventTrigger manage-namespace: spec.eventSourceName: EventSource user-operations does not \
             exist; create it, or delete the trigger and name another source",
        ),
        (
            "matchLabels: {env: production}\n",
            "matchLabels: {env: -production}\n",
            "f.yaml:25: EventTrigger manage-namespace: spec.sourceClusterSelector: \"-production\" is no value of a \
             label (env): expected at most 63 letters, digits, '-', '_', '.', beginning and ending with a letter or \
             digit",
        ),
        (
            "matchLabels: {env: production}\n",
            "matchLabels: {replicas: 3}\n",
            "f.yaml:26: EventTrigger manage-namespace: spec.sourceClusterSelector.matchLabels.replicas: invalid type: \
             integer `3`, expected a string; quote it",
        ),
        (
            "    name: namespace\n",
            "    name: namespaces\n",
            "f.yaml:30: EventTrigger manage-namespace: spec.policyRefs[0]: ConfigMap default/namespaces does not \
             exist; create it, or correct the reference",
        ),
        (
            "    namespace: default\n",
            "",
            "f.yaml:30: EventTrigger manage-namespace: spec.policyRefs[0]: missing field `namespace`",
        ),
        (
            "  http: {}\n",
            "  http:\n",
            "f.yaml:15: EventSource user-operation: spec.http: is empty; write http: {} if there is nothing to set",
        ),
        (
            "  http: {}\n",
            "  http: {}\n  nats: {urls: [a], subjects: [b]}\n",
            "f.yaml:14: EventSource user-operation: spec: exactly one of http, nats, kubernetes must be set; found http and nats",
        ),
        (
            "  - exact: {source: auth.example.com}\n",
            "  - exact: {Source: auth.example.com}\n",
            "f.yaml:17: EventSource user-operation: spec.filters[0].exact.Source: is no attribute of an event: those \
             have lower case letters and digits only, as type, source, subject",
        ),
        (
            "  - exact: {source: auth.example.com}\n",
            "  - equals: {source: auth.example.com}\n",
            "f.yaml:16: EventSource user-operation: spec.filters[0]: unknown variant `equals`, expected one of `exact`, \
             `prefix`, `suffix`, `all`, `any`, `not`",
        ),
        (
            "  - exact: {source: auth.example.com}\n",
            "  - not: {cel: \"event.type == 'a' && evnt.data.seats > 10\"}\n",
            "f.yaml:17: EventSource user-operation: spec.filters[0].not.cel: line 1, column 22: evnt is not known; the \
             expression sees event and message",
        ),
        (
            "  - exact: {source: auth.example.com}\n",
            "  - exact: {source: auth.example.com}\n    prefix: {type: auth}\n",
            "f.yaml:16: EventSource user-operation: spec.filters[0]: must be a mapping with exactly one key; write one \
             item of the list for each",
        ),
        (
            "    matchLabels: {env: production}\n",
            "    []\n",
            "f.yaml:25: EventTrigger manage-namespace: spec.sourceClusterSelector: is a list; a mapping was expected",
        ),
        (
            "  directory: {}\n",
            "  directory: {}\n  inCluster: {}\n",
            "f.yaml:7: Cluster civo/production1: spec: exactly one of kubeconfigSecretRef, kubeconfigFile, directory, \
             inCluster, agent must be set; found directory and inCluster",
        ),
        (
            "  directory: {}\n",
            "  agent: {}\n",
            "f.yaml:8: Cluster civo/production1: spec.agent: works only with a management cluster, where the agent gets its \
             definitions; register the cluster there (fleet-operator register cluster --agent)",
        ),
        (
            "  directory: {}\n",
            "  kubeconfigSecretRef: {name: production1-kubeconfig}\n",
            "f.yaml:8: Cluster civo/production1: spec.kubeconfigSecretRef: Secret civo/production1-kubeconfig does \
             not exist; create it, or correct the reference",
        ),
        (
            "  name: production1\n",
            "  name: Production 1\n",
            "f.yaml:4: metadata.name: \"Production 1\" must consist of lower case letters, digits, '-' and '.'",
        ),
        (
            "  labels: {env: production}\n",
            "  lables: {env: production}\n",
            "f.yaml:6: Cluster civo/production1: metadata.lables: unknown field `lables`, expected one of `name`, \
             `namespace`, `labels`, `annotations`",
        ),
        (
            "    fleet-events.dev/template: \"true\"\n",
            "    fleet-events.dev/template: true\n",
            "f.yaml:40: ConfigMap default/namespace: metadata.annotations[\"fleet-events.dev/template\"]: invalid \
             type: boolean `true`, expected a string; quote it",
        ),
        (
            "kind: EventSource\n",
            "kind: Eventsource\n",
            "f.yaml:11: kind: Eventsource \"user-operation\" has no meaning here; expected Cluster, ClusterProfile, EventSource or \
             EventTrigger of fleet-events.dev/v1alpha1, or ConfigMap or Secret of v1. What is to be applied to \
             clusters belongs into a ConfigMap that a trigger or profile refers to",
        ),
    ] {
        assert!(STORY.contains(good), "{good}");
        let definitions = read(&STORY.replacen(good, bad, 1));
        let found = problems(&definitions);
        let (first, others): (Vec<&String>, Vec<&String>) =
            found.iter().partition(|one| one.starts_with(expected));
        assert_eq!(first.len(), 1, "{bad}\nexpected {expected}\nfound    {}", found.join("\n         "));
        // What cannot be used is missed by the trigger that refers to it; nothing else has a problem.
        assert!(
            others.iter().all(|one| one.contains(": EventTrigger manage-namespace: spec.")),
            "{others:?}"
        );
        assert!(others.len() <= 1, "{others:?}");
    }
}
