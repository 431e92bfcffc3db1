//! The JSON kinds of design/CLI.md.

use serde_json::{Value, json};

/// Adds `apiVersion` and `kind` to an object.
pub fn wrap(kind: &str, value: Value) -> Value {
    let mut whole = json!({ "apiVersion": "windlass/v1", "kind": kind });
    if let (Some(whole), Value::Object(members)) = (whole.as_object_mut(), value) {
        whole.extend(members);
    }
    whole
}
