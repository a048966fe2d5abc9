//! Faults: what shall go wrong, on which call. Scripted by rules, or by chance from the seed.

use crate::hash;
use crate::wire::Request;
use crate::world::change::Change;
use crate::world::{Access, AccountId};
use serde::{Deserialize, Serialize};

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Refused for its rate.
    Throttle,
    /// An error with this status and code; it had no effect.
    Error {
        /// HTTP status.
        status: u16,
        /// AWS's code.
        code: String,
        /// What it says; empty: that it was asked for.
        #[serde(default)]
        message: String,
    },
    /// The connection is closed; it had no effect.
    DropBefore,
    /// The connection is closed after the effect.
    DropAfter,
    /// The answer comes late.
    Late {
        /// By so many milliseconds.
        ms: u64,
    },
    /// The caller may not do it.
    Deny,
    /// The session is over.
    Expire,
    /// A read sees the state of so long ago.
    Lag {
        /// In milliseconds.
        ms: i64,
    },
    /// What this call makes will fail instead of becoming available.
    FailRestore,
    /// Somebody else changes something right before.
    Change(Change),
    /// The call waits before its effect until it is released.
    HoldBefore,
    /// The call has its effect, and its answer waits until it is released.
    HoldAfter,
}

/// Which calls a rule is about; what is left out matches all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matcher {
    /// The service's IAM prefix.
    pub service: Option<String>,
    /// The operation; a `*` at its end stands for anything.
    pub operation: Option<String>,
    /// The caller's account.
    pub account: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Writes only, or reads only.
    pub write: Option<bool>,
}

/// A fault that waits for its calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which calls.
    #[serde(default, rename = "match")]
    pub matcher: Matcher,
    /// How many matching calls pass first.
    #[serde(default)]
    pub skip: u64,
    /// How many it meets; 0 meets all.
    #[serde(default = "once")]
    pub times: u64,
    /// The chance that it meets a call, from the seed.
    #[serde(default = "always")]
    pub chance: f64,
    /// What happens.
    pub effect: Effect,
}

fn once() -> u64 {
    1
}

fn always() -> f64 {
    1.0
}

#[derive(Debug, Clone)]
struct Waiting {
    id: u64,
    rule: Rule,
    seen: u64,
    met: u64,
}

/// All rules, in the order in which they came; the first that meets a call has it, where a change by somebody
/// else leaves the call to the rules after it.
#[derive(Debug, Clone)]
pub struct Faults {
    seed: u64,
    made: u64,
    dice: u64,
    rules: Vec<Waiting>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Faults {
        Faults { seed, made: 0, dice: 0, rules: Vec::new() }
    }

    /// Adds a rule, and gives back its number.
    ///
    /// # Errors
    /// Names what makes no sense.
    pub fn add(&mut self, rule: Rule) -> Result<u64, String> {
        if !(rule.chance > 0.0 && rule.chance <= 1.0) {
            return Err(format!("chance must be above 0 and at most 1, not {}", rule.chance));
        }
        if let Some(service) = &rule.matcher.service
            && crate::wire::Service::find(service).is_none()
        {
            return Err(format!("match.service: there is no service {service}"));
        }
        if let Effect::Error { status, .. } = rule.effect
            && !(400..=599).contains(&status)
        {
            return Err(format!("effect.error.status must be 400 to 599, not {status}"));
        }
        let ms = match rule.effect {
            Effect::Lag { ms } => ms,
            Effect::Late { ms } => i64::try_from(ms).unwrap_or(i64::MAX),
            _ => 0,
        };
        if !(0..=86_400_000).contains(&ms) {
            return Err(format!("effect ms must be between 0 and a day, not {ms}"));
        }
        self.made += 1;
        self.rules.push(Waiting { id: self.made, rule, seen: 0, met: 0 });
        Ok(self.made)
    }

    /// Takes a rule away; whether it was there.
    pub fn remove(&mut self, id: u64) -> bool {
        let before = self.rules.len();
        self.rules.retain(|waiting| waiting.id != id);
        self.rules.len() < before
    }

    /// Takes all rules away.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// Every rule: its number, how often it met a call, and itself.
    pub fn list(&self) -> impl Iterator<Item = (u64, u64, &Rule)> {
        self.rules.iter().map(|w| (w.id, w.met, &w.rule))
    }

    pub(crate) fn none(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule may ask for an earlier state, so that earlier states are to be kept.
    pub(crate) fn may_lag(&self) -> bool {
        self.rules.iter().any(|w| matches!(w.rule.effect, Effect::Lag { .. }))
    }

    pub(crate) fn take(
        &mut self,
        request: &Request,
        account: AccountId,
        access: Option<Access>,
        after: u64,
    ) -> Option<(u64, Effect)> {
        for waiting in self.rules.iter_mut().filter(|w| w.id > after) {
            let rule = &waiting.rule;
            let used_up = rule.times > 0 && waiting.met >= rule.times;
            if used_up || !rule.matcher.matches(request, account, access) {
                continue;
            }
            waiting.seen += 1;
            if waiting.seen <= rule.skip {
                continue;
            }
            if rule.chance < 1.0 {
                self.dice += 1;
                let die = hash::mix(self.seed ^ 0xfa17, self.dice) as f64 / u64::MAX as f64;
                if die >= rule.chance {
                    continue;
                }
            }
            waiting.met += 1;
            return Some((waiting.id, rule.effect.clone()));
        }
        None
    }
}

impl Matcher {
    fn matches(&self, request: &Request, account: AccountId, access: Option<Access>) -> bool {
        let is = |wanted: &Option<String>, value: &str| match wanted.as_deref() {
            None => true,
            Some(pattern) => match pattern.strip_suffix('*') {
                Some(prefix) => value.starts_with(prefix),
                None => pattern == value,
            },
        };
        is(&self.service, request.service.prefix())
            && is(&self.operation, &request.operation)
            && is(&self.region, &request.region)
            && is(&self.account, &account.to_string())
            && self.write.is_none_or(|write| {
                access == Some(if write { Access::Write } else { Access::Read })
            })
    }
}
