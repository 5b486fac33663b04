//! Expiry times as arguments.

use ferrokit_engine::UnixMillis;

use super::Refusal;
use crate::resp::parse_integer;

/// What an expiry argument counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds from now (EX).
    Seconds,
    /// Milliseconds from now (PX).
    Millis,
    /// Seconds since the epoch (EXAT).
    UnixSeconds,
    /// Milliseconds since the epoch (PXAT).
    UnixMillis,
}

impl Unit {
    /// The unit an option of SET names.
    pub(super) fn from_option(option: &[u8]) -> Option<Self> {
        match option.len() {
            2 if option.eq_ignore_ascii_case(b"ex") => Some(Self::Seconds),
            2 if option.eq_ignore_ascii_case(b"px") => Some(Self::Millis),
            4 if option.eq_ignore_ascii_case(b"exat") => Some(Self::UnixSeconds),
            4 if option.eq_ignore_ascii_case(b"pxat") => Some(Self::UnixMillis),
            _ => None,
        }
    }

    /// The absolute time in milliseconds, possibly before the epoch; `None` beyond 64 bits.
    fn absolute(self, number: i64, now: UnixMillis) -> Option<i64> {
        let millis = match self {
            Self::Seconds | Self::UnixSeconds => number.checked_mul(1000)?,
            Self::Millis | Self::UnixMillis => number,
        };
        match self {
            Self::Seconds | Self::Millis => millis.checked_add(i64::try_from(now.0).ok()?),
            Self::UnixSeconds | Self::UnixMillis => Some(millis),
        }
    }
}

/// The time of an expiry option of SET and its like: it must be positive.
pub(super) fn positive(
    text: &[u8],
    unit: Unit,
    now: UnixMillis,
    command: &str,
) -> Result<UnixMillis, Refusal> {
    let number = parse_integer(text).ok_or(Refusal::NOT_AN_INTEGER)?;
    if number <= 0 {
        return Err(invalid(command));
    }
    unit.absolute(number, now)
        .and_then(|millis| u64::try_from(millis).ok())
        .map(UnixMillis)
        .ok_or_else(|| invalid(command))
}

/// The time of EXPIRE and its like: it may lie in the past, down to the epoch and before.
pub(super) fn any(
    number: i64,
    unit: Unit,
    now: UnixMillis,
    command: &str,
) -> Result<UnixMillis, Refusal> {
    let millis = unit.absolute(number, now).ok_or_else(|| invalid(command))?;
    Ok(UnixMillis(u64::try_from(millis).unwrap_or(0)))
}

fn invalid(command: &str) -> Refusal {
    Refusal::Text(format!("ERR invalid expire time in '{command}' command").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    #[test]
    fn times_out_of_range_are_refused() {
        let at = |text: &str, unit| positive(text.as_bytes(), unit, NOW, "set").ok();
        assert_eq!(at("10", Unit::Seconds), Some(UnixMillis(1_010_000)));
        assert_eq!(at("10", Unit::Millis), Some(UnixMillis(1_000_010)));
        assert_eq!(at("10", Unit::UnixSeconds), Some(UnixMillis(10_000)));
        assert_eq!(at("0", Unit::Seconds), None);
        assert_eq!(at("-1", Unit::UnixMillis), None);
        assert_eq!(at("9223372036854775807", Unit::Seconds), None);
        assert_eq!(at("9223372036854775807", Unit::Millis), None);
        assert!(any(-5, Unit::UnixSeconds, NOW, "expire").is_ok_and(|at| at == UnixMillis(0)));
        assert!(any(i64::MIN, Unit::Seconds, NOW, "expire").is_err());
    }
}
