//! The engine from outside: what goes in as events and comes out as objects, on in-memory parts and in virtual time.

mod delivery;
mod isolation;
mod late;
mod levels;
mod races;
mod refusal;
mod restart;
mod rig;
mod tampered;
