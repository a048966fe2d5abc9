//! The hours in which alone a rollout goes on: where people are at work who notice harm. The way back never waits for them.

use crate::time::{Span, Time};
use crate::window::{Window, show};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Windows of each week on the clocks of one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// At least one.
    windows: Vec<Window>,
    /// Its name in the IANA time zone database, of which a copy is built in.
    time_zone: String,
}

impl Hours {
    /// Windows such as `mon:09:00-mon:16:00` in that time zone (empty: UTC); `None` without any: then all hours will do.
    ///
    /// # Errors
    /// Names the key and what it must be.
    pub fn new(windows: &[String], time_zone: &str) -> Result<Option<Hours>, String> {
        let read = windows.iter().map(|w| w.parse()).collect::<Result<Vec<Window>, _>>();
        let windows = read.map_err(|e| format!("windows: {e}").replace(", in UTC", ""))?;
        match (windows.is_empty(), time_zone) {
            (true, "") => return Ok(None),
            (true, zone) => {
                return Err(format!(
                    "time_zone = \"{zone}\" is that of `windows`, and there is none"
                ));
            }
            (false, _) => {}
        }
        let time_zone = if time_zone.is_empty() { "UTC" } else { time_zone }.to_owned();
        match TimeZone::get(&time_zone) {
            Ok(_) => Ok(Some(Hours { windows, time_zone })),
            Err(_) => Err(format!(
                "time_zone = \"{time_zone}\" is not in the IANA time zone database (Europe/Berlin, UTC)"
            )),
        }
    }

    /// Why nothing may be attached now; `None` if it may.
    pub fn closed(&self, now: Time) -> Option<String> {
        let Ok(zone) = TimeZone::get(&self.time_zone) else {
            return Some(format!("its time zone {} is not known here", self.time_zone));
        };
        let offset = |at: Time| {
            let at = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::MAX);
            Span(i64::from(zone.to_offset(at).seconds()) * 1_000)
        };
        let local = now.plus(offset(now));
        let opens = self.windows.iter().map(|w| w.opens(local)).min()?;
        // The clocks there may be put forward or back until then.
        let utc = |local: Time, offset: Span| local.plus(Span(-offset.0));
        let opens_at = utc(opens, offset(utc(opens, offset(now))));
        (opens > local).then(|| format!("waiting for its hours {self}; they begin at {opens_at}"))
    }

    /// The windows, as they were written.
    pub fn windows(&self) -> Vec<String> {
        self.windows.iter().map(ToString::to_string).collect()
    }

    /// The name of the time zone.
    pub fn time_zone(&self) -> &str {
        &self.time_zone
    }
}

impl std::fmt::Display for Hours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", show(&self.windows), self.time_zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(windows: &[&str], zone: &str) -> Result<Option<Hours>, String> {
        Hours::new(&windows.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), zone)
    }

    #[test]
    fn hours_are_those_of_their_place_in_summer_and_in_winter() {
        let berlin = hours(&["mon:09:00-mon:16:00", "tue:09:00-tue:16:00"], "Europe/Berlin");
        let berlin = berlin.unwrap().unwrap();
        let utc = hours(&["mon:09:00-mon:16:00"], "").unwrap().unwrap();
        for (hours, now, want) in [
            (&berlin, "2027-01-11T08:00:00Z", ""),
            (&berlin, "2027-01-11T07:59:59Z", "begin at 2027-01-11T08:00:00Z"),
            (&berlin, "2027-01-11T15:00:00Z", "begin at 2027-01-12T08:00:00Z"),
            (&berlin, "2027-07-12T07:00:00Z", ""),
            (&berlin, "2027-07-12T14:00:00Z", "begin at 2027-07-13T07:00:00Z"),
            // Over the end of summer time, on 2027-10-31.
            (&berlin, "2027-10-30T12:00:00Z", "begin at 2027-11-01T08:00:00Z"),
            (&utc, "2027-07-12T09:00:00Z", ""),
            (
                &utc,
                "2027-07-12T08:59:00Z",
                "mon:09:00-mon:16:00 (UTC); they begin at 2027-07-12T09",
            ),
        ] {
            let closed = hours.closed(Time::parse(now).unwrap()).unwrap_or_default();
            assert_eq!(closed.is_empty(), want.is_empty(), "{now}: {closed}");
            assert!(closed.contains(want), "{now}: {closed}");
        }
    }

    #[test]
    fn what_is_no_hour_or_place_is_refused() {
        assert_eq!(hours(&[], ""), Ok(None));
        for (windows, zone, want) in [
            (vec!["mon"], "", "windows: `mon`: a window is such as"),
            (vec!["mon:09:00-mn:16:00"], "", "`mn:16:00` is no day of the week and time; a window"),
            (vec!["mon:09:00-mon:24:00"], "", "`mon:24:00` is no day"),
            (vec!["mon:09:00-mon:09:00"], "", "it ends when it begins"),
            (
                vec!["mon:09:00-mon:16:00"],
                "Europe/Atlantis",
                "time_zone = \"Europe/Atlantis\" is not",
            ),
            (vec![], "UTC", "time_zone = \"UTC\" is that of `windows`"),
        ] {
            let error = hours(&windows, zone).unwrap_err();
            assert!(error.contains(want) && !error.contains("in UTC"), "{error}");
        }
    }
}
