//! What an account has to be allowed, and no more: what the documentation of `fleet_kube`'s `catalog`, `store`, `leader` and
//! `agent` lists, each as narrow as its requests are.
//!
//! What is applied in managed clusters is not among it: there the operator is who the kubeconfig of the Cluster says. Nor is
//! what is local, in the management cluster itself: which kinds those are only templates tell, so that is granted apart.

use std::collections::{BTreeMap, BTreeSet};

use fleet_kube::api::GROUP;
use fleet_kube::definitions::Family;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::api::ObjectMeta;
use serde_json::Value;

use super::{OPERATOR, Options, objects, value};
use crate::run::StoreKind;

const RBAC: &str = "rbac.authorization.k8s.io";
const CORE: &str = "";
const SVELTOS_LIB: &str = "lib.projectsveltos.io";
const SVELTOS_CONFIG: &str = "config.projectsveltos.io";

/// What one service account is allowed.
pub(super) struct Grants {
    account: &'static str,
    /// In all namespaces, and what lies in none.
    everywhere: Vec<PolicyRule>,
    /// By namespace.
    within: BTreeMap<String, Vec<PolicyRule>>,
}

/// What an operator is allowed in its management cluster.
pub(super) fn operator(options: &Options) -> Grants {
    let mut everywhere = definitions_of(options.api);
    // What is left in a Cluster that goes before its time.
    everywhere.push(rule("events.k8s.io", &["events"], &["create", "patch"]));
    let mut own = Vec::new();
    if options.store == StoreKind::Kubernetes {
        let records = ["get", "list", "watch", "create", "patch", "delete"];
        // They are in the namespaces of their Clusters.
        everywhere.push(rule(GROUP, &["appliedworks"], &records));
        own.push(rule(GROUP, &["works"], &records));
        own.push(rule(GROUP, &["works/status"], &["patch"]));
        // Floors and epochs; dead letters.
        own.push(rule(CORE, &["configmaps"], &["get", "create", "update"]));
        own.push(rule(CORE, &["secrets"], &["get", "list", "create", "update", "delete"]));
    }
    if !options.agent_namespaces.is_empty() {
        // Whether agents live, and what they have done.
        everywhere.push(rule("coordination.k8s.io", &["leases"], &["list", "watch"]));
        everywhere.push(rule(GROUP, &["appliedworks"], &["list"]));
        // What they hand on.
        everywhere.push(rule(GROUP, &["relayedevents"], &["get", "list", "watch"]));
    }
    if options.leader_elect {
        let lease = PolicyRule {
            resource_names: Some(vec![OPERATOR.to_owned()]),
            ..rule("coordination.k8s.io", &["leases"], &["get", "update"])
        };
        own.extend([lease, rule("coordination.k8s.io", &["leases"], &["create"])]);
    }
    let read: BTreeSet<&String> = options.read_namespaces.iter().chain([&options.namespace]).collect();
    let definitions = || rule(CORE, &["configmaps", "secrets"], &["list", "watch"]);
    let mut within: BTreeMap<String, Vec<PolicyRule>> =
        read.into_iter().map(|namespace| (namespace.clone(), vec![definitions()])).collect();
    within.entry(options.namespace.clone()).or_default().extend(own);
    for namespace in &options.agent_namespaces {
        // The definitions that concern an agent's cluster, and its Lease.
        within.entry(namespace.clone()).or_default().extend([
            rule(CORE, &["secrets"], &["create", "patch"]),
            rule("coordination.k8s.io", &["leases"], &["create", "patch"]),
            // What they handed on, once it is stored.
            rule(GROUP, &["relayedevents"], &["delete"]),
        ]);
    }
    Grants { account: OPERATOR, everywhere, within }
}

/// Reading definitions, and writing to them: the finalizer, the label with a cluster's version, and how they are.
fn definitions_of(api: Family) -> Vec<PolicyRule> {
    if api == Family::Sveltos {
        return vec![
            rule(SVELTOS_LIB, &["eventsources", "eventtriggers", "sveltosclusters"], &["list", "watch"]),
            rule(SVELTOS_LIB, &["eventtriggers", "sveltosclusters", "sveltosclusters/status"], &["patch"]),
            rule(SVELTOS_CONFIG, &["clusterprofiles"], &["list", "watch", "patch"]),
            // Whether Sveltos' own controllers run.
            rule("apps", &["deployments"], &["list"]),
        ];
    }
    vec![
        rule(GROUP, &["clusterprofiles", "clusters", "eventsources", "eventtriggers"], &["list", "watch"]),
        rule(GROUP, &["clusterprofiles", "clusters", "eventtriggers"], &["patch"]),
        rule(
            GROUP,
            &["clusterprofiles/status", "clusters/status", "eventsources/status", "eventtriggers/status"],
            &["patch"],
        ),
    ]
}

impl Grants {
    /// Roles and what binds them to the account, which is in `namespace`.
    pub(super) fn objects(self, namespace: &str, objects: &mut Vec<Value>) -> Result<(), serde_json::Error> {
        let Self { account, everywhere, within } = self;
        let subjects = Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account.to_owned(),
            namespace: Some(namespace.to_owned()),
            ..Subject::default()
        }]);
        let role = |kind: &str, name: &str| RoleRef {
            api_group: Some(RBAC.to_owned()),
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        // Whoever runs one more in another namespace gives it what is its own.
        let name = format!("{namespace}:{account}");
        let metadata = || ObjectMeta { name: Some(name.clone()), ..objects::unnamed() };
        objects.push(value(ClusterRole {
            metadata: metadata(),
            rules: Some(everywhere),
            ..ClusterRole::default()
        })?);
        objects.push(value(ClusterRoleBinding {
            metadata: metadata(),
            role_ref: role("ClusterRole", &name),
            subjects: subjects.clone(),
        })?);
        for (within, rules) in within {
            let metadata = || ObjectMeta { namespace: Some(within.clone()), ..metadata() };
            objects.push(value(Role { metadata: metadata(), rules: Some(rules) })?);
            objects.push(value(RoleBinding {
                metadata: metadata(),
                role_ref: role("Role", &name),
                subjects: subjects.clone(),
            })?);
        }
        Ok(())
    }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_agents_an_operator_takes_only_what_is_in_their_namespaces() {
        let options = Options {
            namespace: "fleet".to_owned(),
            image: "x".to_owned(),
            api: Family::Fleet,
            store: StoreKind::File,
            leader_elect: false,
            replicas: 1,
            read_namespaces: Vec::new(),
            agent_namespaces: vec!["prod1".to_owned()],
            access: Default::default(),
        };
        let writes_secrets = |rules: &[PolicyRule]| {
            rules.iter().any(|rule| {
                rule.resources.iter().flatten().any(|it| it == "secrets")
                    && rule.verbs.iter().any(|verb| verb == "create")
            })
        };
        let Grants { everywhere, within, .. } = operator(&options);
        assert!(writes_secrets(&within["prod1"]) && !writes_secrets(&within["fleet"]));
        assert!(!writes_secrets(&everywhere));
        let without = operator(&Options { agent_namespaces: Vec::new(), ..options });
        assert!(!without.within.contains_key("prod1"));
        assert!(
            without.everywhere.iter().all(|rule| rule.resources.iter().flatten().all(|it| it != "leases"))
        );
    }
}
