//! The fleet's development author: a key pair made once.
