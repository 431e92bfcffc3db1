//! windlass.yaml as types: what a team writes (design/SPEC.md).
//!
//! [`ReleaseSpec`] travels inside the signed manifest; [`RolloutSpec`] is the order, sent as JSON and kept with the
//! rollout. Both refuse unknown keys. Cross-field rules are in [`check`]; reading YAML with line numbers is the CLI's.

mod amount;
pub mod check;
pub mod dial;
mod env_name;
pub mod hooks;
mod release;
mod rollout;
pub mod selector;
pub mod variables;

pub use amount::{Amount, ByteSize, CpuQuota, InvalidAmount, Ratio};
pub use env_name::EnvName;
pub use hooks::{Hook, Hooks};
pub use release::{
    Drain, ExecProbe, HttpProbe, OnDrainTimeout, PortRef, Probe, ProbeKind, Probes, ReleaseSpec, Resources,
    Runtime, Stop, TcpProbe,
};
pub use rollout::{
    Absent, AvailabilitySpec, Batches, ExpectHosts, Failure, HostOrder, HostSpec, OnContactLost, OnFailure,
    OnWatchFailure, RollbackSpec, RolloutSpec, Strategy, StrategyType, Targets, Watch,
};
