//! Lists, and what Go indexes and measures.

use super::numbers::index;
use super::{Args, Call, Function, MANY, function};
use crate::gotemplate::format;
use crate::gotemplate::value::Value;
use crate::printed::Refusal;

pub(super) const FUNCTIONS: &[Function] = &[
    function("len", 1, 1, |call, args| {
        let length = match args.get(0) {
            Value::Text(text) => text.len(),
            Value::List(list) => call.heap.items(*list).len(),
            Value::Map(map) => call.heap.entries(*map).len(),
            _ => return Err(args.unfit(0, "a string, list or map")),
        };
        Ok(Value::Int(i128::try_from(length).unwrap_or_default()))
    })
    .also_on_written_text(),
    function("index", 1, MANY, |call, args| {
        let mut found = args.get(0).clone();
        for at in 1..args.len() {
            found = element(call, args, &found, at)?;
        }
        Ok(found)
    }),
    function("slice", 1, 4, slice),
    function("mustSlice", 1, 4, slice),
    function("list", 0, MANY, |call, args| call.heap.list(args.all().to_vec())),
    function("tuple", 0, MANY, |call, args| call.heap.list(args.all().to_vec())),
    function("first", 1, 1, first),
    function("mustFirst", 1, 1, first),
    function("last", 1, 1, last),
    function("mustLast", 1, 1, last),
    function("rest", 1, 1, rest),
    function("mustRest", 1, 1, rest),
    function("initial", 1, 1, initial),
    function("mustInitial", 1, 1, initial),
    function("append", 2, 2, append),
    function("push", 2, 2, append),
    function("mustAppend", 2, 2, append),
    function("mustPush", 2, 2, append),
    function("prepend", 2, 2, prepend),
    function("mustPrepend", 2, 2, prepend),
    function("concat", 0, MANY, |call, args| {
        let mut all = Vec::new();
        for at in 0..args.len() {
            let list = args.list(at)?;
            call.heap.charge(call.heap.items(list).len())?;
            all.extend_from_slice(call.heap.items(list));
        }
        call.heap.list(all)
    }),
    function("reverse", 1, 1, reverse),
    function("mustReverse", 1, 1, reverse),
    function("uniq", 1, 1, uniq),
    function("mustUniq", 1, 1, uniq),
    function("without", 1, MANY, without),
    function("mustWithout", 1, MANY, without),
    function("has", 2, 2, has),
    function("mustHas", 2, 2, has),
    function("compact", 1, 1, compact),
    function("mustCompact", 1, 1, compact),
    function("chunk", 2, 2, |call, args| {
        let size = usize::try_from(args.int(0)?).ok().filter(|size| *size > 0);
        let size = size.ok_or_else(|| args.unfit(0, "a number above zero"))?;
        let items = call.heap.items(args.list(1)?).to_vec();
        let chunks =
            items.chunks(size).map(|chunk| call.heap.list(chunk.to_vec())).collect::<Result<_, _>>()?;
        call.heap.list(chunks)
    }),
    function("sortAlpha", 1, 1, |call, args| {
        let mut texts = texts(call, args.get(0))?;
        texts.sort();
        strings(call, texts)
    }),
    function("toStrings", 1, 1, |call, args| {
        let texts = texts(call, args.get(0))?;
        strings(call, texts)
    }),
    function("join", 2, 2, |call, args| {
        let separator = args.text(0)?.clone();
        let texts = texts(call, args.get(1))?;
        let length = texts.iter().map(|text| text.len() + separator.len()).sum();
        call.heap.charge_text(length)?;
        Ok(Value::text(&texts.join(&separator)))
    }),
];

/// One step of `index`.
fn element(call: &mut Call<'_>, args: &Args<'_>, of: &Value, at: usize) -> Result<Value, Refusal> {
    let beyond = || args.wrong(format!("argument {} is beyond the end", at + 1));
    match of {
        Value::Map(map) => {
            let key = args.text(at)?;
            Ok(call.heap.entries(*map).get(&**key).cloned().unwrap_or(Value::Nil))
        }
        Value::List(list) => {
            let index = index(args.get(at)).ok_or_else(|| args.unfit(at, "a number from 0 on"))?;
            call.heap.items(*list).get(index).cloned().ok_or_else(beyond)
        }
        Value::Text(text) => {
            let index = index(args.get(at)).ok_or_else(|| args.unfit(at, "a number from 0 on"))?;
            text.as_bytes().get(index).map(|byte| Value::Int((*byte).into())).ok_or_else(beyond)
        }
        other => Err(args.wrong(format!("{} has no elements", other.what()))),
    }
}

fn slice(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let length = match args.get(0) {
        Value::Text(text) => text.len(),
        Value::List(list) => call.heap.items(*list).len(),
        _ => return Err(args.unfit(0, "a list or string")),
    };
    let bound = |at: usize, otherwise: usize| {
        if args.len() <= at {
            return Ok(otherwise);
        }
        index(args.get(at)).ok_or_else(|| args.unfit(at, "a number from 0 on"))
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    let beyond = || args.wrong("is asked for more than there is");
    match args.get(0) {
        Value::Text(text) => {
            let part = text.get(from..to).ok_or_else(beyond)?;
            call.heap.text(part)
        }
        _ => {
            let part = call.heap.items(args.list(0)?).get(from..to).ok_or_else(beyond)?.to_vec();
            call.heap.list(part)
        }
    }
}

fn first(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    Ok(call.heap.items(args.list(0)?).first().cloned().unwrap_or(Value::Nil))
}

fn last(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    Ok(call.heap.items(args.list(0)?).last().cloned().unwrap_or(Value::Nil))
}

fn rest(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let rest = call.heap.items(args.list(0)?).get(1..).unwrap_or_default().to_vec();
    call.heap.list(rest)
}

fn initial(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let initial = call.heap.items(args.list(0)?).split_last().map(|(_, initial)| initial.to_vec());
    call.heap.list(initial.unwrap_or_default())
}

fn append(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let list = args.list(0)?;
    call.heap.charge(call.heap.items(list).len())?;
    let mut items = call.heap.items(list).to_vec();
    items.push(args.get(1).clone());
    call.heap.list(items)
}

fn prepend(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let list = args.list(0)?;
    call.heap.charge(call.heap.items(list).len())?;
    let items = std::iter::once(args.get(1)).chain(call.heap.items(list)).cloned().collect();
    call.heap.list(items)
}

fn reverse(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let items = call.heap.items(args.list(0)?).iter().rev().cloned().collect();
    call.heap.list(items)
}

fn compact(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let items = call.heap.items(args.list(0)?).iter().filter(|item| call.heap.truth(item)).cloned().collect();
    call.heap.list(items)
}

fn contains(call: &mut Call<'_>, items: &[Value], wanted: &Value) -> Result<bool, Refusal> {
    for item in items {
        if call.heap.same(item, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uniq(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let items = call.heap.items(args.list(0)?).to_vec();
    let mut once: Vec<Value> = Vec::new();
    for item in items {
        if !contains(call, &once, &item)? {
            once.push(item);
        }
    }
    call.heap.list(once)
}

fn without(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    let items = call.heap.items(args.list(0)?).to_vec();
    let mut kept = Vec::new();
    for item in items {
        if !contains(call, args.from(1), &item)? {
            kept.push(item);
        }
    }
    call.heap.list(kept)
}

fn has(call: &mut Call<'_>, args: &Args<'_>) -> Result<Value, Refusal> {
    if matches!(args.get(1), Value::Nil) {
        return Ok(Value::Bool(false));
    }
    let list = args.list(1)?;
    call.heap.charge(call.heap.items(list).len())?;
    let items = call.heap.items(list).to_vec();
    Ok(Value::Bool(contains(call, &items, args.get(0))?))
}

/// What `strslice` makes of a value: the texts of a list without nil, or its own.
fn texts(call: &mut Call<'_>, value: &Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::Nil => Ok(Vec::new()),
        Value::List(list) => {
            let items = call.heap.items(*list).to_vec();
            let texts = items.iter().filter(|item| !matches!(item, Value::Nil));
            texts.map(|item| format::plain(call.heap, item)).collect()
        }
        other => Ok(vec![format::plain(call.heap, other)?]),
    }
}

/// A list of texts.
pub(super) fn strings<T: AsRef<str>>(
    call: &mut Call<'_>,
    texts: impl IntoIterator<Item = T>,
) -> Result<Value, Refusal> {
    let texts = texts.into_iter().map(|text| call.heap.text(text.as_ref())).collect::<Result<_, _>>()?;
    call.heap.list(texts)
}
