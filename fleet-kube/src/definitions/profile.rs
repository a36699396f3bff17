//! `ClusterProfile` objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_core::apply::Identity;
use fleet_core::catalog::TriggerDef;
use fleet_core::cluster::ClusterId;
use fleet_core::policy::Policy;
use fleet_core::render::Language;
use fleet_core::resource::ResourceRef;
use fleet_core::selector::LabelSelector;

use super::object::{Fault, ObjectId, Place, Problem, join};
use super::references::References;
use super::{payload, policy, resources};
use crate::api::ClusterProfileSpec;

/// A ClusterProfile, read as far as that goes without looking at what it refers to.
#[derive(Debug)]
pub(crate) struct ProfileDraft {
    spec: ClusterProfileSpec,
    clusters: BTreeSet<ClusterId>,
    identity: Option<Identity>,
    resources: Vec<ResourceRef>,
    policy: Arc<Policy>,
    language: Language,
}

impl ProfileDraft {
    /// `language` is what the texts of charts are written in.
    pub(super) fn new(
        place: &Place,
        spec: ClusterProfileSpec,
        language: Language,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut invalid =
            |pointer: &str, reason: String| problems.push(place.problem(pointer, Fault::Invalid, reason));
        if spec.cluster_selector.is_none() && spec.cluster_refs.is_empty() {
            let reason = "says of no cluster that it gets this; set clusterSelector, clusterRefs or both";
            invalid("/spec", reason.to_owned());
        }
        if spec.policy_refs.is_empty() && spec.helm_charts.is_empty() {
            let reason = "names nothing; name at least one ConfigMap or Secret, or a chart in helmCharts";
            invalid("/spec/policyRefs", reason.to_owned());
        }
        let mut clusters = BTreeSet::new();
        for (index, named) in spec.cluster_refs.iter().enumerate() {
            match ClusterId::new(&named.namespace, &named.name) {
                Ok(id) => _ = clusters.insert(id),
                Err(error) => invalid(&join("/spec/clusterRefs", &index.to_string()), error.to_string()),
            }
        }
        payload::check(place, &spec.policy_refs, &spec.helm_charts, &mut problems);
        let resources = resources::read(place, &spec.template_resource_refs, language, &mut problems);
        let account = (spec.service_account_namespace.as_ref(), spec.service_account_name.as_ref());
        let identity = payload::identity(place, account.0, account.1, &mut problems);
        let policy = Arc::new(policy::policy(place, &spec.policy, &mut problems));
        if problems.is_empty() {
            Ok(Self { spec, clusters, identity, resources, policy, language })
        } else {
            Err(problems)
        }
    }

    /// The ConfigMaps and Secrets it refers to.
    pub(super) fn references(&self) -> impl Iterator<Item = ObjectId> {
        payload::references(&self.spec.policy_refs, &self.spec.helm_charts)
    }

    /// Whether its templates see anything of the management cluster.
    pub(super) fn refers(&self) -> bool {
        !self.resources.is_empty()
    }

    /// What it waits for, by the names that rules have.
    pub(super) fn depends_on(&self) -> &[Arc<str>] {
        &self.policy.depends_on
    }

    /// The definition, with a payload that is complete or says what is missing.
    pub(super) fn resolve(
        &self,
        name: &str,
        place: &Place,
        references: &References<'_>,
        problems: &mut Vec<Problem>,
    ) -> TriggerDef {
        let selector = self.spec.cluster_selector.clone().unwrap_or_else(LabelSelector::nothing);
        let (payload, local) = payload::payload(
            place,
            (&self.spec.policy_refs, &self.spec.helm_charts),
            self.language,
            references,
            problems,
        );
        TriggerDef {
            cluster_refs: self.clusters.clone(),
            payload,
            local,
            resources: self.resources.clone(),
            identity: self.identity.clone(),
            policy: Arc::clone(&self.policy),
            ..TriggerDef::profile(name, selector)
        }
    }
}
