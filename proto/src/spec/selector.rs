//! Label selectors in kubectl's grammar.
