//! Rules that no compiler checks: which crate may see which, and how long a file may be.

use ringfence_tests::root;
use std::path::{Path, PathBuf};

/// Lines that a source file may have, tests included.
const LINES_MAX: usize = 520;

/// Files that are one table or one idea and longer.
const LONG: &[(&str, usize, &str)] =
    &[("tests/it/first_light.rs", 620, "one story, from the first sync to the audit log")];

/// Who may depend on whom among our own crates (ARCHITECTURE.md, "Arrows").
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("domain", &[]),
    ("aws", &["domain"]),
    ("agent", &["aws", "domain", "proto"]),
    ("server", &["agent", "aws", "domain", "proto"]),
    ("cli", &["domain", "proto", "simulator"]),
    // Nothing of ours: what it gets wrong about AWS must not be what the product gets wrong.
    ("simulator", &[]),
    // The protos only for the benchmark, which asks over gRPC without the command line's start.
    ("tests", &["agent", "domain", "proto", "server", "simulator"]),
];

/// What the pure crate must never link.
const NOT_PURE: &[&str] = &["tokio", "sqlx", "tonic", "aws-", "hyper", "fastrand", "futures"];

fn dependencies(crate_: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(crate_).join("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = text.parse().expect("TOML");
    let table = manifest["dependencies"].as_table().expect("dependencies");
    table.keys().cloned().collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (crate_, _) in ARROWS {
        for folder in ["src", "it"] {
            let folder = root().join(crate_).join(folder);
            if folder.exists() {
                sources(&folder, &mut found);
            }
        }
    }
    assert!(found.len() > 50);
    found
}

#[test]
fn arrows_point_at_the_domain() {
    for (crate_, allowed) in ARROWS {
        for dependency in dependencies(crate_) {
            if let Some(ours) = dependency.strip_prefix("ringfence-") {
                assert!(allowed.contains(&ours), "{crate_} must not depend on {ours}");
            }
            let sdk = dependency.starts_with("aws-");
            assert!(!sdk || *crate_ == "aws", "{crate_} names {dependency}: only aws may");
            let impure = NOT_PURE.iter().any(|p| dependency.starts_with(p));
            assert!(!(impure && *crate_ == "domain"), "domain must not link {dependency}");
        }
    }
}

#[test]
fn only_convert_knows_both_protos_and_domain_resources() {
    let rpc = root().join("server/src");
    let mut files = Vec::new();
    sources(&rpc, &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let inside = file.strip_prefix(&rpc).expect("a file of the server");
        let allowed = inside.starts_with("rpc") || inside == Path::new("lib.rs");
        assert!(
            allowed || !text.contains("ringfence_proto"),
            "{} names the protos",
            file.display()
        );
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for file in all_sources() {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let name = file.strip_prefix(root()).expect("a file of ours").display().to_string();
        assert!(text.starts_with("//!"), "{name} does not open with what it is for");
        let max = LONG.iter().find(|(n, _, _)| *n == name).map_or(LINES_MAX, |(_, max, _)| *max);
        let lines = text.lines().count();
        assert!(lines <= max, "{name} has {lines} lines, at most {max}");
    }
}

#[test]
fn printing_is_the_printers() {
    for file in all_sources() {
        let name = file.strip_prefix(root()).expect("a file of ours").display().to_string();
        let text = std::fs::read_to_string(&file).expect("a source file");
        let product = !name.starts_with("tests/");
        assert!(
            !(product && text.contains("println!(")) || name.ends_with("build.rs"),
            "{name} prints by itself"
        );
    }
}
