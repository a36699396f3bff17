//! Regular expressions.

use std::sync::Arc;

use regex::{NoExpand, Regex};

use super::lists::strings;
use super::{Args, Call, Function, function};
use crate::gotemplate::value::Value;
use crate::printed::Refusal;
use crate::re2;

/// How large a compiled expression may become, in bytes.
const SIZE: usize = 1 << 18;
/// What compiling one costs: far more than what else is done to a text.
const COMPILING: usize = 5_000;

pub(super) const FUNCTIONS: &[Function] = &[
    function("regexMatch", 2, 2, matches),
    function("mustRegexMatch", 2, 2, matches),
    function("regexFind", 2, 2, find),
    function("mustRegexFind", 2, 2, find),
    function("regexFindAll", 3, 3, find_all),
    function("mustRegexFindAll", 3, 3, find_all),
    function("regexReplaceAll", 3, 3, |call, args| replace(call, args, true)),
    function("mustRegexReplaceAll", 3, 3, |call, args| replace(call, args, true)),
    function("regexReplaceAllLiteral", 3, 3, |call, args| replace(call, args, false)),
    function("mustRegexReplaceAllLiteral", 3, 3, |call, args| replace(call, args, false)),
    function("regexSplit", 3, 3, split),
    function("mustRegexSplit", 3, 3, split),
    function("regexQuoteMeta", 1, 1, |call, args| {
        let mut quoted = String::new();
        for char in args.text(0)?.chars() {
            if r"\.+*?()|[]{}^$".contains(char) {
                quoted.push('\\');
            }
            quoted.push(char);
        }
        call.heap.text(quoted)
    }),
];

fn compiled(call: &mut Call<'_>, args: &Args<'_>) -> Result<Regex, Refusal> {
    let pattern = args.text(0)?;
    if let Some(regex) = call.heap.expressions.get(pattern) {
        return Ok(regex.clone());
    }
    call.heap.charge(COMPILING + pattern.len())?;
    let regex = re2::compile(pattern, SIZE).map_err(|why| args.wrong(format!("argument 1 {why}")))?;
    call.heap.expressions.insert(Arc::clone(pattern), regex.clone());
    Ok(regex)
}

fn searched<'a>(call: &mut Call<'_>, args: &Args<'a>, at: usize) -> Result<&'a str, Refusal> {
    let text = args.text(at)?;
    call.heap.charge(1 + text.len() / 8)?;
    Ok(text)
}

fn matches(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let regex = compiled(call, args)?;
    Ok(Value::Bool(regex.is_match(searched(call, args, 1)?)))
}

fn find(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let regex = compiled(call, args)?;
    let found = regex.find(searched(call, args, 1)?).map_or("", |found| found.as_str());
    call.heap.text(found)
}

fn find_all(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let regex = compiled(call, args)?;
    let most = usize::try_from(args.int(2)?).unwrap_or(usize::MAX);
    let text = searched(call, args, 1)?;
    strings(call, regex.find_iter(text).take(most).map(|found| found.as_str()))
}

fn replace(call: &mut Call<'_>, args: &Args<'_>, expands: bool) -> Result<Value, Refusal> {
    let regex = compiled(call, args)?;
    let (text, new) = (searched(call, args, 1)?, args.text(2)?);
    // Matches do not overlap, so each `$` brings the text once at most.
    let literal = regex.find_iter(text).count().saturating_mul(new.len());
    let expanded = if expands { new.matches('$').count().saturating_mul(text.len()) } else { 0 };
    call.heap.charge_text(text.len().saturating_add(literal).saturating_add(expanded))?;
    let replaced =
        if expands { regex.replace_all(text, &**new) } else { regex.replace_all(text, NoExpand(new)) };
    call.heap.text(replaced.into_owned())
}

fn split(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let regex = compiled(call, args)?;
    let text = searched(call, args, 1)?;
    match args.int(2)? {
        0 => call.heap.list(Vec::new()),
        most => {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let mut parts = Vec::new();
            let (mut start, mut end) = (0, 0);
            // Go's `Regexp.Split`, which begins and ends with no empty part of an empty match.
            for found in regex.find_iter(text) {
                if parts.len() + 1 == most {
                    break;
                }
                end = found.start();
                if found.end() != 0 {
                    parts.push(text.get(start..end).unwrap_or_default());
                }
                start = found.end();
            }
            if end != text.len() {
                parts.push(text.get(start..).unwrap_or_default());
            }
            strings(call, parts)
        }
    }
}
