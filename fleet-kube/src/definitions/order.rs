//! What waits for what: triggers that depend on each other must not do so in a circle.

use std::collections::BTreeMap;

/// A circle, if there is one: names of which each waits for the next, and the last for the first.
pub(super) fn circle<'a>(waits_for: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    // Whether everything beyond was looked at; false while it is on the way.
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    for start in waits_for.keys() {
        // The way here, and at each step what is still to be tried from there.
        let mut way: Vec<(&'a str, &[&'a str])> = Vec::new();
        let mut next = Some(*start);
        loop {
            if let Some(name) = next.take() {
                match seen.get(name) {
                    Some(true) => {}
                    Some(false) => {
                        let names = way.iter().map(|(name, _)| *name);
                        return Some(names.skip_while(|before| *before != name).collect());
                    }
                    None => {
                        seen.insert(name, false);
                        way.push((name, waits_for.get(name).map_or(&[], Vec::as_slice)));
                    }
                }
            }
            match way.last_mut() {
                None => break,
                Some((name, rest)) => match rest.split_first() {
                    Some((first, others)) => {
                        *rest = others;
                        next = Some(first);
                    }
                    None => {
                        seen.insert(name, true);
                        way.pop();
                    }
                },
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(edges: &[(&'static str, &[&'static str])]) -> Option<Vec<&'static str>> {
        circle(&edges.iter().map(|(from, to)| (*from, to.to_vec())).collect())
    }

    #[test]
    fn circles_are_found_wherever_they_begin() {
        assert_eq!(found(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"])]), None, "a diamond is none");
        assert_eq!(found(&[("a", &["x"])]), None, "who waits for nobody known is in none");
        assert_eq!(found(&[("a", &["a"])]), Some(vec!["a"]));
        assert_eq!(
            found(&[("a", &["b"]), ("b", &["c", "d"]), ("c", &[]), ("d", &["b"])]),
            Some(vec!["b", "d"])
        );
        assert_eq!(found(&[("c", &["a"]), ("a", &["b"]), ("b", &["c"])]), Some(vec!["a", "b", "c"]));
    }

    #[test]
    fn a_long_chain_is_walked_without_depth() {
        let names: Vec<String> = (0..20_000).map(|number| format!("t{number:05}")).collect();
        let mut edges: BTreeMap<&str, Vec<&str>> = names
            .iter()
            .zip(names.iter().skip(1))
            .map(|(one, next)| (one.as_str(), vec![next.as_str()]))
            .collect();
        assert_eq!(circle(&edges), None);
        edges.insert(&names[names.len() - 1], vec![&names[0]]);
        assert_eq!(circle(&edges).map(|circle| circle.len()), Some(names.len()));
    }
}
