//! Filters: what their type alone does not rule out.

use std::collections::BTreeMap;

use fleet_core::filter::Filter;

use super::object::{Fault, Place, Problem, join};

/// Checks a list of filters, of which all must hold, and makes them one.
pub(super) fn all(place: &Place, pointer: &str, filters: Vec<Filter>, problems: &mut Vec<Problem>) -> Filter {
    check_list(place, pointer, &filters, problems);
    Filter::All(filters)
}

fn check_list(place: &Place, pointer: &str, filters: &[Filter], problems: &mut Vec<Problem>) {
    for (index, filter) in filters.iter().enumerate() {
        check(place, &join(pointer, &index.to_string()), filter, problems);
    }
}

fn check(place: &Place, pointer: &str, filter: &Filter, problems: &mut Vec<Problem>) {
    match filter {
        Filter::Exact(attributes) => check_attributes(place, &join(pointer, "exact"), attributes, problems),
        Filter::Prefix(attributes) => check_attributes(place, &join(pointer, "prefix"), attributes, problems),
        Filter::Suffix(attributes) => check_attributes(place, &join(pointer, "suffix"), attributes, problems),
        Filter::All(filters) => check_list(place, &join(pointer, "all"), filters, problems),
        Filter::Any(filters) => check_list(place, &join(pointer, "any"), filters, problems),
        Filter::Not(filter) => check(place, &join(pointer, "not"), filter, problems),
        Filter::Pattern(patterns) => {
            let pointer = join(pointer, "pattern");
            let texts = patterns.iter().map(|(name, pattern)| (name.clone(), pattern.as_str().to_owned()));
            check_attributes(place, &pointer, &texts.collect(), problems);
        }
        Filter::MessageSubject(wanted) if wanted.as_str().is_empty() => {
            problems.push(place.problem(
                &join(pointer, "messageSubject"),
                Fault::Invalid,
                "must not be empty",
            ));
        }
        Filter::MessageSubject(_) | Filter::Cel(_) => {}
        other => problems.push(place.problem(
            pointer,
            Fault::NotSupported,
            format!("{other:?} is not supported yet"),
        )),
    }
}

fn check_attributes(
    place: &Place,
    pointer: &str,
    attributes: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) {
    if attributes.is_empty() {
        problems.push(place.problem(
            pointer,
            Fault::Invalid,
            "names no attribute; name at least one, such as type",
        ));
    }
    for (name, value) in attributes {
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !named {
            let reason = "is no attribute of an event: those have lower case letters and digits only, as type, source, \
                          subject";
            problems.push(place.problem(&join(pointer, name), Fault::Invalid, reason));
        } else if name == "data" {
            let reason = "is not an attribute; filters look at attributes only";
            problems.push(place.problem(&join(pointer, name), Fault::Invalid, reason));
        } else if value.is_empty() {
            problems.push(place.problem(&join(pointer, name), Fault::Invalid, "must not be empty"));
        }
    }
}
