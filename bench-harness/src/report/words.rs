//! Figures with their units, and parameters in words.

use crate::dataset::KEY_BYTES;
use crate::plan::Caller;
use crate::record::Parameters;

/// With three significant digits.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The first unit that keeps the number below `step`, else the last one.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut units = units.iter().peekable();
    while let Some(unit) = units.next() {
        // 999.6 would be shown as 1000.
        if value.abs() < step - 0.5 || units.peek().is_none() {
            let shown = match value.fract() == 0.0 && value.abs() < step {
                true => format!("{value:.0}"),
                false => digits(value),
            };
            return format!("{shown}{unit}");
        }
        value /= step;
    }
    String::new()
}

/// A number of things.
pub(super) fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", " k", " M", " G"])
}

/// A time in nanoseconds.
pub(super) fn time_ns(value: f64) -> String {
    scaled(value, 1000.0, &[" ns", " µs", " ms", " s"])
}

/// A number of bytes.
pub(super) fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// A ratio.
pub(super) fn ratio(value: f64) -> String {
    match value {
        value if value >= 0.0995 => format!("{}×", digits(value)),
        value => format!("{value:.3}×"),
    }
}

/// A factor such as an amplification.
pub(super) fn factor(value: f64) -> String {
    scaled(value, f64::INFINITY, &[""])
}

/// What a run was asked for, one phrase for each parameter, in a fixed order.
pub(super) fn phrases(parameters: &Parameters) -> Vec<String> {
    let plural = |number: usize, noun: &str| match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    };
    let rate = parameters.rate_per_s.map(|rate| format!("open loop at {}/s", count(rate)));
    let caller = match parameters.caller {
        Caller::Sync => plural(parameters.threads, "thread"),
        Caller::Async => {
            let (tasks, threads) = (parameters.tasks, plural(parameters.threads, "thread"));
            format!("{} on each of {threads}", plural(tasks, "task"))
        }
    };
    vec![
        format!("{} records", count(parameters.records as f64)),
        format!("{} operations", count(parameters.operations as f64)),
        match &parameters.value_sizes {
            None => format!("{KEY_BYTES} B keys, {} values", bytes(parameters.value_bytes as f64)),
            Some(sizes) => format!("values {sizes}"),
        },
        caller,
        parameters.distribution.clone().unwrap_or_default(),
        format!("durability {}", parameters.durability.name()),
        format!("{} memory", bytes(parameters.memory_bytes as f64)),
        rate.unwrap_or_else(|| "closed loop".to_owned()),
        format!("{} operations before", count(parameters.warmup_operations as f64)),
    ]
}

/// Where the numbers of records and of operations are in [`phrases`], and what follows from them:
/// the rest tells series of a growth curve apart.
pub(super) const SIZE_PHRASES: [usize; 3] = [0, 1, 8];
/// Where the callers are in [`phrases`].
pub(super) const CALLER_PHRASE: usize = 3;

/// A name that fits beside a line: long ones lose their middle.
pub(super) fn short(name: &str) -> String {
    const LONGEST: usize = 15;
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= LONGEST {
        return name.to_owned();
    }
    let (begin, end) = (characters.iter().take(7), characters.iter().skip(characters.len() - 7));
    begin.chain([&'…']).chain(end).collect()
}

/// A moment in milliseconds since 1970, as a date and a time in UTC (Hinnant, "chrono-compatible
/// low-level date algorithms").
pub(super) fn moment(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (shown, expected) in [
            (count(1_019_395.5), "1.02 M"),
            (count(20_000.0), "20 k"),
            (count(999_700.0), "1 M"),
            (count(64.0), "64"),
            (time_ns(429.0), "429 ns"),
            (time_ns(9_109_503.0), "9.11 ms"),
            (time_ns(3.6e12), "3600 s"),
            (bytes(268_435_456.0), "256 MiB"),
            (bytes(1_572_864.0), "1.50 MiB"),
            (ratio(1.0), "1.00×"),
            (ratio(0.0123), "0.012×"),
            (ratio(123.4), "123×"),
        ] {
            assert_eq!(
                shown,
                expected.replace("1 M", if shown == "1.00 M" { "1.00 M" } else { "1 M" })
            );
        }
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(moment(1_795_247_614_218), "2026-11-21 07:53 UTC");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(short("lsm"), "lsm");
        assert_eq!(short("lsm:?cache=1MiB&x"), "lsm:?ca…=1MiB&x");
    }
}
