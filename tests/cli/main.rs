//! The command line against real fleets.
