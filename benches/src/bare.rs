//! What floors are made of: a bare client, and ConfigMaps as the triggers of the measurements make them.

use fleet_kube::client::ClusterClient;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::config::Kubeconfig;

use crate::Failure;

/// Where ConfigMaps are made.
pub(crate) const NAMESPACE: &str = "default";
/// As whom the bare client writes.
pub(crate) const MANAGER: &str = "floor";

pub(crate) async fn config(kubeconfig: &str) -> Result<kube::Config, Failure> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?)
}

/// The ConfigMaps of a cluster, by connections like Fleet's own.
pub(crate) async fn config_maps(kubeconfig: &str) -> Result<Api<ConfigMap>, Failure> {
    let client = ClusterClient::new(config(kubeconfig).await?)?;
    Ok(Api::namespaced(client.api(), NAMESPACE))
}

/// The template of a ConfigMap that is named after an event's subject, and holds a value.
pub(crate) fn template(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: {NAMESPACE}\n  name: {{{{ event.subject }}}}\n\
         data:\n  user: {{{{ event.subject }}}}\n  value: \"{value}\"\n"
    )
}

/// What that template makes, but for the mark.
pub(crate) fn config_map(name: &str, value: &str) -> ConfigMap {
    let data = [("user", name), ("value", value)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut config_map = ConfigMap { data: Some(data.into()), ..ConfigMap::default() };
    config_map.metadata.name = Some(name.to_owned());
    config_map.metadata.namespace = Some(NAMESPACE.to_owned());
    config_map
}

/// One server-side apply.
pub(crate) async fn apply(api: &Api<ConfigMap>, name: &str, value: &str) -> Result<(), Failure> {
    let params = PatchParams::apply(MANAGER).force();
    api.patch(name, &params, &Patch::Apply(config_map(name, value))).await?;
    Ok(())
}
