//! What the tables have in common: how times look, in CSV and to a reader.

use crate::engine::time::{SimDuration, SimTime};

/// A time in seconds with nine decimals; empty if it never came.
pub fn time(at: Option<SimTime>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// Seconds as a JSON number. The quotient of two integers is the same on every platform.
pub fn seconds(at: SimTime) -> f64 {
    at.as_nanos() as f64 / 1e9
}

/// A duration in seconds as a JSON number.
pub fn duration_seconds(duration: SimDuration) -> f64 {
    duration.as_nanos() as f64 / 1e9
}

/// A time for a reader: seconds with three decimals, as `12.034 s`.
pub fn clock(at: SimTime) -> String {
    let millis = at.as_millis();
    format!("{}.{:03} s", millis / 1_000, millis % 1_000)
}

/// A duration for a reader: at most three digits and a unit below two minutes, as `2m05s`, `12.3s`, `820ms`, `41us`.
pub fn length(duration: SimDuration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        120_000_000_000.. => {
            let seconds = (nanos + 500_000_000) / 1_000_000_000;
            match seconds {
                7200.. => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
                _ => format!("{}m{:02}s", seconds / 60, seconds % 60),
            }
        }
        _ => {
            let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
            let Some((unit, name)) = units.into_iter().find(|(unit, _)| nanos >= *unit) else {
                return format!("{nanos}ns");
            };
            let hundredths = nanos / (unit / 100);
            match (hundredths / 100, hundredths % 100) {
                (whole, 0) => format!("{whole}{name}"),
                (whole @ 0..10, part) if part % 10 == 0 => format!("{whole}.{}{name}", part / 10),
                (whole @ 0..10, part) => format!("{whole}.{part:02}{name}"),
                (whole @ 10..100, part) if part >= 10 => format!("{whole}.{}{name}", part / 10),
                (whole, _) => format!("{whole}{name}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_unit_that_a_reader_expects() {
        let shown = [
            7,
            41_300,
            820_000_000,
            1_000_000_000,
            12_340_000_000,
            119_900_000_000,
            125_000_000_000,
            7_260_000_000_000,
        ];
        let shown = shown.map(|nanos| length(SimDuration::from_nanos(nanos)));
        assert_eq!(shown, ["7ns", "41.3us", "820ms", "1s", "12.3s", "119s", "2m05s", "2h01m"]);
    }

    #[test]
    fn times_are_exact_in_tables_and_short_on_screen() {
        let at = SimTime::from_nanos(12_034_567_890);
        assert_eq!((time(Some(at)).as_str(), time(None).as_str()), ("12.034567890", ""));
        assert_eq!((clock(at).as_str(), seconds(at)), ("12.034 s", 12.03456789));
    }
}
