//! The operator from outside: a process, its command line, its files and its port.

mod bad_input;
mod process;
mod quickstart;
