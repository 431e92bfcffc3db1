//! Drives the real programs: builds them where they are missing, starts fleets with `windlass dev`, asks from the outside.
