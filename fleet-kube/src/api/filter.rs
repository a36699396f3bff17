//! The schema of filters.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The schema of a list of [`Filter`](fleet_core::filter::Filter)s. A structural schema cannot be recursive, so what is
/// inside `all`, `any` and `not` is checked when it is read.
pub(super) fn filters(_: &mut SchemaGenerator) -> Schema {
    let attributes = json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "minLength": 1},
    });
    let nested = json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "properties": {
                "exact": attributes,
                "prefix": attributes,
                "suffix": attributes,
                "pattern": attributes,
                "messageSubject": {"type": "string", "minLength": 1, "maxLength": 4096},
                "cel": {"type": "string", "minLength": 1, "maxLength": 2048},
                "all": {"type": "array", "items": nested},
                "any": {"type": "array", "items": nested},
                "not": nested,
            },
        },
    })
}
