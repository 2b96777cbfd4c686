//! Schedules from text (robfig/cron v3, `ParseStandard`; Kubernetes turns its panics into errors).

use super::zone::Zone;
use super::{Calendar, STAR, Schedule};
use crate::api::duration::Duration;
use crate::api::validation::error::go_quote;

/// The values that a field may take, and names for them, the lowest value first.
struct Bounds {
    low: u64,
    high: u64,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { low: 0, high: 59, names: &[] };
const HOURS: Bounds = Bounds { low: 0, high: 23, names: &[] };
const DAYS: Bounds = Bounds { low: 1, high: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

pub(super) fn schedule(text: &str) -> Result<Schedule, String> {
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let (zone, text) = zone(text)?;
    if text.starts_with('@') {
        return descriptor(text, zone);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    };
    Ok(Schedule::Calendar(Box::new(Calendar {
        minute: field(minute, &MINUTES)?,
        hour: field(hour, &HOURS)?,
        day: field(day, &DAYS)?,
        month: field(month, &MONTHS)?,
        weekday: field(weekday, &WEEKDAYS)?,
        zone,
    })))
}

/// The time zone before a schedule, and what comes after it.
fn zone(text: &str) -> Result<(Zone, &str), String> {
    let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) else {
        return Ok((Zone::utc(), text));
    };
    // The original looks for the space without asking whether there is one.
    let panic = "invalid schedule format: runtime error: slice bounds out of range [:-1]";
    let (name, after) = rest.split_once(' ').ok_or(panic)?;
    let zone = Zone::load(name).map_err(|error| format!("provided bad location {name}: {error}"))?;
    Ok((zone, after.trim()))
}

fn descriptor(text: &str, zone: Zone) -> Result<Schedule, String> {
    let all = |bounds: &Bounds| range(bounds.low, bounds.high, 1) | STAR;
    let hourly =
        Calendar { minute: 1, hour: all(&HOURS), day: all(&DAYS), month: all(&MONTHS), weekday: all(&WEEKDAYS), zone };
    let first_day = 1 << DAYS.low;
    let calendar = match text {
        "@yearly" | "@annually" => Calendar { hour: 1, day: first_day, month: 1 << MONTHS.low, ..hourly },
        "@monthly" => Calendar { hour: 1, day: first_day, ..hourly },
        "@weekly" => Calendar { hour: 1, weekday: 1, ..hourly },
        "@daily" | "@midnight" => Calendar { hour: 1, ..hourly },
        "@hourly" => hourly,
        _ => {
            let Some(length) = text.strip_prefix("@every ") else {
                return Err(format!("unrecognized descriptor: {text}"));
            };
            let length = Duration::parse(length);
            let length = length.map_err(|error| format!("failed to parse duration {text}: {error}"))?;
            return Ok(Schedule::Every((length.0 / 1_000_000_000).max(1)));
        }
    };
    Ok(Schedule::Calendar(Box::new(calendar)))
}

/// A list of ranges with commas between them; empty ones say nothing.
fn field(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        bits |= part_of_field(part, bounds)?;
    }
    Ok(bits)
}

/// `*`, `?`, `number`, `number-number`, each with or without `/step`; `number/step` goes to the end.
fn part_of_field(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let slashes: Vec<&str> = text.split('/').collect();
    let limits: Vec<&str> = slashes[0].split('-').collect();
    let (low, mut high, mut star);
    if limits[0] == "*" || limits[0] == "?" {
        (low, high, star) = (bounds.low, bounds.high, STAR);
    } else {
        low = number_or_name(limits[0], bounds)?;
        star = 0;
        high = match limits[..] {
            [_] => low,
            [_, high] => number_or_name(high, bounds)?,
            _ => return Err(format!("too many hyphens: {text}")),
        };
    }
    let mut step = 1;
    match slashes[..] {
        [_] => {}
        [_, given] => {
            step = number(given)?;
            if limits.len() == 1 {
                high = bounds.high;
            }
            if step > 1 {
                star = 0;
            }
        }
        _ => return Err(format!("too many slashes: {text}")),
    }
    if low < bounds.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {text}", bounds.low));
    }
    if high > bounds.high {
        return Err(format!("end of range ({high}) above maximum ({}): {text}", bounds.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(range(low, high, step) | star)
}

fn range(low: u64, high: u64, step: u64) -> u64 {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    (low..=high).step_by(step).fold(0, |bits, value| bits | 1 << value)
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(place) => Ok(bounds.low + place as u64),
        None => number(text),
    }
}

/// A whole number as Go reads it.
fn number(text: &str) -> Result<u64, String> {
    let failed =
        |why: &str| format!("failed to parse int from {text}: strconv.Atoi: parsing {}: {why}", go_quote(text));
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| failed("value out of range"))?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(schedule(text).err().as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_originals_words() {
        check("", "empty spec string");
        check("* * *", "expected exactly 5 fields, found 3: [* * *]");
        check("5-x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax");
        check(
            "99999999999999999999 * * * *",
            "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
        );
        check("1-2-3 * * * *", "too many hyphens: 1-2-3");
        check("*/1/2 * * * *", "too many slashes: */1/2");
        check("* * 0 * *", "beginning of range (0) below minimum (1): 0");
        check("* * * * 7", "end of range (7) above maximum (6): 7");
        check("50-40 * * * *", "beginning of range (50) beyond end of range (40): 50-40");
        check("*/0 * * * *", "step of range should be a positive number: */0");
        check("* * * L *", "failed to parse int from L: strconv.Atoi: parsing \"L\": invalid syntax");
        check("@fortnightly", "unrecognized descriptor: @fortnightly");
        check("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\"");
        check("TZ=Mars/Olympus * * * * *", "provided bad location Mars/Olympus: unknown time zone Mars/Olympus");
        check("TZ=UTC", "invalid schedule format: runtime error: slice bounds out of range [:-1]");
    }

    #[test]
    fn fields_take_names_ranges_and_steps() {
        let bits = |text: &str, bounds: &Bounds| field(text, bounds).expect("a field");
        assert_eq!(bits("5/15", &MINUTES), 1 << 5 | 1 << 20 | 1 << 35 | 1 << 50);
        assert_eq!(bits("MON-Wed,fri", &WEEKDAYS), 0b10_1110);
        assert_eq!(bits("jan-mar/2,12", &MONTHS), 1 << 1 | 1 << 3 | 1 << 12);
        assert_eq!(bits("?", &WEEKDAYS), 0b111_1111 | STAR);
        assert_eq!(bits("*/2", &HOURS) & STAR, 0);
        assert_eq!(bits("*/1", &HOURS) & STAR, STAR);
        // What follows a star is not looked at.
        assert_eq!(bits("*-5", &HOURS), bits("*", &HOURS));
        assert_eq!(bits("+5", &HOURS), 1 << 5);
    }

    #[test]
    fn less_than_a_second_is_a_second() {
        assert!(matches!(schedule("@every 10ms"), Ok(Schedule::Every(1))));
        assert!(matches!(schedule("@every 1h1.9s"), Ok(Schedule::Every(3601))));
    }
}
