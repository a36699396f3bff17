//! The functions of templates: Go's own, those of sprig that templates use, and those that Sveltos adds.

mod compare;
mod data;
mod dicts;
mod lists;
mod numbers;
mod regexes;
mod resources;
mod strings;
mod versions;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::value::{Heap, ListId, MapId, Printed, Value};
use crate::printed::{Refusal, Sink};
use crate::render::TemplateFault;

/// What a call works with.
pub(super) struct Call<'r> {
    pub(super) heap: &'r mut Heap,
    /// Where what is printed goes; without, the output step is off and texts are texts.
    pub(super) sink: Option<&'r Sink>,
}

/// A function.
#[derive(Clone, Copy)]
pub(super) struct Function {
    name: &'static str,
    /// How many arguments it takes.
    least: usize,
    most: usize,
    taking: Taking,
    run: fn(&mut Call<'_>, &Args<'_>) -> Result<Value, Refusal>,
}

/// What a function does with text that was printed before.
#[derive(Clone, Copy, PartialEq)]
enum Taking {
    /// It refuses it.
    Values,
    /// It takes it as what it is.
    Printed,
    /// It takes the text with the values in it: what comes of it is no structure.
    Written,
}

type Run = fn(&mut Call<'_>, &Args<'_>) -> Result<Value, Refusal>;

/// So many arguments and more.
const MANY: usize = usize::MAX;

const fn function(name: &'static str, least: usize, most: usize, run: Run) -> Function {
    Function { name, least, most, taking: Taking::Values, run }
}

impl Function {
    const fn also_on_printed_text(self) -> Self {
        Self { taking: Taking::Printed, ..self }
    }

    const fn also_on_written_text(self) -> Self {
        Self { taking: Taking::Written, ..self }
    }

    /// Calls it. Errors name it and show no values.
    pub(super) fn call(&self, call: &mut Call<'_>, values: &[Value]) -> Result<Value, Refusal> {
        // Whatever it does, it may look at all of a text.
        let bytes: usize =
            values.iter().map(|value| if let Value::Text(text) = value { text.len() } else { 0 }).sum();
        call.heap.charge(1 + values.len() + bytes / 256)?;
        let args = Args { name: self.name, values };
        if !(self.least..=self.most).contains(&values.len()) {
            let wanted = match (self.least, self.most) {
                (least, most) if least == most => least.to_string(),
                (least, MANY) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(args.wrong(format!("takes {wanted} arguments, not {}", values.len())));
        }
        if self.taking == Taking::Printed || !values.iter().any(|value| matches!(value, Value::Printed(_))) {
            return (self.run)(call, &args);
        }
        let taken = |value: &Value| match value {
            Value::Printed(Printed { plain: Some(text), .. }) if self.taking == Taking::Written => {
                Some(Value::Text(Arc::clone(text)))
            }
            Value::Printed(_) => None,
            other => Some(other.clone()),
        };
        let Some(values) = values.iter().map(taken).collect::<Option<Vec<_>>>() else {
            return Err(Refusal::new(
                TemplateFault::Structure,
                format!(
                    "{} cannot work on text that was printed before (by toYaml, toJson, quote, squote or indent): it can \
                     be printed, and passed to indent, nindent and trim; apply {} to the value first",
                    self.name, self.name
                ),
            ));
        };
        let args = Args { name: self.name, values: &values };
        (self.run)(call, &args)
    }
}

static ALL: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let all = [
        compare::FUNCTIONS,
        data::FUNCTIONS,
        dicts::FUNCTIONS,
        lists::FUNCTIONS,
        numbers::FUNCTIONS,
        regexes::FUNCTIONS,
        resources::FUNCTIONS,
        strings::FUNCTIONS,
        versions::FUNCTIONS,
    ];
    all.into_iter().flatten().map(|function| (function.name, *function)).collect()
});

/// The function of this name.
pub(super) fn find(name: &str) -> Option<Function> {
    ALL.get(name).copied()
}

/// The names of all of them, sorted.
#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = ALL.keys().copied().collect();
    names.sort_unstable();
    names
}

/// The functions that decide which of their arguments are evaluated; they are the evaluator's.
pub(super) const LAZY: [&str; 2] = ["and", "or"];

/// Those that look up objects of the management cluster.
pub(super) use self::resources::LOOK_UP;

/// Why a template cannot call a function of this name; nothing, if it can.
pub(super) fn why_not(name: &str) -> Option<String> {
    if LAZY.contains(&name) || find(name).is_some() {
        return None;
    }
    let reason = match name {
        "env" | "expandenv" => "it reads the operator's environment, which is nobody else's business",
        "getHostByName" => "it asks the network, and a template must give the same whenever it is rendered",
        "now" | "date" | "dateInZone" | "date_in_zone" | "dateModify" | "date_modify" | "mustDateModify"
        | "must_date_modify" | "ago" | "toDate" | "mustToDate" | "htmlDate" | "htmlDateInZone"
        | "unixEpoch" | "duration" | "durationRound" => {
            "it depends on clock or time zone, and a template must give the same whenever it is rendered"
        }
        "uuidv4"
        | "randAlphaNum"
        | "randAlpha"
        | "randAscii"
        | "randNumeric"
        | "randInt"
        | "randBytes"
        | "shuffle"
        | "bcrypt"
        | "htpasswd"
        | "derivePassword"
        | "genPrivateKey"
        | "genCA"
        | "genCAWithKey"
        | "genSelfSignedCert"
        | "genSelfSignedCertWithKey"
        | "genSignedCert"
        | "genSignedCertWithKey"
        | "buildCustomCert"
        | "encryptAES"
        | "decryptAES" => {
            "it makes secrets or random values, and a template must give the same whenever it is rendered"
        }
        "html" | "js" | "urlquery" => {
            "it escapes for another language; print the value, which needs no escaping in YAML"
        }
        "copy" | "setField" | "removeField" | "chainSetField" | "chainRemoveField" => {
            "an object with its apiVersion and kind would be structure made of data; write these, and print the rest: data: {{ (getResource \"x\").data | toYaml | nindent 2 }}"
        }
        _ => return Some(format!("there is no function {name:?}")),
    };
    Some(format!("the function {name} is left out on purpose: {reason}"))
}

/// The arguments of a call.
pub(super) struct Args<'a> {
    name: &'static str,
    values: &'a [Value],
}

impl<'a> Args<'a> {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn all(&self) -> &'a [Value] {
        self.values
    }

    fn from(&self, index: usize) -> &'a [Value] {
        self.values.get(index..).unwrap_or_default()
    }

    fn get(&self, index: usize) -> &'a Value {
        self.values.get(index).unwrap_or(&Value::Nil)
    }

    fn last(&self) -> &'a Value {
        self.values.last().unwrap_or(&Value::Nil)
    }

    /// An error of this function.
    fn wrong(&self, reason: impl AsRef<str>) -> Refusal {
        Refusal::new(TemplateFault::Evaluation, format!("{}: {}", self.name, reason.as_ref()))
    }

    fn unfit(&self, index: usize, wanted: &str) -> Refusal {
        self.wrong(format!("argument {} must be {wanted}, not {}", index + 1, self.get(index).what()))
    }

    fn text(&self, index: usize) -> Result<&'a Arc<str>, Refusal> {
        match self.get(index) {
            Value::Text(text) => Ok(text),
            _ => Err(self.unfit(index, "a string")),
        }
    }

    fn list(&self, index: usize) -> Result<ListId, Refusal> {
        match self.get(index) {
            Value::List(list) => Ok(*list),
            _ => Err(self.unfit(index, "a list")),
        }
    }

    fn map(&self, index: usize) -> Result<MapId, Refusal> {
        match self.get(index) {
            Value::Map(map) => Ok(*map),
            _ => Err(self.unfit(index, "a map")),
        }
    }

    /// A whole number.
    fn int(&self, index: usize) -> Result<i64, Refusal> {
        let number = match self.get(index) {
            Value::Int(number) => i64::try_from(*number).ok(),
            Value::Float(number) => super::value::whole(*number),
            _ => None,
        };
        number.ok_or_else(|| self.unfit(index, "a whole number"))
    }
}
