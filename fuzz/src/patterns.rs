//! A regular expression in the first line, and a text to look for it in. Nothing takes long, whichever two they are.

use fleet_core::filter::{Filter, Pattern};

use crate::{Outcome, halves};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Some((pattern, text)) = halves(input) else { return Outcome::Refused };
    match Pattern::new(pattern) {
        Ok(compiled) => {
            let found = compiled.is_in(text);
            assert_eq!(compiled.as_str(), pattern);
            let filter = Filter::MessageSubject(compiled);
            let stored = serde_json::to_string(&filter).unwrap();
            let read: Filter = serde_json::from_str(&stored).expect("what is a pattern stays one");
            assert_eq!(read, filter);
            let Filter::MessageSubject(read) = read else { panic!("{stored} is another filter") };
            assert_eq!(read.is_in(text), found);
            Outcome::Taken
        }
        Err(error) => {
            assert!(error.to_string().starts_with("is no regular expression"), "{error}");
            Outcome::Refused
        }
    }
}
