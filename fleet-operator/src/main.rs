//! The `fleet-operator` program.

fn main() {}
