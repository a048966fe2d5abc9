//! How the world behaves; each setting can be changed while it runs, by the admin door.

use serde::{Deserialize, Serialize};

/// See each field. Times are in milliseconds of the clock that clients see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of everything that looks random.
    pub seed: u64,
    /// How much faster states change than in AWS: at 60, a restore that takes AWS six minutes takes
    /// six seconds. The clock itself is not scaled, so timestamps agree with the clients'.
    pub time_scale: f64,
    /// How far reads of RDS and Organizations lag behind writes.
    pub read_lag_ms: i64,
    /// How long CloudTrail's event history takes to show an event; AWS names minutes.
    pub trail_delay_ms: i64,
    /// How long an attached or detached policy takes to be in force. AWS names no number: "eventually
    /// consistent" (Organizations guide, troubleshooting).
    pub scp_delay_ms: i64,
    /// How long one write keeps an organization busy; another one in that time gets
    /// ConcurrentModificationException.
    pub organizations_busy_ms: i64,
    /// How far the nearest region is: each answer comes so late.
    pub latency_low_ms: u64,
    /// How far the farthest region is; the others are in between, each always as far.
    pub latency_high_ms: u64,
    /// Every n-th page of Organizations and Config is empty, with a token (API reference: "can
    /// occasionally return an empty set even when more results are available"). 0: none.
    pub empty_page_every: u64,
    /// The role that Ringfence's StackSet has deployed to every member account.
    pub role: String,
    /// The external id that its trust policy wants; empty wants none.
    pub external_id: String,
    /// What an Aurora cluster without KmsKeyId and StorageEncrypted becomes: `sse-rds` since
    /// 2026-02-18, `none` before (Aurora user guide, "Encrypting Amazon Aurora resources").
    pub aurora_default: String,
    /// Whether TargetKmsKeyId of a blue/green deployment is heeded. That it is for unencrypted databases, older
    /// copies of the user guide deny.
    pub blue_green_encrypts: bool,
    /// Whether green environments lag too far behind for a switchover.
    pub blue_green_lags: bool,
    /// SCPs that one target may have (10 since 2026-05).
    pub scps_per_target: usize,
    /// Characters of one SCP.
    pub scp_characters: usize,
    /// Manual snapshots, instances and clusters of an account and region (RDS user guide, quotas).
    pub rds_snapshots: usize,
    /// Copies of instance snapshots in flight to one region (RDS user guide, "Copying a snapshot").
    pub rds_copies: usize,
    /// See above.
    pub rds_instances: usize,
    /// See above.
    pub rds_clusters: usize,
    /// Calls that are kept in the log; older ones are dropped.
    pub log_size: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 1,
            time_scale: 60.0,
            read_lag_ms: 0,
            trail_delay_ms: 0,
            scp_delay_ms: 1_000,
            organizations_busy_ms: 20,
            latency_low_ms: 0,
            latency_high_ms: 0,
            empty_page_every: 7,
            role: "RingfenceRemediation".into(),
            external_id: String::new(),
            aurora_default: "sse-rds".into(),
            blue_green_encrypts: true,
            blue_green_lags: false,
            scps_per_target: 10,
            scp_characters: 10_240,
            rds_snapshots: 100,
            rds_copies: 20,
            rds_instances: 40,
            rds_clusters: 40,
            log_size: 100_000,
        }
    }
}

impl Settings {
    /// How late answers from a region come.
    pub fn latency_ms(&self, region: &str) -> u64 {
        let apart = self.latency_high_ms - self.latency_low_ms;
        self.latency_low_ms + crate::hash::of(self.seed, region) % (apart + 1)
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// Names the setting and what it takes.
    pub fn check(&self) -> Result<(), String> {
        if !(self.time_scale.is_finite() && self.time_scale >= 1.0) {
            return Err(format!("time_scale must be 1 or more, not {}", self.time_scale));
        }
        for (name, ms) in [
            ("read_lag_ms", self.read_lag_ms),
            ("trail_delay_ms", self.trail_delay_ms),
            ("scp_delay_ms", self.scp_delay_ms),
            ("organizations_busy_ms", self.organizations_busy_ms),
        ] {
            if !(0..=86_400_000).contains(&ms) {
                return Err(format!("{name} must be between 0 and a day, not {ms}"));
            }
        }
        if self.latency_low_ms > self.latency_high_ms || self.latency_high_ms > 60_000 {
            return Err(format!(
                "latency_high_ms must be between latency_low_ms and 60000, not {}",
                self.latency_high_ms
            ));
        }
        if !["none", "sse-rds"].contains(&self.aurora_default.as_str()) {
            return Err(format!(
                "aurora_default must be none or sse-rds, not {}",
                self.aurora_default
            ));
        }
        Ok(())
    }
}
