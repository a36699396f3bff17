//! The `local-fleet` program.

fn main() {}
