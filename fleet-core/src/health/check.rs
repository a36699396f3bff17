//! A trigger's own checks: CEL expressions over an object.

use serde_json::{Map, Value};

use super::Health;
#[cfg(feature = "cel")]
use crate::expression::{Expression, Scope};
use crate::manifest::ObjectRef;
use crate::policy::HealthCheck;

/// A [`HealthCheck`] that can be asked.
#[derive(Debug)]
pub struct Check {
    check: HealthCheck,
    #[cfg(feature = "cel")]
    expression: Expression,
}

impl Check {
    /// Compiles a check, once for all objects. Takes some milliseconds.
    ///
    /// # Errors
    /// When its expression is not one that gives true or false, speaks of anything but `object`, or is too large; or when
    /// this was built without the feature `cel`. The sentence names the check, line and column.
    pub fn compile(check: &HealthCheck) -> Result<Self, String> {
        #[cfg(feature = "cel")]
        match Expression::compile(&check.expression, &["object"]) {
            Ok(expression) => Ok(Self { check: check.clone(), expression }),
            Err(why) => Err(format!("check {}: {why}", check.name)),
        }
        #[cfg(not(feature = "cel"))]
        Err(format!(
            "check {}: this was built without CEL; enable the feature `cel` of fleet-core",
            check.name
        ))
    }

    /// Whether it is about an object.
    pub fn covers(&self, object: &ObjectRef) -> bool {
        self.check.target.covers(object)
    }

    /// How an object is doing by this check alone. Messages show nothing of the object.
    pub fn evaluate(&self, object: &Map<String, Value>) -> Health {
        let name = &self.check.name;
        #[cfg(feature = "cel")]
        match self.expression.holds(&Scope::new([("object", object)])) {
            Ok(true) => Health::Ready,
            Ok(false) => Health::progressing(format!("check {name} is not true yet")),
            Err(why) => Health::progressing(format!("check {name} {why}")),
        }
        #[cfg(not(feature = "cel"))]
        {
            let _ = object;
            Health::progressing(format!("check {name} cannot be asked"))
        }
    }
}

#[cfg(all(test, not(feature = "cel")))]
mod tests {
    use super::*;

    #[test]
    fn without_cel_a_check_says_so() {
        let check = HealthCheck {
            name: "c".into(),
            target: crate::policy::Target::default(),
            expression: "true".into(),
        };
        assert!(Check::compile(&check).unwrap_err().contains("feature `cel`"));
    }
}
