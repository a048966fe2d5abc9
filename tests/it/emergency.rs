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
        // One that is mistyped is not one that is attached to nothing.
        let (code, said) = setup.command(&["emergency-detach", "--policy", "p-00000000"]);
        assert!(code == 1 && said.contains("there is no policy p-00000000"), "{said}");
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

/// The role of deploy/emergency-detach.yaml is enough, and can do nothing else.
#[test]
fn the_role_that_is_shipped_for_it_is_enough_and_no_more() {
    let emulator = Emulator::simulator();
    let built = emulator.build(3, &["single", "1"]);
    let Emulator::Simulator(sim) = &emulator else { unreachable!("it is the simulator") };
    let url = emulator.script_url();
    let made = script("attach.py", &url, &["make", "locks-out"]);
    let policy = made["policy"].as_str().expect("a policy").to_owned();
    let own = script("call.py", &url, &["-", "-", "us-east-1", "sts", "GetCallerIdentity", "{}"]);
    let account = own["answer"]["Account"].as_str().expect("an account").to_owned();
    let statements = shipped("deploy/emergency-detach.yaml");
    let document = json!({"Version": "2012-10-17", "Statement": statements});
    sim.change(json!({"role": {"account": account, "name": "OnDuty", "present": true, "policy": document}}));
    let asked = json!({"RoleArn": format!("arn:aws:iam::{account}:role/OnDuty"), "RoleSessionName": "on-duty"});
    let args = ["-", "-", "us-east-1", "sts", "AssumeRole", &asked.to_string()];
    let session = script("call.py", &url, &args)["answer"]["Credentials"].clone();
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::new(&emulator.url(), folder.path());
    for (key, field) in [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ] {
        setup.set(key, session[field].as_str().expect("a credential"));
    }
    let (code, said) = setup.command(&["emergency-detach", "--policy", &policy]);
    assert!(code == 0 && said.contains("read back: it is attached to none"), "{said}");
    let target = built["accounts"][0]["id"].as_str().expect("an account");
    for (operation, params) in [
        ("AttachPolicy", json!({"PolicyId": policy, "TargetId": target})),
        ("DeletePolicy", json!({"PolicyId": policy})),
        ("UpdatePolicy", json!({"PolicyId": policy, "Description": "x"})),
    ] {
        let args =
            [&account, "OnDuty", "us-east-1", "organizations", operation, &params.to_string()];
        let said = script("call.py", &url, &args);
        assert_eq!(said["code"], "AccessDeniedException", "{operation}: {said}");
    }
}

/// The statements of a template's role, as JSON.
fn shipped(template: &str) -> Value {
    let code = "import json, sys\nfrom cfnlint.decode import cfn_yaml\nt = cfn_yaml.load(sys.argv[1])\nprint(json.dumps(t['Resources']['Role']['Properties']['Policies'][0]['PolicyDocument']['Statement']))";
    let path = ringfence_tests::root().join(template);
    let output = std::process::Command::new(ringfence_tests::python())
        .args(["-c", code, path.to_str().expect("text")])
        .output()
        .expect("read the template");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("statements")
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
