//! Compiles the protos with protox: no protoc is needed (docs/adr/0005).

use std::path::PathBuf;

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts where to write so")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<PathBuf> = std::fs::read_dir("ringfence/v1")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    println!("cargo:rerun-if-changed=ringfence/v1");
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let bytes = prost::Message::encode_to_vec(&descriptors);
    std::fs::write(out.join("ringfence_descriptor.bin"), bytes)?;
    // JSON on the command line comes from these derives: plain numbers and every field, unlike
    // proto3 JSON, which drops zeros and turns int64 into text. Names of enums are set in src/lib.rs.
    tonic_prost_build::configure()
        .btree_map(".")
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .field_attribute(
            ".ringfence.v1.Cell.state",
            "#[serde(serialize_with = \"crate::names::cell_state\")]",
        )
        .field_attribute(
            ".ringfence.v1.Node.kind",
            "#[serde(serialize_with = \"crate::names::node_kind\")]",
        )
        .field_attribute(
            ".ringfence.v1.Finding.kind",
            "#[serde(serialize_with = \"crate::names::resource_kind\")]",
        )
        .field_attribute(
            ".ringfence.v1.Finding.state",
            "#[serde(serialize_with = \"crate::names::finding_state\")]",
        )
        .field_attribute(
            ".ringfence.v1.PlanItem.kind",
            "#[serde(serialize_with = \"crate::names::resource_kind\")]",
        )
        .field_attribute(
            ".ringfence.v1.Plan.state",
            "#[serde(serialize_with = \"crate::names::plan_state\")]",
        )
        .field_attribute(
            ".ringfence.v1.Scan.state",
            "#[serde(serialize_with = \"crate::names::scan_state\")]",
        )
        .field_attribute(
            ".ringfence.v1.Remediation.kind",
            "#[serde(serialize_with = \"crate::names::resource_kind\")]",
        )
        .field_attribute(
            ".ringfence.v1.Remediation.state",
            "#[serde(serialize_with = \"crate::names::remediation_state\")]",
        )
        .field_attribute(
            ".ringfence.v1.Staging.state",
            "#[serde(serialize_with = \"crate::names::rollout_state\")]",
        )
        .field_attribute(
            ".ringfence.v1.Rollout.state",
            "#[serde(serialize_with = \"crate::names::rollout_state\")]",
        )
        .field_attribute(
            ".ringfence.v1.RolloutTarget.state",
            "#[serde(serialize_with = \"crate::names::target_state\")]",
        )
        .field_attribute(
            ".ringfence.v1.Check.outcome",
            "#[serde(serialize_with = \"crate::names::outcome\")]",
        )
        .compile_fds(descriptors)?;
    Ok(())
}
