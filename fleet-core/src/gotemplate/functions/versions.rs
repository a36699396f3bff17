//! Semantic versions and constraints, as `Masterminds/semver` has them.

use std::cmp::Ordering;

use semver::{BuildMetadata, Prerelease, Version};

use super::{Function, function};
use crate::gotemplate::value::{Entries, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    function("semver", 1, 1, |call, args| {
        let text = args.text(0)?;
        let version = version(text).ok_or_else(|| args.wrong("the text is no version"))?;
        let number = |part: u64| Value::Int(part.into());
        let entries = Entries::from([
            ("Major".into(), number(version.major)),
            ("Minor".into(), number(version.minor)),
            ("Patch".into(), number(version.patch)),
            ("Prerelease".into(), Value::text(&version.pre)),
            ("Metadata".into(), Value::text(&version.build)),
            ("Original".into(), Value::text(text)),
        ]);
        call.heap.map(entries)
    }),
    function("semverCompare", 2, 2, |call, args| {
        let (constraint, text) = (args.text(0)?, args.text(1)?);
        call.heap.charge(1 + constraint.len())?;
        let version = version(text).ok_or_else(|| args.wrong("argument 2 is no version"))?;
        let holds = fulfils(constraint, &version).ok_or_else(|| args.wrong("argument 1 is no constraint"))?;
        Ok(Value::Bool(holds))
    }),
];

/// A version, also `v1` and `1.2`.
fn version(text: &str) -> Option<Version> {
    let part = Part::parse(text)?;
    (!part.dirty || part.is_short).then_some(part.version)
}

/// Whether a version is in one of the ranges between `||`.
fn fulfils(constraint: &str, version: &Version) -> Option<bool> {
    let mut holds = false;
    for range in constraint.split("||") {
        let mut all = true;
        for condition in conditions(range)? {
            all &= condition.holds(version);
        }
        holds |= all;
    }
    Some(holds)
}

/// The conditions of one range, all of which must hold.
fn conditions(range: &str) -> Option<Vec<Condition>> {
    let range = range.trim();
    if let Some((from, to)) = range.split_once(" - ") {
        let condition =
            |op: &'static str, text: &str| Some(Condition { op, part: Part::parse(text.trim())? });
        return Some(vec![condition(">=", from)?, condition("<=", to)?]);
    }
    let mut conditions = Vec::new();
    let mut rest = range;
    while !rest.is_empty() {
        const OPERATORS: [&str; 12] = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^", ""];
        let op = OPERATORS.into_iter().find(|op| rest.starts_with(op))?;
        rest = rest.get(op.len()..)?.trim_start();
        let end = rest.find(|char: char| char == ',' || char.is_whitespace()).unwrap_or(rest.len());
        let (text, behind) = rest.split_at_checked(end)?;
        conditions.push(Condition { op, part: Part::parse(text)? });
        rest = behind.trim_start_matches(|char: char| char == ',' || char.is_whitespace());
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// A version that may leave parts open.
struct Part {
    version: Version,
    /// Something is open.
    dirty: bool,
    minor_open: bool,
    patch_open: bool,
    /// What is open was left out, not written as `x`.
    is_short: bool,
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, BuildMetadata::new(build).ok()?),
            None => (text, BuildMetadata::EMPTY),
        };
        let (text, pre) = match text.split_once('-') {
            Some((text, pre)) => (text, Prerelease::new(pre).ok()?),
            None => (text, Prerelease::EMPTY),
        };
        let is_x = |part: &str| matches!(part, "x" | "X" | "*");
        let parts: Vec<&str> = text.split('.').collect();
        let (major, minor, patch) = match parts.as_slice() {
            [major] => (*major, None, None),
            [major, minor] => (*major, Some(*minor), None),
            [major, minor, patch] => (*major, Some(*minor), Some(*patch)),
            _ => return None,
        };
        let number = |part: &str| {
            let lawful = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if lawful { part.parse::<u64>().ok() } else { None }
        };
        if is_x(major) {
            let version = Version::new(0, 0, 0);
            return Some(Self {
                version,
                dirty: true,
                minor_open: false,
                patch_open: false,
                is_short: false,
            });
        }
        let open = |part: Option<&str>| part.is_none_or(is_x);
        let (minor_open, patch_open) = (open(minor), open(minor) || open(patch));
        let version = Version {
            major: number(major)?,
            minor: if minor_open { 0 } else { number(minor?)? },
            patch: if patch_open { 0 } else { number(patch?)? },
            pre,
            build,
        };
        let is_short = ![minor, patch].into_iter().flatten().any(is_x);
        Some(Self { version, dirty: minor_open || patch_open, minor_open, patch_open, is_short })
    }
}

struct Condition {
    op: &'static str,
    part: Part,
}

impl Condition {
    fn holds(&self, version: &Version) -> bool {
        let Part { version: bound, dirty, minor_open, patch_open, .. } = &self.part;
        // One that names no prerelease means none.
        if !version.pre.is_empty() && bound.pre.is_empty() {
            return false;
        }
        let order = version.cmp_precedence(bound);
        match self.op {
            "!=" if *dirty => {
                version.major != bound.major
                    || !minor_open && version.minor != bound.minor
                    || !minor_open && !patch_open && version.patch != bound.patch
            }
            "!=" => order != Ordering::Equal,
            ">" if *dirty => match version.major.cmp(&bound.major) {
                Ordering::Equal => !minor_open && version.minor > bound.minor,
                major => major == Ordering::Greater,
            },
            ">" => order == Ordering::Greater,
            "<" => order == Ordering::Less,
            ">=" | "=>" => order != Ordering::Less,
            "<=" | "=<" if *dirty => {
                version.major < bound.major
                    || version.major == bound.major && (*minor_open || version.minor <= bound.minor)
            }
            "<=" | "=<" => order != Ordering::Greater,
            "^" => {
                if order == Ordering::Less {
                    false
                } else if bound.major > 0 || *minor_open {
                    version.major == bound.major
                } else if version.major > 0 {
                    false
                } else if bound.minor > 0 || *patch_open {
                    version.minor == bound.minor
                } else {
                    version.minor == 0 && version.patch == bound.patch
                }
            }
            "" | "=" if !*dirty => order == Ordering::Equal,
            // `~`, and `=` with something open.
            _ => {
                let anything =
                    bound.major == 0 && bound.minor == 0 && bound.patch == 0 && !*minor_open && !*patch_open;
                order != Ordering::Less
                    && (anything
                        || version.major == bound.major && (*minor_open || version.minor == bound.minor))
            }
        }
    }
}
