//! Composes the engine by hand.

fn main() {}
