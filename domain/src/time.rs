//! Instants and spans as plain numbers, so that decisions can be tested without a clock.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z. The store keeps this number; people see RFC 3339.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub i64);

/// A length of time in milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Span(pub i64);

impl Span {
    /// `n` seconds.
    pub const fn seconds(n: i64) -> Span {
        Span(n * 1_000)
    }

    /// As the standard library has it; 0 where negative.
    pub fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0).unwrap_or_default())
    }

    /// `n` hours.
    pub const fn hours(n: i64) -> Span {
        Span(n * 3_600_000)
    }

    /// Reads `90s`, `15m`, `24h`, `7d` or a sum such as `1h 30m`. `None` if it is none of these,
    /// or negative.
    pub fn parse(text: &str) -> Option<Span> {
        let mut total: i64 = 0;
        let mut number = String::new();
        let mut unit = String::new();
        let mut seen = false;
        let flush = |number: &mut String, unit: &mut String, total: &mut i64| -> Option<()> {
            let scale = match unit.as_str() {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            let part = number.parse::<i64>().ok()?.checked_mul(scale)?;
            *total = total.checked_add(part)?;
            number.clear();
            unit.clear();
            Some(())
        };
        for c in text.trim().chars() {
            if c.is_ascii_digit() {
                if !unit.is_empty() {
                    flush(&mut number, &mut unit, &mut total)?;
                }
                number.push(c);
                seen = true;
            } else if c.is_ascii_alphabetic() {
                unit.push(c);
            } else if c != ' ' {
                return None;
            }
        }
        flush(&mut number, &mut unit, &mut total)?;
        seen.then_some(Span(total))
    }
}

impl Time {
    /// This instant plus a span; saturates.
    pub const fn plus(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }

    /// How long ago `earlier` was; negative if it lies ahead.
    pub const fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Reads an RFC 3339 instant, or a date (its midnight UTC).
    pub fn parse(text: &str) -> Option<Time> {
        if let Ok(t) = text.parse::<jiff::Timestamp>() {
            return Some(Time(t.as_millisecond()));
        }
        // A date alone: jiff would take a date with a time and no offset too, and drop the time.
        let date = text.parse::<jiff::civil::Date>().ok().filter(|d| d.to_string() == text)?;
        let midnight = format!("{date}T00:00:00Z").parse::<jiff::Timestamp>().ok()?;
        Some(Time(midnight.as_millisecond()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Cut, not rounded: a moment that people compare with AWS's own must not show as a later one.
        match jiff::Timestamp::from_second(self.0.div_euclid(1_000)) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "@{}ms", self.0),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, m, h) = (self.0 / 1_000, self.0 / 60_000, self.0 / 3_600_000);
        match () {
            () if h >= 48 => write!(f, "{}d", h / 24),
            () if h >= 1 => write!(f, "{h}h{:02}m", m % 60),
            () if m >= 1 => write!(f, "{m}m{:02}s", s % 60),
            () => write!(f, "{s}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_strictly() {
        for (text, want) in [
            ("90s", Some(90_000)),
            ("24h", Some(86_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("7d", Some(604_800_000)),
            ("10", None),
            ("h", None),
            ("-1h", None),
            ("", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(Span::parse(text).map(|s| s.0), want, "{text:?}");
        }
    }

    #[test]
    fn times_print_as_rfc_3339() {
        let t = Time::parse("2026-11-24T10:00:00Z").unwrap();
        assert_eq!(t.to_string(), "2026-11-24T10:00:00Z");
        assert_eq!(Time(t.0 + 999).to_string(), "2026-11-24T10:00:00Z", "cut, not rounded");
        assert_eq!(Time::parse("2026-11-24").unwrap().plus(Span::hours(10)), t);
        for none in ["next week", "2026-11-24T10:00:00", "2026-11-24 10:00", "2026-11-24T10:00"] {
            assert_eq!(Time::parse(none), None, "{none}: of no offset nobody knows when it is");
        }
    }
}
