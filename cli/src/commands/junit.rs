//! A rollout as a JUnit report, which pipelines show: a suite for the rollout and for each stage, in it a case for each target,
//! for its probe and for its bake. What has not come to an end is skipped, and says what it waits for.

use super::rollout::{state, target_state};
use super::tree::attached;
use crate::exit::{Exit, Failure};
use quick_xml::Writer;
use ringfence_proto::v1;
use ringfence_proto::v1::{RolloutState as S, RolloutTargetState as T};

/// How a case ended.
enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Suite {
    name: String,
    cases: Vec<(String, Outcome)>,
}

/// The report.
///
/// # Errors
/// None that is known: XML is written to memory.
pub(super) fn report(rollout: &v1::Rollout) -> Result<String, Failure> {
    let fail = |e: std::io::Error| Failure::new(Exit::Error, format!("the report: {e}"));
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    let suites = suites(rollout);
    writer
        .create_element("testsuites")
        .with_attribute(("name", rollout.id.as_str()))
        .write_inner_content(|writer| suites.iter().try_for_each(|suite| write(writer, suite)))
        .map_err(fail)?;
    let text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    // What people wrote may hold characters that no XML may (XML 1.0, 2.2), escaped or not.
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}");
    Ok(text.replace(
        |c: char| (c.is_control() && !"\t\r\n".contains(c)) || "\u{fffe}\u{ffff}".contains(c),
        "?",
    ))
}

fn write(writer: &mut Writer<Vec<u8>>, suite: &Suite) -> std::io::Result<()> {
    let count = |of: fn(&Outcome) -> bool| suite.cases.iter().filter(|(_, o)| of(o)).count();
    let tests = suite.cases.len().to_string();
    let failures = count(|o| matches!(o, Outcome::Failed(_))).to_string();
    let skipped = count(|o| matches!(o, Outcome::Skipped(_))).to_string();
    writer
        .create_element("testsuite")
        .with_attributes([
            ("name", suite.name.as_str()),
            ("tests", &tests),
            ("failures", &failures),
            ("errors", "0"),
            ("skipped", &skipped),
        ])
        .write_inner_content(|writer| {
            for (name, outcome) in &suite.cases {
                let case = writer
                    .create_element("testcase")
                    .with_attributes([("classname", suite.name.as_str()), ("name", name)]);
                let (tag, why) = match outcome {
                    Outcome::Passed => {
                        case.write_empty()?;
                        continue;
                    }
                    Outcome::Failed(why) => ("failure", why),
                    Outcome::Skipped(why) => ("skipped", why),
                };
                case.write_inner_content(|writer| {
                    let said = writer.create_element(tag);
                    said.with_attribute(("message", why.as_str())).write_empty().map(drop)
                })?;
            }
            Ok(())
        })?;
    Ok(())
}

fn suites(r: &v1::Rollout) -> Vec<Suite> {
    let why =
        if r.why.is_empty() { state(r) } else { format!("{}: {}", state(r), r.why.join("; ")) };
    let harmed = r.bakes.iter().any(|b| b.last_health == "unhealthy");
    let whole = match r.state() {
        S::Aborted if harmed => Outcome::Failed(why),
        S::Complete => Outcome::Passed,
        S::Failed | S::Blocked => Outcome::Failed(why),
        _ => Outcome::Skipped(why),
    };
    let cases = vec![("is carried out".to_owned(), whole)];
    let mut suites = vec![Suite { name: r.policy_name.clone(), cases }];
    for stage in &r.stages {
        let of = r.targets.iter().filter(|t| t.stage == stage.name);
        let mut cases: Vec<_> =
            of.map(|t| (format!("{} {}", t.id, t.name).trim_end().to_owned(), target(t))).collect();
        let probes = r.probes.iter().filter(|p| p.stage == stage.name);
        cases.extend(probes.map(|p| (format!("probe in {} {}", p.account, p.region), probe(p))));
        let bakes = r.bakes.iter().filter(|b| b.stage == stage.name);
        cases.extend(bakes.map(|b| ("bake".to_owned(), bake(b))));
        suites.push(Suite { name: stage.name.clone(), cases });
    }
    suites
}

fn target(t: &v1::RolloutTarget) -> Outcome {
    match t.state() {
        _ if attached(t) => Outcome::Passed,
        T::Lost => Outcome::Failed("somebody else detached it".into()),
        T::Skipped => Outcome::Skipped(format!("skipped by {}", t.skipped)),
        _ => Outcome::Skipped(target_state(t)),
    }
}

fn probe(p: &v1::RolloutProbe) -> Outcome {
    let said = match p.last_said.as_str() {
        "" => p.state.clone(),
        said => format!("{}: {said}", p.state),
    };
    match p.state.as_str() {
        "in force" | "gone" => Outcome::Passed,
        "not seen to be gone" => Outcome::Failed(said),
        _ => Outcome::Skipped(said),
    }
}

fn bake(b: &v1::RolloutBake) -> Outcome {
    match (b.promoted.as_str(), b.done_at.as_str(), b.last_health.as_str()) {
        ("", "", "unhealthy") => Outcome::Failed(b.last_said.clone()),
        ("", "", _) if b.began_at.is_empty() => Outcome::Skipped("not begun".into()),
        ("", "", _) => Outcome::Skipped(format!("since {}", b.began_at)),
        ("", ..) => Outcome::Passed,
        (by, ..) => Outcome::Skipped(format!("ended early by {by}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_passed_what_failed_and_what_is_not_known() {
        let stage = v1::RolloutStage { name: "a & b".into(), ..Default::default() };
        let target = |id: &str, state: T| v1::RolloutTarget {
            stage: "a & b".into(),
            id: id.into(),
            state: state.into(),
            skipped: "bob: \"later\"\u{1}".into(),
            ..Default::default()
        };
        let bake =
            v1::RolloutBake { stage: "a & b".into(), began_at: "T".into(), ..Default::default() };
        let rollout = v1::Rollout {
            id: "ro-1".into(),
            policy_name: "p".into(),
            state: S::Failed.into(),
            why: vec!["<gone>".into()],
            stages: vec![stage],
            targets: vec![target("1", T::Attached), target("2", T::Lost), target("3", T::Skipped)],
            bakes: vec![bake],
            ..Default::default()
        };
        let Ok(report) = report(&rollout) else { panic!("no report") };
        for want in [
            "<testsuites name=\"ro-1\">",
            "<testsuite name=\"p\" tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\">",
            "<failure message=\"failed: &lt;gone&gt;\"/>",
            "<testsuite name=\"a &amp; b\" tests=\"4\" failures=\"1\" errors=\"0\" skipped=\"2\">",
            "<testcase classname=\"a &amp; b\" name=\"1\"/>",
            "<skipped message=\"skipped by bob: &quot;later&quot;?\"/>",
            "<skipped message=\"since T\"/>",
        ] {
            assert!(report.contains(want), "{want} in\n{report}");
        }
    }
}
