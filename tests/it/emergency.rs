//! `ringfence-server emergency-detach`: no store, no server, an organization that others change.

use ringfence_tests::emulator::Emulator;
use ringfence_tests::process::Setup;
use ringfence_tests::script;
use serde_json::{Value, json};

#[test]
fn a_policy_comes_off_everything_without_a_store() {
    for emulator in [Emulator::moto(), Emulator::simulator()] {
        emulator.build(3, &["single", "1"]);
        let url = emulator.script_url();
        let made = script("attach.py", &url, &["make", "locks-out"]);
        let policy = made["policy"].as_str().expect("a policy").to_owned();
        let targets = || -> Vec<String> {
            let found = script("attach.py", &url, &["targets", &policy]);
            let list = found["targets"].as_array().expect("targets");
            list.iter().map(|t| t.as_str().expect("text").to_owned()).collect()
        };
        let all = targets();
        assert_eq!(all.len(), 3, "the root, an OU and an account: {all:?}");
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = Setup::new(&emulator.url(), folder.path());
        // Nobody may need it.
        setup.set("RINGFENCE_STORE__URL", "sqlite:///nowhere/at/all.db");
        let (code, said) = setup.command(&["emergency-detach", "--policy", &policy, "--dry-run"]);
        assert!(code == 0 && said.contains("would be detached from r-"), "{said}");
        assert_eq!(targets(), all, "nothing was changed");
        let (code, said) = setup.command(&["emergency-detach", "--policy", "p-FullAWSAccess"]);
        assert!(code == 1 && said.contains("locks out"), "{said}");
        let one = all.iter().find(|t| t.starts_with("ou-")).expect("an OU");
        let (code, said) =
            setup.command(&["emergency-detach", "--policy", &policy, "--target", one]);
        assert!(code == 0 && said.contains(&format!("detached from {one}")), "{said}");
        assert_eq!(targets().len(), 2, "only there");
        if let Emulator::Simulator(sim) = &emulator {
            let busy: Value =
                json!({"error": {"status": 400, "code": "ConcurrentModificationException"}});
            let detach = json!({"operation": "DetachPolicy"});
            sim.fault(json!({"match": detach, "times": 2, "effect": busy}));
        }
        let (code, said) = setup.command(&["emergency-detach", "--policy", &policy]);
        assert!(code == 0 && said.contains("read back: it is attached to none"), "{said}");
        assert_eq!(targets(), Vec::<String>::new());
        let again = setup.command(&["emergency-detach", "--policy", &policy]);
        assert!(again.0 == 0 && again.1.contains("attached to 0 targets"), "{again:?}");
    }
}

/// The last policy of a target cannot be taken off: AWS refuses, and it is said what to do.
#[test]
fn what_aws_refuses_is_said_and_the_rest_is_done() {
    let emulator = Emulator::simulator();
    emulator.build(3, &["single", "1"]);
    let url = emulator.script_url();
    let made = script("attach.py", &url, &["make", "locks-out"]);
    let policy = made["policy"].as_str().expect("a policy").to_owned();
    script("attach.py", &url, &["alone", &policy]);
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup::new(&emulator.url(), folder.path());
    let (code, said) = setup.command(&["emergency-detach", "--policy", &policy]);
    assert!(code == 1 && said.contains("attach p-FullAWSAccess first ("), "{said}");
    assert!(said.contains("is still attached to ou-"), "{said}");
    let left = script("attach.py", &url, &["targets", &policy]);
    assert_eq!(left["targets"].as_array().map(Vec::len), Some(1), "{left}");
}
