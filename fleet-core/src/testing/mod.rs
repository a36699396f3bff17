//! What tests of an implementation need (feature `testing`): mocks of the traits beside each trait, and the suites of
//! [`conformance`].

pub mod conformance;
