//! The operator from outside: a process, its command line, its files and its port.

mod process;
mod quickstart;
