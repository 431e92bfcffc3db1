//! The JSON Schema of windlass.yaml, made from the types: for editors, and for reading the file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use windlass_proto::id::AppName;
use windlass_proto::spec::{ReleaseSpec, RolloutSpec};

/// windlass.yaml: what a team writes to have its app rolled out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Version of this file's format.
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    /// Name of the app; also a directory name on hosts.
    pub app: AppName,
    /// What is deployed and how it is run: signed, travels with the bundle.
    pub release: ReleaseSpec,
    /// The order: which hosts, how fast, and what happens when it goes wrong.
    pub rollout: RolloutSpec,
    /// Named overrides of the rollout, for --env.
    #[serde(default)]
    pub environments: BTreeMap<String, Environment>,
}

/// The one format there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The first.
    #[serde(rename = "windlass/v1")]
    V1,
}

/// One named environment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Replaces members of the rollout, one by one.
    #[serde(default)]
    pub rollout: Option<serde_json::Map<String, Value>>,
}

/// The schema as draft-07, which editors understand.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Document>().to_value();
    // An environment has the rollout's members, none of them required.
    let mut part = schema["definitions"]["RolloutSpec"].clone();
    let mut targets = schema["definitions"]["Targets"].clone();
    for value in [&mut part, &mut targets] {
        if let Some(members) = value.as_object_mut() {
            members.remove("required");
        }
    }
    part["description"] = json!("What an environment replaces of the rollout.");
    part["properties"]["targets"] = json!({ "$ref": "#/definitions/TargetsOverride" });
    schema["definitions"]["RolloutOverride"] = part;
    schema["definitions"]["TargetsOverride"] = targets;
    schema["definitions"]["Environment"]["properties"]["rollout"] = json!({
        "description": "Replaces members of the rollout, one by one.",
        "anyOf": [{ "$ref": "#/definitions/RolloutOverride" }, { "type": "null" }]
    });
    // The type lets it default, because a manifest does not hold it; a file must.
    if let Some(required) = schema["definitions"]["ReleaseSpec"]["required"].as_array_mut() {
        required.push(json!("files"));
    }
    if let Some(files) = schema["definitions"]["ReleaseSpec"]["properties"]["files"].as_object_mut() {
        files.remove("writeOnly");
        files.remove("default");
    }
    schema["title"] = json!("windlass.yaml");
    schema
}
