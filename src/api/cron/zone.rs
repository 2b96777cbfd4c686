//! Time zones as Go's time package treats them, from the database that jiff builds into the program: the machine's own is
//! never looked at, so that a run is the same everywhere.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A time zone.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

/// What clock and calendar show. Values beyond a field's range are carried over, as Go's `time.Date` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub second_of_day: i64,
}

impl Civil {
    pub fn hour(self) -> i64 {
        self.second_of_day / 3600
    }

    pub fn minute(self) -> i64 {
        self.second_of_day / 60 % 60
    }

    pub fn second(self) -> i64 {
        self.second_of_day % 60
    }

    /// Zero for Sunday.
    pub fn weekday(self) -> i64 {
        (days_of(self) + 4).rem_euclid(7)
    }
}

/// Days since 1970 in the proleptic Gregorian calendar, years beginning in March so that the leap day comes last.
fn days_of(civil: Civil) -> i64 {
    let months = civil.year * 12 + civil.month - 3;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + civil.day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_of(seconds: i64) -> Civil {
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carried) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    Civil { year: era * 400 + year_of_era + carried, month, day, second_of_day: seconds.rem_euclid(86_400) }
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// The zone of a name; the error is Go's (`time.LoadLocation`). Upper and lower case matter.
    pub fn load(name: &str) -> Result<Zone, String> {
        if matches!(name, "" | "UTC" | "Local") {
            return Ok(Zone::utc());
        }
        if name.starts_with(['/', '\\']) || name.contains("..") {
            return Err("time: invalid location name".to_owned());
        }
        let found = TimeZoneDatabase::bundled().get(name).ok();
        let found = found.filter(|zone| zone.iana_name() == Some(name));
        found.map(Zone).ok_or_else(|| format!("unknown time zone {name}"))
    }

    /// Seconds east of Greenwich at a time.
    fn offset(&self, unix: i64) -> i64 {
        Timestamp::from_second(unix).map_or(0, |time| self.0.to_offset(time).seconds().into())
    }

    /// What clocks show at a time.
    pub fn civil(&self, unix: i64) -> Civil {
        civil_of(unix + self.offset(unix))
    }

    /// The time at which clocks show this. What they skip or show twice is taken with the offset that is in force there,
    /// read as if it were universal time (Go, `time.Date`).
    pub fn unix(&self, civil: Civil) -> i64 {
        let local = days_of(civil) * 86_400 + civil.second_of_day;
        match self.offset(local) {
            0 => local,
            offset => local - self.offset(local - offset),
        }
    }

    /// A date as RFC 3339 writes it, with the offset of this zone.
    pub fn rfc3339(&self, unix: i64) -> String {
        let civil = self.civil(unix);
        let (year, month, day) = (civil.year, civil.month, civil.day);
        let (hour, minute, second) = (civil.hour(), civil.minute(), civil.second());
        let date = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        match self.offset(unix) / 60 {
            0 => format!("{date}Z"),
            minutes => {
                let sign = if minutes < 0 { '-' } else { '+' };
                format!("{date}{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
        }
    }

    /// A date as Go's `time.RFC1123Z` writes it.
    pub fn rfc1123(&self, unix: i64) -> String {
        const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let civil = self.civil(unix);
        let (weekday, month) = (DAYS[civil.weekday() as usize], MONTHS[civil.month as usize - 1]);
        let minutes = self.offset(unix) / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        format!(
            "{weekday}, {:02} {month} {:04} {:02}:{:02}:{:02} {sign}{:02}{:02}",
            civil.day,
            civil.year,
            civil.hour(),
            civil.minute(),
            civil.second(),
            minutes.abs() / 60,
            minutes.abs() % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zones_are_known_by_their_exact_names() {
        assert!(
            Zone::load("Europe/Berlin").is_ok() && Zone::load("US/Pacific").is_ok() && Zone::load("Etc/UTC").is_ok()
        );
        let error = |name| Zone::load(name).err();
        assert_eq!(error("europe/berlin").as_deref(), Some("unknown time zone europe/berlin"));
        assert_eq!(error("../x").as_deref(), Some("time: invalid location name"));
    }

    #[test]
    fn dates_are_written_with_the_zones_offset() {
        let (zone, utc) = (Zone::load("Asia/Kolkata").expect("a zone"), Zone::utc());
        assert_eq!(zone.rfc3339(1_795_199_536), "2026-11-21T00:02:16+05:30");
        assert_eq!(utc.rfc3339(1_795_199_536), "2026-11-20T18:32:16Z");
        assert_eq!(utc.rfc1123(1_795_199_536), "Fri, 20 Nov 2026 18:32:16 +0000");
    }

    proptest! {
        #[test]
        fn what_clocks_show_leads_back_to_the_time(unix in -60_000_000_000i64..60_000_000_000) {
            let utc = Zone::utc();
            prop_assert_eq!(utc.unix(utc.civil(unix)), unix);
            let zoned = Timestamp::from_second(unix).expect("a date").to_zoned(TimeZone::UTC);
            let civil = utc.civil(unix);
            prop_assert_eq!((civil.year, civil.month, civil.day),
                (zoned.year().into(), zoned.month().into(), zoned.day().into()));
            prop_assert_eq!(civil.weekday(), i64::from(zoned.weekday().to_sunday_zero_offset()));
        }
    }
}
