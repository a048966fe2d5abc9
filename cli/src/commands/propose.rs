//! `ringfence rollout propose`: a rollout file whose stages go from the least risk to the most.

use super::Context;
use super::rollout::Client;
use crate::exit::{End, Exit};
use crate::printer;
use ringfence_domain::time::Span;
use ringfence_proto::v1;
use std::fmt::Write as _;

pub(super) async fn run(
    context: &Context,
    mut client: Client,
    policy: String,
    request: v1::ProposeRolloutRequest,
) -> End {
    let answer = client.propose_rollout(request).await?.into_inner();
    match context.json() {
        true => printer::json(&answer),
        false => printer::data(file(&policy, &answer).trim_end()),
    }
    if answer.stages.is_empty() {
        printer::talk(
            "no OU and no account can be bound: `ringfence org tree` shows what is there",
        );
    }
    Ok(Exit::Done)
}

/// What a comment may not end.
fn comment(out: &mut String, text: &str) {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(out, "# {clean}");
}

fn file(policy: &str, answer: &v1::ProposeRolloutResponse) -> String {
    let text = |value: &str| toml::Value::from(value).to_string();
    let mut out = String::new();
    comment(
        &mut out,
        &format!(
            "Proposed from the organization as of {}: read it, change it, then `ringfence rollout simulate -f`.",
            answer.as_of
        ),
    );
    for left in &answer.left_out {
        comment(&mut out, left);
    }
    let _ = writeln!(out, "policy = {}", text(policy));
    for proposed in &answer.stages {
        let Some(stage) = &proposed.stage else { continue };
        out.push('\n');
        for because in &proposed.because {
            comment(&mut out, because);
        }
        let _ = writeln!(out, "[[stage]]\nname = {}", text(&stage.name));
        let targets: Vec<String> = stage.targets.iter().map(|t| text(t)).collect();
        let _ = match targets.as_slice() {
            [one] => writeln!(out, "targets = [{one}]"),
            many => writeln!(out, "targets = [\n  {},\n]", many.join(",\n  ")),
        };
        if stage.bake_seconds > 0 {
            let bake = Span(stage.bake_seconds.saturating_mul(1_000)).to_string();
            let _ = writeln!(out, "bake = {}", text(&bake));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfence_domain::rollout::parse;

    #[test]
    fn what_is_proposed_is_a_rollout_file() {
        let stage = |name: &str, targets: &[&str]| v1::ProposedStage {
            stage: Some(v1::RolloutStage {
                name: name.into(),
                targets: targets.iter().map(|t| (*t).to_owned()).collect(),
                bake_seconds: 86_400,
                observations: 0,
                ..Default::default()
            }),
            because: vec!["an OU\nwith a \"name\"".into()],
        };
        let answer = v1::ProposeRolloutResponse {
            stages: vec![
                stage("a \"b\"", &["ou-ab12-aaaaaaaa"]),
                stage("c", &["111122223333", "ou-ab12-bbbbbbbb"]),
            ],
            left_out: vec!["the root".into()],
            as_of: "2026-11-28T09:00:00Z".into(),
        };
        let text = file("rds-encryption", &answer);
        let (_, stages) = parse(&text).unwrap();
        assert_eq!((stages.len(), stages[0].name.as_str()), (2, "a \"b\""), "{text}");
        assert_eq!((stages[1].targets.len(), stages[1].bake), (2, Span::hours(24)), "{text}");
        assert!(text.starts_with("# Proposed"), "{text}");
    }
}
