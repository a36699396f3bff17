//! Whether Sveltos' own controllers run: two who act on the same objects would undo each other's work.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};

/// The controllers that act on triggers, profiles and clusters.
const CONTROLLERS: [&str; 4] = ["addon-controller", "event-manager", "classifier-manager", "sc-manager"];

/// Sveltos' controllers that are to run in a cluster, as `namespace/name`, wherever they were installed.
///
/// # Errors
/// When Deployments cannot be listed: then nobody knows. Waits as long as the client does.
pub async fn sveltos_controllers(client: &kube::Client) -> kube::Result<Vec<String>> {
    let deployments: Api<Deployment> = Api::all(client.clone());
    let mut running = Vec::new();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = deployments.list(&page).await?;
        for deployment in list.items {
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let (Some(namespace), Some(name)) = (deployment.metadata.namespace, deployment.metadata.name)
            else {
                continue;
            };
            if wanted > 0 && CONTROLLERS.contains(&&*name) {
                running.push(format!("{namespace}/{name}"));
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(running),
        }
    }
}
