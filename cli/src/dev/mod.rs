//! A fleet on this machine.
