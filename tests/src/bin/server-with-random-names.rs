//! `ringfence-server` with one difference: what it makes is named anew at each try. The crash test
//! runs it to see that the test would notice.

use ringfence_agent::{Names, config, process};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::log_to_stderr();
    let config = config::load(None)?;
    let names = Names::new(|name| {
        let random = uuid::Uuid::new_v4().simple().to_string();
        format!("{}-{}", name.chars().take(40).collect::<String>(), &random[..8])
    });
    ringfence_server::run(config, names, |_| {}, process::asked_to_stop()).await
}
