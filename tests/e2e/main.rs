//! Real programs, real applications, real kills.
