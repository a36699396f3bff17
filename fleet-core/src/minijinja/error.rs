//! minijinja's errors as ours. Its details may quote values, so only those are passed on that cannot.

use std::error::Error as _;

use minijinja::{Error, ErrorKind, Value};

use crate::printed::Refusal;
use crate::render::{Context, TemplateError, TemplateFault};

/// What our own filters and formatter refuse, carried through minijinja's error.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::from(ErrorKind::InvalidOperation).with_source(refusal)
    }
}

/// An error that reaches the user with this fault and reason. The reason must not show values.
pub(super) fn refuse(fault: TemplateFault, reason: impl Into<String>) -> Error {
    Refusal::new(fault, reason).into()
}

/// An error about a value that is not what was needed. minijinja finds the name of one that is undefined.
pub(super) fn refuse_value(value: &Value, (fault, reason): (TemplateFault, String)) -> Error {
    match value.get_attr("value") {
        Err(error) if value.is_undefined() => error,
        _ => refuse(fault, reason),
    }
}

/// What the user sees of an error in the template with this name and text.
pub(super) fn explain(error: &Error, template: &str, text: &str) -> TemplateError {
    let expression = expression(error, text);
    let (fault, reason) = match refusal(error) {
        Some(Refusal { fault: TemplateFault::Undefined, .. }) => {
            (TemplateFault::Undefined, undefined(expression))
        }
        Some(Refusal { fault, reason }) => (*fault, of(expression, reason)),
        None => match error.kind() {
            ErrorKind::SyntaxError | ErrorKind::BadEscape | ErrorKind::InvalidDelimiter => (
                TemplateFault::Syntax,
                format!("not a template: {}", error.detail().unwrap_or("syntax error")),
            ),
            ErrorKind::OutOfFuel => (
                TemplateFault::Limit,
                "the template does too much work; make its loops shorter or split it".to_owned(),
            ),
            ErrorKind::UndefinedError => {
                (TemplateFault::Undefined, undefined(undefined_in(error, text).or(expression)))
            }
            ErrorKind::TemplateNotFound | ErrorKind::BadInclude => (
                TemplateFault::Evaluation,
                "other templates cannot be loaded; write macros in this one instead".to_owned(),
            ),
            kind => match undefined_in(error, text) {
                Some(variable) => (TemplateFault::Undefined, undefined(Some(variable))),
                None => {
                    let why = match harmless_detail(error) {
                        Some(detail) => detail.to_owned(),
                        None => kind.to_string(),
                    };
                    (TemplateFault::Evaluation, of(expression, &why))
                }
            },
        },
    };
    let fault = if error.detail().is_some_and(|detail| detail.contains("recursion limit")) {
        TemplateFault::Limit
    } else {
        fault
    };
    let line = error.line().and_then(|line| u32::try_from(line).ok());
    TemplateError { template: template.to_owned(), line, fault, reason }
}

/// Says where a part of the context is that the template looks for, where one kind of trigger has it and the other has
/// not.
pub(super) fn with_hint(mut error: TemplateError, context: &Context<'_>) -> TemplateError {
    if error.fault != TemplateFault::Undefined {
        return error;
    }
    let variable = error.reason.strip_prefix('`').unwrap_or_default();
    let is = |name: &str| {
        variable.strip_prefix(name).is_some_and(|rest| rest.starts_with(['`', '.', '[', ' ', '|']))
    };
    match context.events {
        None if is("resource") && context.event.is_some_and(|event| event.resource().is_some()) => error.reason.push_str(
            "; of an object there is only metadata, unless its EventSource says kubernetes.collectResources: true",
        ),
        Some(_) if ["event", "message", "origin", "resource"].into_iter().any(is) => error.reason.push_str(
            "; the trigger has oneForEvent: false, so what there is, is a list: {% for it in events %}{{ it.event.id }}{% endfor %}",
        ),
        None if is("events") => {
            error.reason.push_str("; only where a trigger has oneForEvent: false there is a list of events, else there is event");
        }
        _ => {}
    }
    error
}

fn refusal(error: &Error) -> Option<&Refusal> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(refusal) = error.downcast_ref() {
            return Some(refusal);
        }
        source = error.source();
    }
    None
}

fn undefined(variable: Option<String>) -> String {
    match variable {
        Some(variable) => {
            format!(
                "`{variable}` is undefined; ask with `is defined` first, or give a value with the filter default"
            )
        }
        None => "something undefined is used; ask with `is defined` first".to_owned(),
    }
}

fn of(expression: Option<String>, reason: &str) -> String {
    match expression {
        Some(expression) => format!("`{expression}`: {reason}"),
        None => reason.to_owned(),
    }
}

/// The expression at fault, as the template has it.
fn expression(error: &Error, text: &str) -> Option<String> {
    const LONGEST: usize = 80;
    let expression = text.get(error.range()?)?.trim();
    let one_line = !expression.is_empty() && expression.len() <= LONGEST && !expression.contains('\n');
    one_line.then(|| expression.to_owned())
}

/// The variable that minijinja found to be undefined. Every word of it must stand in the template.
fn undefined_in(error: &Error, text: &str) -> Option<String> {
    let (before, _) = error.detail()?.rsplit_once("` is undefined")?;
    let (_, variable) = before.rsplit_once('`')?;
    let mut words = variable.split(|char: char| !char.is_alphanumeric() && char != '_');
    words.all(|word| text.contains(word)).then(|| variable.to_owned())
}

/// Details that speak of kinds and names only.
fn harmless_detail(error: &Error) -> Option<&str> {
    let detail = error.detail()?;
    let harmless = matches!(
        error.kind(),
        ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
    ) || [
        "tried to use ",
        "value of type ",
        "cannot join value of type ",
        "cannot calculate length of value of type ",
    ]
    .iter()
    .any(|prefix| detail.starts_with(prefix))
        || detail.contains("recursion limit");
    harmless.then_some(detail)
}
