//! When a schedule as `*/5 8-18 * * mon-fri` comes next. Meaning, texts and oddities are those of robfig/cron v3, which
//! Kubernetes uses; dates are seconds since 1970.
//!
//! - this file: [`Schedule`] and its next time
//! - `parse`: from text, and what is wrong with it
//! - `zone`: time zones, from the database that is built into the program

mod parse;
mod zone;

use zone::Civil;

pub use zone::Zone;

/// What the original's zero time is, which it returns where no time is found: the first second of the year 1.
pub const NEVER: i64 = -62_135_596_800;

/// The bit that remembers that a field was a star.
const STAR: u64 = 1 << 63;
/// A search ends after so many years.
const YEARS: i64 = 5;

/// A schedule.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// Whenever all fields match.
    Calendar(Box<Calendar>),
    /// Again and again after so many seconds, counted from the last time.
    Every(i64),
}

/// The values that each field takes, one bit each.
#[derive(Clone, Debug)]
pub struct Calendar {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    zone: Zone,
}

impl Schedule {
    /// Reads a schedule of five fields, or one as `@hourly` or `@every 90s`. `TZ=` or `CRON_TZ=` before it names a time
    /// zone; without it the schedule is in UTC.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        parse::schedule(text)
    }

    /// The first time after a date at which it is time; [`NEVER`] if there is none in the next years.
    pub fn next(&self, after: i64) -> i64 {
        match self {
            Schedule::Every(seconds) => after.saturating_add(*seconds),
            Schedule::Calendar(calendar) => calendar.next(after),
        }
    }
}

impl Calendar {
    /// Field by field, the largest first: one that does not match is raised until it does, and all smaller ones begin anew.
    /// Where a field turns over, the search begins again at the top.
    fn next(&self, after: i64) -> i64 {
        let zone = &self.zone;
        // Seconds of a standard schedule are zero.
        let mut time = after + 1;
        let mut raised = false;
        let last_year = zone.civil(time).year + YEARS;
        'turned: loop {
            if zone.civil(time).year > last_year {
                return NEVER;
            }
            while !has(self.month, zone.civil(time).month) {
                let mut civil = zone.civil(time);
                if !std::mem::replace(&mut raised, true) {
                    civil = zone.civil(zone.unix(Civil { day: 1, second_of_day: 0, ..civil }));
                }
                time = zone.unix(Civil { month: civil.month + 1, ..civil });
                if zone.civil(time).month == 1 {
                    continue 'turned;
                }
            }
            while !self.matches_day(zone.civil(time)) {
                let mut civil = zone.civil(time);
                if !std::mem::replace(&mut raised, true) {
                    civil.second_of_day = 0;
                    civil = zone.civil(zone.unix(civil));
                }
                time = self.at_midnight(zone.unix(Civil { day: civil.day + 1, ..civil }));
                if zone.civil(time).day == 1 {
                    continue 'turned;
                }
            }
            while !has(self.hour, zone.civil(time).hour()) {
                if !std::mem::replace(&mut raised, true) {
                    let civil = zone.civil(time);
                    time = zone.unix(Civil { second_of_day: civil.hour() * 3600, ..civil });
                }
                time += 3600;
                if zone.civil(time).hour() == 0 {
                    continue 'turned;
                }
            }
            while !has(self.minute, zone.civil(time).minute()) {
                if !std::mem::replace(&mut raised, true) {
                    time -= time.rem_euclid(60);
                }
                time += 60;
                if zone.civil(time).minute() == 0 {
                    continue 'turned;
                }
            }
            if zone.civil(time).second() == 0 {
                return time;
            }
            while zone.civil(time).second() != 0 {
                raised = true;
                time += 1;
            }
            // The second turned over.
        }
    }

    /// Where midnight does not exist, or exists twice, a day begins at another hour; then by whole hours back to its beginning.
    fn at_midnight(&self, time: i64) -> i64 {
        match self.zone.civil(time).hour() {
            0 => time,
            hour @ 13.. => time + (24 - hour) * 3600,
            hour => time - hour * 3600,
        }
    }

    /// If day of the month and day of the week are both restricted, either will do.
    fn matches_day(&self, civil: Civil) -> bool {
        let (day, weekday) = (has(self.day, civil.day), has(self.weekday, civil.weekday()));
        if (self.day | self.weekday) & STAR != 0 { day && weekday } else { day || weekday }
    }
}

fn has(bits: u64, value: i64) -> bool {
    bits >> value & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::time::{seconds_to_text, text_to_seconds};
    use proptest::prelude::*;

    fn at(text: &str) -> i64 {
        text_to_seconds(text).expect("a date")
    }

    fn check(schedule: &str, after: &str, expected: &[&str]) {
        let parsed = Schedule::parse(schedule).expect(schedule);
        let mut time = at(after);
        for expected in expected {
            time = parsed.next(time);
            assert_eq!(seconds_to_text(time).as_deref(), Some(*expected), "{schedule} after {after}");
        }
    }

    #[test]
    fn schedules_come_when_the_original_says() {
        check("*/15 * * * *", "2012-07-09T14:45:00Z", &["2012-07-09T15:00:00Z", "2012-07-09T15:15:00Z"]);
        check("20-35/15 * * * *", "2012-07-09T15:45:00Z", &["2012-07-09T16:20:00Z", "2012-07-09T16:35:00Z"]);
        check("20-35/15 * * * *", "2012-12-31T23:59:45Z", &["2013-01-01T00:20:00Z"]);
        check("20-35/15 1/2 */2 * *", "2012-07-09T23:35:51Z", &["2012-07-11T01:20:00Z"]);
        check("0 0 */5 Apr,Aug,Oct Mon", "2012-07-09T23:35:00Z", &["2012-08-01T00:00:00Z", "2012-08-06T00:00:00Z"]);
        check("0 0 29 Feb ?", "2012-07-09T23:35:00Z", &["2016-02-29T00:00:00Z"]);
        check(
            "0 0 1,15 * mon",
            "2026-11-20T00:00:00Z",
            &["2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"],
        );
        check("0 0 */2 * mon", "2026-11-20T00:00:00Z", &["2026-11-21T00:00:00Z"]);
        check("@every 90s", "2026-11-20T00:00:01Z", &["2026-11-20T00:01:31Z", "2026-11-20T00:03:01Z"]);
        check("@weekly", "2026-11-20T00:00:00Z", &["2026-11-22T00:00:00Z"]);
        check("@yearly", "2026-11-20T00:00:00Z", &["2027-01-01T00:00:00Z"]);
    }

    #[test]
    fn a_day_that_never_comes_is_not_waited_for() {
        assert_eq!(Schedule::parse("59 23 31 2 *").expect("a schedule").next(at("2026-01-01T00:00:00Z")), NEVER);
        assert_eq!(Schedule::parse("* * * * ,").expect("a schedule").next(0), NEVER);
    }

    #[test]
    fn clocks_that_are_set_skip_or_repeat_what_falls_into_the_gap() {
        // Spring in New York: there is no 02:30. As in the original's tests.
        check("TZ=America/New_York 30 2 11 Mar ?", "2012-03-11T00:00:00-05:00", &["2013-03-11T06:30:00Z"]);
        check("TZ=America/New_York 0 * * * ?", "2012-03-11T01:00:00-05:00", &["2012-03-11T07:00:00Z"]);
        check("CRON_TZ=America/New_York 0 3 * * ?", "2012-03-11T00:00:00-05:00", &["2012-03-11T07:00:00Z"]);
        // Autumn: the hour from one o'clock comes twice.
        check(
            "TZ=America/New_York 30 1 4 Nov ?",
            "2012-11-04T00:00:00-04:00",
            &["2012-11-04T05:30:00Z", "2012-11-04T06:30:00Z"],
        );
        // In Sao Paulo there was no midnight on the fourth of November 2018.
        check("TZ=America/Sao_Paulo 0 9 10 * ?", "2018-10-17T05:00:00-04:00", &["2018-11-10T11:00:00Z"]);
        check("TZ=America/Sao_Paulo 0 9 22 * ?", "2018-02-14T05:00:00-05:00", &["2018-02-22T12:00:00Z"]);
    }

    /// A search through all minutes, by the definition alone.
    fn search(calendar: &Calendar, after: i64, minutes: i64) -> Option<i64> {
        let first = after.div_euclid(60) * 60 + 60;
        (0..minutes).map(|minute| first + minute * 60).find(|time| {
            let civil = calendar.zone.civil(*time);
            has(calendar.month, civil.month)
                && calendar.matches_day(civil)
                && has(calendar.hour, civil.hour())
                && has(calendar.minute, civil.minute())
        })
    }

    fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
        let number = move || (low..=high).prop_map(|number| number.to_string());
        prop_oneof![
            3 => Just("*".to_owned()),
            2 => number(),
            1 => (1..=20u32).prop_map(|step| format!("*/{step}")),
            1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (number(), 1..=9u32).prop_map(|(from, step)| format!("{from}/{step}")),
            1 => (number(), number()).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 200, ..ProptestConfig::default() })]

        #[test]
        fn the_next_time_is_the_one_that_a_search_through_all_minutes_finds(
            fields in (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)),
            after in 1_700_000_000i64..1_900_000_000,
            zone in prop_oneof![Just(""), Just("TZ=Asia/Kathmandu "), Just("TZ=Asia/Tokyo ")],
        ) {
            // Zones whose clocks are never set: where they are, the original has its own opinion, told in the stories above.
            let (minute, hour, day, month, weekday) = fields;
            let schedule = Schedule::parse(&format!("{zone}{minute} {hour} {day} {month} {weekday}")).expect("a schedule");
            let Schedule::Calendar(calendar) = &schedule else { panic!("a calendar") };
            const MINUTES: i64 = 60 * 24 * 70;
            let found = schedule.next(after);
            match search(calendar, after, MINUTES) {
                Some(time) => prop_assert_eq!(found, time),
                None => prop_assert!(found == NEVER || found > after + (MINUTES - 1) * 60),
            }
        }
    }
}
