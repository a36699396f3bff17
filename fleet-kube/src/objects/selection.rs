//! Which objects are events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_core::expression::{Expression, Scope};
use fleet_core::manifest::Gvk;
use fleet_core::selector::LabelSelector;

use super::object::Object;

/// The variable of a selector's expressions.
const VARIABLES: &[&str] = &["resource"];
/// What an object has without its content.
const WITHOUT_CONTENT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Which objects are events, and what of them is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// An object that one of these chooses is an event.
    pub selectors: Vec<Selector>,
    /// Whether objects are told with their content, and not only their metadata.
    pub content: bool,
}

/// Chooses objects: those for which all of this holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// Of this kind.
    pub kind: Gvk,
    /// In this namespace; in all if none is said. Says nothing of what lives in no namespace.
    pub namespace: Option<Arc<str>>,
    /// Of this name.
    pub name: Option<Arc<str>>,
    /// With such labels.
    pub labels: LabelSelector,
    /// Of which one of these holds, if there are any.
    pub rules: Vec<Rule>,
}

/// What an object has to be like.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called in messages.
    name: Arc<str>,
    expression: Expression,
}

impl Rule {
    /// Compiles an expression over the object as `resource`.
    ///
    /// # Errors
    /// A sentence that says line and column.
    pub fn new(name: impl Into<Arc<str>>, expression: &str) -> Result<Self, String> {
        let expression = Expression::compile(expression, VARIABLES).map_err(|error| error.to_string())?;
        Ok(Self { name: name.into(), expression })
    }
}

/// Why it cannot be told whether an object is chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Doubt(pub(super) String);

/// What a kind's objects have to be read for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// In which namespaces; `None`: in all.
    pub(super) namespaces: Option<BTreeSet<Arc<str>>>,
    /// With their content.
    pub(super) whole: bool,
}

impl Selector {
    /// Whether an object is chosen; an error if a rule cannot tell.
    fn chooses(&self, object: &Object) -> Result<bool, Doubt> {
        let is = |wanted: &Option<Arc<str>>, is: &str| wanted.as_ref().is_none_or(|wanted| **wanted == *is);
        if !is(&self.name, &object.name)
            || !object.namespace.as_ref().is_none_or(|namespace| is(&self.namespace, namespace))
            || !self.labels.matches(&object.labels)
        {
            return Ok(false);
        }
        if self.rules.is_empty() {
            return Ok(true);
        }
        let scope = Scope::new([("resource", &object.content)]);
        let mut unknown = None;
        for Rule { name, expression } in &self.rules {
            match expression.holds(&scope) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // What is not there is not as it should be.
                Err(why) if why.is_missing() => {}
                Err(why) => unknown = Some(Doubt(format!("rule {name} of resourceSelectors {why}"))),
            }
        }
        unknown.map_or(Ok(false), Err)
    }

    fn reads_content(&self) -> bool {
        self.rules.iter().any(|rule| match rule.expression.fields_of("resource") {
            Some(fields) => fields.iter().any(|field| !WITHOUT_CONTENT.contains(&field.as_str())),
            None => true,
        })
    }
}

impl Selection {
    /// The kinds, and what of each is needed.
    pub(super) fn needs(&self) -> BTreeMap<Gvk, Needs> {
        let mut needs: BTreeMap<Gvk, Needs> = BTreeMap::new();
        for selector in &self.selectors {
            let of_kind = needs
                .entry(selector.kind.clone())
                .or_insert_with(|| Needs { namespaces: Some(BTreeSet::new()), whole: self.content });
            of_kind.whole |= selector.reads_content();
            match &selector.namespace {
                None => of_kind.namespaces = None,
                Some(namespace) => {
                    of_kind.namespaces.iter_mut().for_each(|all| all.extend([Arc::clone(namespace)]));
                }
            }
        }
        needs
    }

    /// Whether an object is an event; an error if that cannot be told.
    pub(super) fn chooses(&self, kind: &Gvk, object: &Object) -> Result<bool, Doubt> {
        if object.is_going() {
            return Ok(false);
        }
        let mut unknown = None;
        for selector in self.selectors.iter().filter(|selector| selector.kind == *kind) {
            match selector.chooses(object) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(why) => unknown = Some(why),
            }
        }
        unknown.map_or(Ok(false), Err)
    }
}

impl Needs {
    /// Both.
    pub(super) fn with(self, other: &Self) -> Self {
        let namespaces = self.namespaces.zip(other.namespaces.clone());
        let namespaces = namespaces.map(|(one, other)| one.into_iter().chain(other).collect());
        Self { namespaces, whole: self.whole || other.whole }
    }
}
