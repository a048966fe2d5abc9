//! What is read, and what is refused.

use super::*;
use ringfence_domain::bounds;

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let vars = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    parse(text, vars).map_err(|e| e.to_string())
}

#[test]
fn defaults_file_and_environment_are_layered() {
    let config = read("", &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:7443");
    assert!(config.embedded_agent && config.regions.is_empty());
    // The bounds say why; the table of keys says what.
    assert_eq!(config.agent_accounts_per_thread, bounds::ACCOUNTS_PER_THREAD as usize);
    assert_eq!(config.aws.in_flight_per_region, bounds::IN_FLIGHT_PER_REGION);
    assert_eq!(config.aws.attempt_timeout, bounds::ATTEMPT_TIMEOUT.to_duration());
    assert_eq!(config.aws.call_deadline, bounds::CALL_DEADLINE.to_duration());
    assert_eq!(config.scan_regions_max_age, bounds::REGIONS_MAX_AGE);
    let file =
        "[aws]\nregions = [\"eu-west-1\"]\n[controls.rds-encryption]\nrequire_kms_key = true\n";
    let config = read(
        file,
        &[
            ("RINGFENCE_AWS__REGIONS", "us-east-1, eu-west-2"),
            ("RINGFENCE_USER", "ann"),
            ("RINGFENCE_CONTROLS__RDS_ENCRYPTION__REQUIRE_KMS_KEY", "false"),
        ],
    )
    .unwrap();
    assert_eq!(config.regions.len(), 2);
    assert!(!config.require_kms_key);
}

#[test]
fn bad_values_name_the_key_and_the_fix() {
    for (file, environment, want) in [
        (
            "[store]\nulr = \"x\"",
            ("A", "b"),
            "unknown key `store.ulr` in the configuration file; did you mean `store.url`?",
        ),
        ("", ("RINGFENCE_STORE__ULR", "x"), "did you mean `store.url`?"),
        ("x = [", ("A", "b"), "not TOML"),
        ("[server]\nlisten = \"here\"", ("A", "b"), "server.listen = `here`"),
        ("[server]\nlisten = \"0.0.0.0:7443\"", ("A", "b"), "only a loopback address"),
        ("[aws]\nregions = [\"nowhere\"]", ("A", "b"), "aws.regions: `nowhere` is not a region"),
        ("[kms]\nalias = \"alias/aws/rds\"", ("A", "b"), "customer managed key"),
        ("", ("RINGFENCE_REMEDIATION__POLL", "soon"), "a duration such as 90s"),
        ("", ("RINGFENCE_APPROVALS__ROLLOUT", "0"), "at least one other person"),
        ("", ("RINGFENCE_REMEDIATION__FAILURE_BUDGET", "few"), "a share such as 10%"),
        ("", ("RINGFENCE_REMEDIATION__MAX_RUNNING", "0%"), "no remediation would ever begin"),
        ("", ("RINGFENCE_SERVER__EMBEDDED_AGENT", "yes"), "true or false"),
        ("", ("RINGFENCE_REMEDIATION__ISOLATION_GROUPS", "sg-1"), "such as vpc-0a1b=sg-0c2d"),
        ("", ("RINGFENCE_REMEDIATION__METRIC_PERIOD", "90s"), "1m or a multiple"),
        ("", ("RINGFENCE_REMEDIATION__WINDOW", "sunday"), "such as sun:05:00-sun:06:30"),
        ("", ("RINGFENCE_REMEDIATION__QUIET_FOR", "20s"), "metric_period or more"),
    ] {
        let error = read(file, &[environment]).unwrap_err();
        assert!(error.contains(want), "want {want}, have {error}");
    }
}
