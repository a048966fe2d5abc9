//! The gRPC interface: the generated code of `ringfence/v1/*.proto`, and nothing else.

/// Package `ringfence.v1`.
#[expect(missing_docs, clippy::doc_markdown, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("ringfence.v1");
}

/// The descriptors, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/ringfence_descriptor.bin"));

/// The version of the command line's JSON documents.
pub const SCHEMA_VERSION: &str = "1";

/// Enum names as the store, the screen and JSON know them: `RUNNING` of `STATE_RUNNING` becomes
/// `running`, `SCP_DENIED` becomes `scp-denied` or `scp_denied`.
pub(crate) mod names {
    use crate::v1;
    use serde::Serializer;

    macro_rules! names {
        ($($function:ident $enum:ty, $prefix:literal, $dash:literal;)*) => {$(
            pub(crate) fn $function<S: Serializer>(value: &i32, s: S) -> Result<S::Ok, S::Error> {
                let name = <$enum>::try_from(*value).map_or("UNSPECIFIED", |v| v.as_str_name());
                let name = name.strip_prefix($prefix).unwrap_or(name);
                s.serialize_str(&name.to_ascii_lowercase().replace('_', $dash))
            }
        )*};
    }

    names! {
        cell_state v1::CellState, "CELL_STATE_", "-";
        node_kind v1::NodeKind, "NODE_KIND_", "_";
        resource_kind v1::ResourceKind, "RESOURCE_KIND_", "_";
        finding_state v1::FindingState, "FINDING_STATE_", "_";
        plan_state v1::PlanState, "PLAN_STATE_", "_";
        scan_state v1::ScanState, "SCAN_STATE_", "_";
        remediation_state v1::RemediationState, "REMEDIATION_STATE_", "_";
        rollout_state v1::RolloutState, "ROLLOUT_STATE_", "_";
        target_state v1::RolloutTargetState, "ROLLOUT_TARGET_STATE_", "_";
        outcome v1::CheckOutcome, "CHECK_OUTCOME_", "_";
    }
}
