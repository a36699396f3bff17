//! The CustomResourceDefinitions that `fleet-operator crds` prints.

use fleet_kube::api::{crds, crds_yaml};

/// A change of the API shows in this file, so that it is made knowingly.
#[test]
fn the_definitions_are_as_recorded() {
    insta::assert_snapshot!("crds", crds_yaml().unwrap());
}

#[test]
fn the_yaml_holds_what_the_types_say() {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&crds_yaml().unwrap()).unwrap();
    assert_eq!(documents.len(), crds().len());
    for (document, crd) in documents.iter().zip(crds()) {
        assert_eq!(document["metadata"]["name"], crd.metadata.name.unwrap());
        assert_eq!(document["spec"]["group"], fleet_kube::api::GROUP);
    }
}
