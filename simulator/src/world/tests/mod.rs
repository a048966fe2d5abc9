//! The rules of the world, one test a rule; and the same script twice gives the same world.

mod blue_green;
mod organization;
mod rds;

use super::World;
use crate::generate::{Shape, generate};
use crate::settings::Settings;
use crate::value::{Map, Time};
use crate::wire::{Protocol, Request, Service, json};
use serde_json::{Value, json as j};

const START: Time = Time(1_767_225_600_000);
const ROLE: &str = "RingfenceRemediation";

/// A world, a clock by hand, and a session in one member account.
struct Play {
    world: World,
    now: Time,
    account: String,
    keys: (String, Option<String>),
}

impl Play {
    fn with(settings: Settings) -> Play {
        let shape = Shape {
            accounts: 3,
            regions: 3,
            opt_in: 1,
            density: 0.0,
            instances: None,
            plain: true,
        };
        let world = generate(settings, &shape).unwrap();
        let account = world.account_ids()[1].to_string();
        let mut play =
            Play { world, now: START, account: account.clone(), keys: (String::new(), None) };
        play.keys = play.enter(&account);
        play
    }

    fn new() -> Play {
        Play::with(Settings { time_scale: 1.0, ..Settings::default() })
    }

    /// A session of the role in an account.
    fn enter(&mut self, account: &str) -> (String, Option<String>) {
        self.assume(account, j!({})).unwrap()
    }

    fn assume(&mut self, account: &str, more: Value) -> Result<(String, Option<String>), String> {
        let mut params = j!({
            "RoleArn": format!("arn:aws:iam::{account}:role/{ROLE}"), "RoleSessionName": "test",
        });
        for (name, value) in more.as_object().unwrap() {
            params[name] = value.clone();
        }
        let made = self.send(&("any".into(), None), "us-east-1", "sts", "AssumeRole", params)?;
        let credentials = made.map("Credentials").unwrap();
        let text = |name| credentials.text(name).unwrap().to_owned();
        Ok((text("AccessKeyId"), Some(text("SessionToken"))))
    }

    fn request(
        keys: &(String, Option<String>),
        region: &str,
        service: &str,
        operation: &str,
        params: Value,
    ) -> Request {
        Request {
            protocol: Protocol::Query,
            service: Service::find(service).unwrap(),
            region: region.into(),
            operation: operation.into(),
            params: json::parse(params.to_string().as_bytes()).unwrap(),
            access_key: keys.0.clone(),
            token: keys.1.clone(),
        }
    }

    /// A call; its reply, or `Code: message`.
    fn send(
        &mut self,
        keys: &(String, Option<String>),
        region: &str,
        service: &str,
        operation: &str,
        params: Value,
    ) -> Result<Map, String> {
        let request = Play::request(keys, region, service, operation, params);
        let effect = self.world.effect(&request, self.now);
        let outcome = self.world.handle(&request, self.now, effect.as_ref());
        outcome.result.map_err(|f| format!("{}: {}", f.code(request.service).0, f.message))
    }

    /// A call in the member account.
    fn call(&mut self, service: &str, operation: &str, params: Value) -> Result<Map, String> {
        self.call_in("us-east-1", service, operation, params)
    }

    fn call_in(
        &mut self,
        region: &str,
        service: &str,
        operation: &str,
        params: Value,
    ) -> Result<Map, String> {
        let keys = self.keys.clone();
        self.send(&keys, region, service, operation, params)
    }

    fn ok(&mut self, operation: &str, params: Value) -> Map {
        self.call("rds", operation, params).unwrap()
    }

    /// A call that fails; its code.
    fn code(&mut self, operation: &str, params: Value) -> String {
        let error = self.call("rds", operation, params).unwrap_err();
        error.split(':').next().unwrap().to_owned()
    }

    /// A call of the management account.
    fn org(&mut self, operation: &str, params: Value) -> Result<Map, String> {
        let keys = ("any".into(), None);
        self.pass(1);
        self.send(&keys, "us-east-1", "organizations", operation, params)
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.plus(seconds * 1000);
    }

    /// A database that is available.
    fn database(&mut self, name: &str, more: Value) -> Map {
        let mut params = j!({
            "DBInstanceIdentifier": name, "Engine": "postgres", "DBInstanceClass": "db.m5.large",
            "AllocatedStorage": 20, "MasterUsername": "admin1", "MasterUserPassword": "not-a-secret",
        });
        for (key, value) in more.as_object().unwrap() {
            params[key] = value.clone();
        }
        self.ok("CreateDBInstance", params);
        self.pass(600);
        self.instance(name)
    }

    fn instance(&mut self, name: &str) -> Map {
        let found = self.ok("DescribeDBInstances", j!({"DBInstanceIdentifier": name}));
        found.maps("DBInstances").next().unwrap().clone()
    }

    fn status(&mut self, name: &str) -> String {
        self.instance(name).text("DBInstanceStatus").unwrap().to_owned()
    }

    fn key(&mut self) -> String {
        let made = self.call("kms", "CreateKey", j!({})).unwrap();
        made.map("KeyMetadata").unwrap().text("Arn").unwrap().to_owned()
    }
}

/// A script with throttles, faults by chance, states and policies, from one seed.
fn script(seed: u64) -> (Vec<crate::log::Entry>, String) {
    let settings = Settings { seed, ..Settings::default() };
    let shape =
        Shape { accounts: 40, regions: 4, opt_in: 1, density: 0.5, instances: None, plain: false };
    let mut world = generate(settings, &shape).unwrap();
    world.throttle.set(crate::throttle::aws()).unwrap();
    let rule = j!({"times": 0, "chance": 0.1, "effect": {"error": {"status": 500, "code": "InternalFailure"}}});
    world.faults.add(serde_json::from_value(rule).unwrap()).unwrap();
    let mut play = Play { world, now: START, account: String::new(), keys: (String::new(), None) };
    for account in play.world.account_ids() {
        play.pass(1);
        let Ok(keys) = play.assume(&account.to_string(), j!({})) else { continue };
        for region in ["us-east-1", "eu-west-1", "af-south-1"] {
            let found = play.send(&keys, region, "rds", "DescribeDBInstances", j!({}));
            for db in found.iter().flat_map(|map| map.maps("DBInstances")) {
                let name = db.text("DBInstanceIdentifier").unwrap();
                let params =
                    j!({"DBInstanceIdentifier": name, "DBSnapshotIdentifier": format!("s-{name}")});
                let _ = play.send(&keys, region, "rds", "CreateDBSnapshot", params);
            }
        }
    }
    play.pass(3600);
    let end = play.world.snapshot(play.now).to_string();
    (play.world.log.entries(0).collect(), end)
}

#[test]
fn the_same_seed_and_script_give_the_same_log_and_the_same_world() {
    let (first, second, other) = (script(3), script(3), script(4));
    assert!(first.0.len() > 150 && first.1.contains("\"s-db-"), "{}", first.0.len());
    assert!(first.0.iter().any(|e| e.error == "InternalFailure"));
    assert!(first == second, "the same");
    assert!(first.0 != other.0 && first.1 != other.1, "another seed is another world");
}

#[test]
fn every_setting_of_an_instance_is_taken_by_its_operations() {
    use super::rds::settings::{Modify, Omitted, SETTINGS};
    let takes = |operation: &str, input: &str| {
        super::find(Service::Rds, operation).unwrap().params.contains(&input)
    };
    for setting in SETTINGS {
        assert!(takes("CreateDBInstance", setting.input), "{}", setting.input);
        if setting.modify != Modify::Never {
            assert!(takes("ModifyDBInstance", setting.input), "{}", setting.input);
        }
        if matches!(setting.restore, Omitted::Kept)
            && !["CharacterSetName", "Timezone"].contains(&setting.input)
        {
            assert!(takes("RestoreDBInstanceFromDBSnapshot", setting.input), "{}", setting.input);
        }
    }
}
