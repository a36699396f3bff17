//! Mappings. `set`, `unset` and `merge` change the one they are given, as in sprig; it ends with the rendering.

use std::sync::Arc;

use super::{Args, Call, Function, MANY, function};
use crate::gotemplate::format;
use crate::gotemplate::value::{Entries, MapId, Value};
use crate::printed::Refusal;
use crate::render::TemplateFault;
use crate::yaml;

pub(super) const FUNCTIONS: &[Function] = &[
    function("dict", 0, MANY, |call, args| {
        let mut entries = Entries::new();
        for pair in args.all().chunks(2) {
            let Some(key) = pair.first() else { break };
            let key = format::plain(call.heap, key)?;
            entries.insert(key.into(), pair.get(1).cloned().unwrap_or_else(|| Value::text("")));
        }
        call.heap.map(entries)
    }),
    function("get", 2, 2, |call, args| {
        let found = call.heap.entries(args.map(0)?).get(&**args.text(1)?).cloned();
        Ok(found.unwrap_or_else(|| Value::text("")))
    }),
    function("set", 3, 3, |call, args| {
        call.heap.set(args.map(0)?, Arc::clone(args.text(1)?), args.get(2).clone())?;
        Ok(args.get(0).clone())
    }),
    function("unset", 2, 2, |call, args| {
        call.heap.unset(args.map(0)?, args.text(1)?);
        Ok(args.get(0).clone())
    }),
    function("hasKey", 2, 2, |call, args| {
        Ok(Value::Bool(call.heap.entries(args.map(0)?).contains_key(&**args.text(1)?)))
    }),
    function("keys", 0, MANY, |call, args| {
        let mut keys = Vec::new();
        for at in 0..args.len() {
            let entries = call.heap.entries(args.map(at)?);
            keys.extend(entries.keys().map(|key| Value::Text(Arc::clone(key))));
        }
        call.heap.list(keys)
    }),
    function("values", 1, 1, |call, args| {
        let values = call.heap.entries(args.map(0)?).values().cloned().collect();
        call.heap.list(values)
    }),
    function("pluck", 1, MANY, |call, args| {
        let key = args.text(0)?;
        let mut found = Vec::new();
        for at in 1..args.len() {
            found.extend(call.heap.entries(args.map(at)?).get(&**key).cloned());
        }
        call.heap.list(found)
    }),
    function("pick", 1, MANY, |call, args| {
        let mut picked = Entries::new();
        for at in 1..args.len() {
            let key = args.text(at)?;
            if let Some(value) = call.heap.entries(args.map(0)?).get(&**key) {
                picked.insert(Arc::clone(key), value.clone());
            }
        }
        call.heap.map(picked)
    }),
    function("omit", 1, MANY, |call, args| {
        let map = args.map(0)?;
        call.heap.charge(call.heap.entries(map).len())?;
        let mut kept = call.heap.entries(map).clone();
        for at in 1..args.len() {
            kept.remove(&**args.text(at)?);
        }
        call.heap.map(kept)
    }),
    function("merge", 1, MANY, |call, args| merge(call, args, false)),
    function("mustMerge", 1, MANY, |call, args| merge(call, args, false)),
    function("mergeOverwrite", 1, MANY, |call, args| merge(call, args, true)),
    function("mustMergeOverwrite", 1, MANY, |call, args| merge(call, args, true)),
    function("deepCopy", 1, 1, |call, args| call.heap.copy(args.get(0))),
    function("mustDeepCopy", 1, 1, |call, args| call.heap.copy(args.get(0))),
    function("dig", 3, MANY, |call, args| {
        let mut found = args.last().clone();
        for at in 0..args.len() - 2 {
            let Value::Map(map) = found else {
                return Err(args.wrong(format!("argument {} is asked of something that is no map", at + 1)));
            };
            match call.heap.entries(map).get(&**args.text(at)?) {
                Some(value) => found = value.clone(),
                None => return Ok(args.get(args.len() - 2).clone()),
            }
        }
        Ok(found)
    }),
];

fn merge(call: &mut Call<'_>, args: &Args<'_>, overwrite: bool) -> Result<Value, Refusal> {
    let into = args.map(0)?;
    for at in 1..args.len() {
        merge_into(call, into, args.map(at)?, overwrite, 0)?;
    }
    Ok(args.get(0).clone())
}

/// Takes over what is missing or empty; with `overwrite`, everything. What is taken over is copied.
fn merge_into(
    call: &mut Call<'_>,
    into: MapId,
    from: MapId,
    overwrite: bool,
    depth: usize,
) -> Result<(), Refusal> {
    if depth > yaml::MAX_DEPTH {
        let reason = format!("merge: a value nests deeper than {} levels", yaml::MAX_DEPTH);
        return Err(Refusal::new(TemplateFault::Limit, reason));
    }
    call.heap.charge(call.heap.entries(from).len())?;
    for (key, value) in call.heap.entries(from).clone() {
        let old = call.heap.entries(into).get(&key).cloned();
        match (&old, &value) {
            (Some(Value::Map(old)), Value::Map(new)) => {
                merge_into(call, *old, *new, overwrite, depth + 1)?;
            }
            (Some(old), _) if !overwrite && (call.heap.truth(old) || !call.heap.truth(&value)) => {}
            _ => {
                let value = call.heap.copy(&value)?;
                call.heap.set(into, key, value)?;
            }
        }
    }
    Ok(())
}
