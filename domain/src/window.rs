//! Maintenance windows: when work on a database may begin.

use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: i64 = 24 * 60;
const WEEK: i64 = 7 * DAY;

/// A stretch of each week, in UTC, as RDS writes it: `sun:05:00-sun:06:30` (API reference, CreateDBInstance,
/// PreferredMaintenanceWindow). It may go over the end of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// Minutes since Monday 00:00.
    begin: i64,
    end: i64,
}

/// The minute of the week of a day and a time.
fn minute(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let (day, hour, minute) = (parts.next()?, parts.next()?, parts.next()?);
    let day = DAYS.iter().position(|d| day.eq_ignore_ascii_case(d))?;
    let number = |text: &str, most: i64| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| digits && *n < most)
    };
    let (hour, minute) = (number(hour, 24)?, number(minute, 60)?);
    let day = i64::try_from(day).ok()?;
    parts.next().is_none().then_some(day * DAY + hour * 60 + minute)
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Window, String> {
        let bad =
            |why: &str| format!("`{text}`: {why}a window is such as sun:05:00-sun:06:30, in UTC");
        let (begin, end) = text.trim().split_once('-').ok_or_else(|| bad(""))?;
        let read = |part: &str| {
            minute(part).ok_or_else(|| bad(&format!("`{part}` is no day of the week and time; ")))
        };
        let (begin, end) = (read(begin)?, read(end)?);
        if begin == end { Err(bad("it ends when it begins; ")) } else { Ok(Window { begin, end }) }
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Window, String> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> String {
        window.to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |at: i64| {
            let day = DAYS[usize::try_from(at / DAY).unwrap_or_default() % 7];
            format!("{day}:{:02}:{:02}", at % DAY / 60, at % 60)
        };
        write!(f, "{}-{}", show(self.begin), show(self.end))
    }
}

/// The minute of the week; 1970-01-01 was a Thursday.
fn minute_of_week(now: Time) -> i64 {
    (now.0.div_euclid(60_000) + 3 * DAY).rem_euclid(WEEK)
}

impl Window {
    /// Whether it is open.
    pub fn is_open(self, now: Time) -> bool {
        let long = (self.end - self.begin).rem_euclid(WEEK);
        (minute_of_week(now) - self.begin).rem_euclid(WEEK) < long
    }

    /// When it opens next; `now` while it is open.
    pub fn opens(self, now: Time) -> Time {
        if self.is_open(now) {
            return now;
        }
        let wait = (self.begin - minute_of_week(now)).rem_euclid(WEEK);
        let minute = Time(now.0.div_euclid(60_000) * 60_000);
        minute.plus(Span(wait * 60_000))
    }
}

/// Why work may not begin now; `None` if it may. No windows means any time.
pub fn closed(windows: &[Window], now: Time) -> Option<String> {
    let next = windows.iter().map(|w| w.opens(now)).min()?;
    (next > now)
        .then(|| format!("waiting for its window {} (UTC), which opens at {next}", show(windows)))
}

/// Windows as one text.
pub fn show(windows: &[Window]) -> String {
    windows.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Reads windows, separated by spaces or commas.
///
/// # Errors
/// Says which one is none.
pub fn parse(text: &str) -> Result<Vec<Window>, String> {
    text.split([' ', ',']).filter(|one| !one.is_empty()).map(str::parse).collect()
}

/// Where the windows of a database come from; its tag `ringfence:window` comes first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rule {
    /// Any time.
    #[default]
    Any,
    /// The database's own maintenance window.
    Own,
    /// These.
    Fixed(Vec<Window>),
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        match text.trim() {
            "" | "any" => Ok(Rule::Any),
            "database" => Ok(Rule::Own),
            text => parse(text).map(Rule::Fixed),
        }
    }
}

impl Rule {
    /// The windows of a database with that tag and that maintenance window.
    ///
    /// # Errors
    /// A tag or window that cannot be read: then nobody knows when.
    pub fn of(&self, tag: Option<&str>, own: Option<&str>) -> Result<Vec<Window>, String> {
        let rule = match tag {
            Some(tag) => tag.parse().map_err(|e| format!("its tag ringfence:window: {e}"))?,
            None => self.clone(),
        };
        match rule {
            Rule::Any => Ok(Vec::new()),
            Rule::Fixed(windows) => Ok(windows),
            Rule::Own => parse(own.ok_or("it has no maintenance window of its own")?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thursday 1970-01-01, that hour and minute.
    fn at(hour: i64, minute: i64) -> Time {
        Time((hour * 60 + minute) * 60_000)
    }

    #[test]
    fn windows_open_and_close_by_the_minute_and_over_the_week() {
        for (window, now, open) in [
            ("thu:05:00-thu:06:30", at(5, 0), true),
            ("thu:05:00-thu:06:30", at(6, 29), true),
            ("thu:05:00-thu:06:30", at(6, 30), false),
            ("thu:05:00-thu:06:30", at(4, 59), false),
            ("wed:22:00-thu:02:00", at(1, 0), true),
            ("sun:22:00-fri:02:00", at(1, 0), true),
            ("fri:00:00-wed:00:00", at(1, 0), false),
        ] {
            let parsed: Window = window.parse().unwrap();
            assert_eq!(parsed.is_open(now), open, "{window} {now}");
            assert_eq!(parsed.to_string(), window);
        }
    }

    #[test]
    fn the_next_opening_is_within_a_week() {
        let window: Window = "thu:05:00-thu:06:30".parse().unwrap();
        assert_eq!(window.opens(at(5, 1)), at(5, 1));
        assert_eq!(window.opens(at(4, 58)), at(5, 0));
        assert_eq!(window.opens(at(7, 0)), at(5 + 24 * 7, 0));
        let two = parse("thu:05:00-thu:06:30 fri:01:00-fri:02:00").unwrap();
        let why = closed(&two, at(7, 0)).unwrap();
        assert!(why.contains("opens at 1970-01-02T01:00:00Z"), "{why}");
        assert_eq!(closed(&two, at(5, 0)), None);
        assert_eq!(closed(&[], at(7, 0)), None, "no window is any time");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "sun",
            "sun:5:00-sun:06:00",
            "xyz:05:00-sun:06:00",
            "sun:05:00-sun:05:00",
            "sun:24:00-sun:25:00",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_tag_comes_before_the_rule() {
        let own = Some("tue:01:00-tue:02:00");
        let rule: Rule = "sat:01:00-sat:02:00, sun:01:00-sun:02:00".parse().unwrap();
        let of = |rule: &Rule, tag| show(&rule.of(tag, own).unwrap());
        assert_eq!(of(&rule, None), "sat:01:00-sat:02:00 sun:01:00-sun:02:00");
        assert_eq!(of(&rule, Some("database")), "tue:01:00-tue:02:00");
        assert_eq!(of(&rule, Some("wed:01:00-wed:02:00")), "wed:01:00-wed:02:00");
        assert_eq!(of(&Rule::Own, None), "tue:01:00-tue:02:00");
        assert_eq!(of(&rule, Some("any")), "");
        assert!(rule.of(Some("sunday"), own).is_err());
        assert!(Rule::Own.of(None, None).is_err());
    }
}
