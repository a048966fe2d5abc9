//! Waivers of accounts and of databases, and their end, on the simulator.

use crate::bake::Org;
use crate::stage::{MINUTE, text};
use ringfence_domain::time::{Span, Time};
use ringfence_tests::until;
use serde_json::Value;

/// So long after now, by the server's clock.
fn in_seconds(org: &Org, seconds: i64) -> String {
    let file = org.file(&one_stage(&org.accounts[0]));
    let plan = org.cli("ann").json(&format!("rollout plan --dry-run -f {file}"), 0);
    let now = Time::parse(text(&plan, "created_at")).expect("a time");
    now.plus(Span::seconds(seconds)).to_string()
}

fn states(org: &Org, account: &str) -> Vec<(String, bool)> {
    let found = org.cli("ann").json(&format!("finding list --account {account}"), 0);
    let all = found["findings"].as_array().expect("findings");
    all.iter().map(|f| (text(f, "name").to_owned(), f["waived"] == true)).collect()
}

fn scanned(org: &Org, account: &str) {
    org.cli("ann").expect(&format!("scan start --account {account} --wait --timeout 60s"), 0);
}

fn one_stage(account: &str) -> String {
    format!("policy = \"rds-encryption\"\n[[stage]]\nname = \"a\"\ntargets = [\"{account}\"]\n")
}

fn log(org: &Org, subject: &str) -> String {
    org.cli("ann").expect(&format!("audit list --subject {subject} -o json"), 0).out
}

#[test]
fn a_waiver_of_an_account_covers_what_is_and_will_be_found_there_until_it_ends() {
    let org = Org::new(&[]);
    let account = org.accounts[0].clone();
    assert_eq!(org.makes(&account, "plain-1", false), "");
    scanned(&org, &account);
    assert_eq!(states(&org, &account), [("plain-1".to_owned(), false)]);
    let id = org.begun(&one_stage(&account));
    org.reaches(&id, "blocked");
    let waive = |account: &str, until: &str| {
        format!("finding waive --account {account} --owner team-a --reason CHG-1 --until {until}")
    };
    for (line, want) in [
        (waive("11", "2099-01-01"), "account: `11` is not an account id"),
        (waive("999988887777", "2099-01-01"), "is not in the organization"),
        (waive(&account, "2020-01-01"), "is in the past"),
    ] {
        let ran = org.cli("ann").run(&line);
        assert!(ran.code == 1 && ran.err.contains(want), "{ran:?}");
    }
    let said = org.cli("ann").expect(&waive(&account, "2099-01-01"), 0);
    assert!(said.out.contains("1 open findings, and what is found there until then"), "{said:?}");
    // What is found later, too.
    assert_eq!(org.makes(&account, "plain-2", false), "");
    scanned(&org, &account);
    assert_eq!(states(&org, &account).iter().map(|s| s.1).collect::<Vec<_>>(), [true, true]);
    let listed = org.cli("ann").json("finding waivers", 0);
    assert_eq!(text(&listed["waivers"][0], "account"), account, "{listed}");
    assert_eq!(text(&listed["waivers"][0]["waiver"], "owner"), "team-a");
    let found = org.cli("ann").json(&format!("finding list --account {account}"), 0);
    let one = text(&found["findings"][0], "id").to_owned();
    let single = org.cli("ann").run(&format!("finding unwaive {one}"));
    assert!(single.code == 5 && single.err.contains("with all of its account"), "{single:?}");
    org.cli("ann").expect(&format!("rollout resume {id}"), 0);
    org.reaches(&id, "complete");
    // It waives no account that was not read.
    let other = org.accounts[1].clone();
    org.sim.change(serde_json::json!({"role": {"account": other, "name": "RingfenceRemediation", "present": false}}));
    org.cli("ann").run(&format!("scan start --account {other} --wait --timeout 60s"));
    org.cli("ann").expect(&waive(&other, "2099-01-01"), 0);
    let dark = org.begun(&one_stage(&other).replace("name = \"a\"", "name = \"b\""));
    let blocked = org.reaches(&dark, "blocked");
    assert!(blocked["why"].to_string().contains(&other), "{blocked}");

    let ended =
        org.cli("ann").expect(&format!("finding unwaive --account {account} --reason over"), 0);
    assert!(ended.out.contains("2 findings count again"), "{ended:?}");
    assert_eq!(states(&org, &account).iter().map(|s| s.1).collect::<Vec<_>>(), [false, false]);
    let again = org.cli("ann").run(&format!("finding unwaive --account {account}"));
    assert!(again.code == 5 && again.err.contains("has no waiver"), "{again:?}");
    let said = log(&org, &account);
    assert!(said.contains("account.waive") && said.contains("account.unwaive"), "{said}");
}

#[test]
fn a_waiver_that_ends_reopens_its_finding_and_shuts_the_gate() {
    let org = Org::new(&[]);
    let (first, second) = (org.accounts[0].clone(), org.accounts[1].clone());
    for account in [&first, &second] {
        assert_eq!(org.makes(account, "plain-1", false), "");
        scanned(&org, account);
    }
    let ids = |account: &str| -> String {
        let found: Value = org.cli("ann").json(&format!("finding list --account {account}"), 0);
        text(&found["findings"][0], "id").to_owned()
    };
    let soon = in_seconds(&org, 8);
    org.cli("ann")
        .expect(&format!("finding waive {} --owner a --reason r --until {soon}", ids(&first)), 0);
    org.cli("ann").expect(
        &format!("finding waive --account {second} --owner a --reason r --until {soon}"),
        0,
    );
    assert!(states(&org, &first)[0].1 && states(&org, &second)[0].1);
    // Its gate is open as long as it holds.
    let plan =
        org.cli("ann").run(&format!("rollout plan --dry-run -f {}", org.file(&one_stage(&first))));
    assert!(plan.code == 0 && !plan.err.contains("is shut today"), "{plan:?}");
    for (account, subject, action) in
        [(&first, ids(&first), "finding.reopen"), (&second, second.clone(), "account.reopen")]
    {
        until("it counts again", MINUTE, || {
            let open = !states(&org, account)[0].1;
            let said = log(&org, &subject);
            if open && said.contains(action) { Ok(()) } else { Err(said) }
        });
    }
    let found = org.cli("ann").json(&format!("finding list --account {first}"), 0);
    assert_eq!(found["findings"][0]["waiver"], Value::Null, "{found}");
    let id = org.begun(&one_stage(&first));
    let blocked = org.reaches(&id, "blocked");
    assert!(blocked["why"].to_string().contains("plain-1"), "{blocked}");
    assert_eq!(org.attached(), org.before);
}
