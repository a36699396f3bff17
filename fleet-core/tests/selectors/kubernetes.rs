//! Kubernetes' own rules, transcribed from k8s.io/apimachinery v0.36.3 (Copyright The Kubernetes Authors, Apache License
//! 2.0), function by function and in its order, so that the two can be laid side by side: `LabelSelectorAsSelector`
//! (`pkg/apis/meta/v1/helpers.go`); `NewRequirement`, `Matches`, `String` and `Add` (`pkg/labels/selector.go`);
//! `IsLabelKey`, `IsLabelValue` (`pkg/api/validate/content/kube.go`); `IsDNS1123Subdomain` (`dns.go` there).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;

pub(crate) type Set = BTreeMap<String, String>;

/// `metav1.LabelSelector`: nothing in it is checked.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LabelSelector {
    pub(crate) match_labels: Set,
    pub(crate) match_expressions: Vec<LabelSelectorRequirement>,
}

/// `metav1.LabelSelectorRequirement`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LabelSelectorRequirement {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
}

/// `selection.Operator`, as far as a `LabelSelector` can lead to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operator {
    Equals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// `labels.Requirement`.
#[derive(Clone, Debug)]
pub(crate) struct Requirement {
    key: String,
    operator: Operator,
    str_values: Vec<String>,
}

/// `labels.internalSelector`.
#[derive(Clone, Debug)]
pub(crate) struct Selector(Vec<Requirement>);

pub(crate) fn label_selector_as_selector(ps: &LabelSelector) -> Result<Selector, String> {
    if ps.match_labels.len() + ps.match_expressions.len() == 0 {
        return Ok(Selector(Vec::new()));
    }
    let mut requirements = Vec::new();
    for (k, v) in &ps.match_labels {
        requirements.push(new_requirement(k, Operator::Equals, std::slice::from_ref(v))?);
    }
    for expr in &ps.match_expressions {
        let op = match &*expr.operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(format!("{other:?} is not a valid label selector operator")),
        };
        requirements.push(new_requirement(&expr.key, op, &expr.values)?);
    }
    // Add: sort.Sort(ByKey(ret)).
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Selector(requirements))
}

fn new_requirement(key: &str, op: Operator, vals: &[String]) -> Result<Requirement, String> {
    let mut all_errs = Vec::new();
    all_errs.extend(is_label_key(key));
    match op {
        Operator::In | Operator::NotIn => {
            if vals.is_empty() {
                all_errs.push("for 'in', 'notin' operators, values set can't be empty".to_owned());
            }
        }
        Operator::Equals => {
            if vals.len() != 1 {
                all_errs.push("exact-match compatibility requires one single value".to_owned());
            }
        }
        Operator::Exists | Operator::DoesNotExist => {
            if !vals.is_empty() {
                all_errs.push("values set must be empty for exists and does not exist".to_owned());
            }
        }
    }
    for val in vals {
        all_errs.extend(is_label_value(val));
    }
    if all_errs.is_empty() {
        Ok(Requirement { key: key.to_owned(), operator: op, str_values: vals.to_vec() })
    } else {
        Err(all_errs.join("; "))
    }
}

impl Requirement {
    fn has_value(&self, value: &str) -> bool {
        for i in &self.str_values {
            if i == value {
                return true;
            }
        }
        false
    }

    fn matches(&self, ls: &Set) -> bool {
        match self.operator {
            Operator::In | Operator::Equals => {
                let Some(val) = ls.get(&self.key) else {
                    return false;
                };
                self.has_value(val)
            }
            Operator::NotIn => {
                let Some(val) = ls.get(&self.key) else {
                    return true;
                };
                !self.has_value(val)
            }
            Operator::Exists => ls.contains_key(&self.key),
            Operator::DoesNotExist => !ls.contains_key(&self.key),
        }
    }

    fn string(&self) -> String {
        let mut sb = String::new();
        if self.operator == Operator::DoesNotExist {
            sb.push('!');
        }
        sb.push_str(&self.key);
        match self.operator {
            Operator::Equals => sb.push('='),
            Operator::In => sb.push_str(" in "),
            Operator::NotIn => sb.push_str(" notin "),
            Operator::Exists | Operator::DoesNotExist => return sb,
        }
        let several = matches!(self.operator, Operator::In | Operator::NotIn);
        if several {
            sb.push('(');
        }
        let mut sorted = self.str_values.clone();
        sorted.sort();
        sb.push_str(&sorted.join(","));
        if several {
            sb.push(')');
        }
        sb
    }
}

impl Selector {
    pub(crate) fn matches(&self, l: &Set) -> bool {
        for requirement in &self.0 {
            if !requirement.matches(l) {
                return false;
            }
        }
        true
    }

    pub(crate) fn string(&self) -> String {
        self.0.iter().map(Requirement::string).collect::<Vec<_>>().join(",")
    }
}

const LABEL_KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const DNS1123_LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

static LABEL_KEY: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("^{LABEL_KEY_FMT}$")).unwrap());
static LABEL_VALUE: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("^({LABEL_KEY_FMT})?$")).unwrap());
static DNS1123_SUBDOMAIN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!(r"^{DNS1123_LABEL_FMT}(\.{DNS1123_LABEL_FMT})*$")).unwrap());

pub(crate) fn is_label_key(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    let parts: Vec<_> = value.split('/').collect();
    let name = match *parts {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errs.push("prefix part must be non-empty".to_owned());
            } else {
                errs.extend(is_dns1123_subdomain(prefix));
            }
            name
        }
        _ => {
            errs.push("a valid label key has an optional DNS subdomain prefix and '/'".to_owned());
            return errs;
        }
    };
    if name.is_empty() {
        errs.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errs.push("name part must be no more than 63 bytes".to_owned());
    }
    if !LABEL_KEY.is_match(name) {
        errs.push("name part must consist of alphanumeric characters, '-', '_' or '.'".to_owned());
    }
    errs
}

pub(crate) fn is_label_value(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > 63 {
        errs.push("must be no more than 63 bytes".to_owned());
    }
    if !LABEL_VALUE.is_match(value) {
        errs.push("a valid label must be an empty string or consist of alphanumeric characters".to_owned());
    }
    errs
}

fn is_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > 253 {
        errs.push("must be no more than 253 bytes".to_owned());
    }
    if !DNS1123_SUBDOMAIN.is_match(value) {
        errs.push("a lowercase RFC 1123 subdomain must consist of lower case characters".to_owned());
    }
    errs
}
