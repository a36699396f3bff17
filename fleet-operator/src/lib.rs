//! The reference operator of Fleet and its command line.
