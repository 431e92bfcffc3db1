//! Rules across the fields of a spec: everything that `validate` finds offline, and `plan` again against the fleet.
