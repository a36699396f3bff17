//! The engine from outside: what goes in as events and comes out as objects, on in-memory parts and in virtual time.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod delivery;
mod desired;
mod elsewhere;
mod feeds;
mod isolation;
mod late;
mod levels;
mod races;
mod recent;
mod refusal;
mod remembering;
mod resend;
mod restart;
mod rig;
mod states;
mod tampered;
