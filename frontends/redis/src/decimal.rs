//! [`add()`]: INCRBYFLOAT's arithmetic.
//!
//! Redis adds 80-bit floats and prints 17 decimals, so that 0.1 and 0.2 make 0.3. Numbers below
//! 10^20 are rounded to 17 decimals and added exactly here, as fixed-point numbers; larger ones are
//! 64-bit floats.

/// Decimals of a fixed-point number.
const DECIMALS: i32 = 17;
const ONE: i128 = 10_i128.pow(DECIMALS as u32);
/// Bound of a fixed-point number.
const LIMIT: i128 = 10_i128.pow(20 + DECIMALS as u32);
/// Numbers longer than this are none, as in Redis; any sum is shorter.
const TEXT_BYTES_MAX: usize = 5 << 10;

/// A number given as text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Below 10^20: in units of 10^-17.
    Fixed(i128),
    /// Any other, and infinity.
    Float(f64),
}

impl Number {
    /// Reads a decimal number, possibly with an exponent, or `inf`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        // Checks the form, too.
        let float: f64 = text.parse().ok().filter(|float: &f64| !float.is_nan())?;
        Some(parse_fixed(text).map_or(Self::Float(float), Self::Fixed))
    }

    fn as_float(self) -> f64 {
        match self {
            Self::Fixed(fixed) => fixed as f64 / ONE as f64,
            Self::Float(float) => float,
        }
    }
}

/// The sum as Redis prints it; `None` if it is no finite number.
pub fn add(a: Number, b: Number) -> Option<String> {
    if let (Number::Fixed(a), Number::Fixed(b)) = (a, b) {
        return Some(format_fixed(a + b));
    }
    let sum = a.as_float() + b.as_float();
    sum.is_finite().then(|| trimmed(format!("{sum:.17}")))
}

/// The number, if it is within the bounds of fixed-point numbers; `text` is known to be a number.
fn parse_fixed(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (is_negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, mut fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if exponent <= 0 {
        // One digit beyond those kept decides how the last one is rounded.
        fraction = fraction.get(..=DECIMALS as usize).unwrap_or(fraction);
    }
    let mut magnitude = 0_i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = char::from(digit).to_digit(10)?;
        magnitude = magnitude.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    let shift = DECIMALS.checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let fixed = match 10_i128.checked_pow(shift.unsigned_abs()) {
        Some(scale) if shift >= 0 => magnitude.checked_mul(scale)?,
        Some(scale) => magnitude / scale + i128::from(magnitude % scale >= scale / 2),
        None if shift < 0 || magnitude == 0 => 0,
        None => return None,
    };
    (fixed < LIMIT).then_some(if is_negative { -fixed } else { fixed })
}

fn format_fixed(number: i128) -> String {
    let (sign, magnitude) = if number < 0 { ("-", -number) } else { ("", number) };
    trimmed(format!("{sign}{}.{:017}", magnitude / ONE, magnitude % ONE))
}

/// Without zeros at the end of the decimals.
fn trimmed(text: String) -> String {
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        add(Number::parse(a.as_bytes())?, Number::parse(b.as_bytes())?)
    }

    #[test]
    fn sums_are_those_of_redis() {
        for (a, b, expected) in [
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("10.6", "-5", "5.6"),
            ("3", "-3", "0"),
            ("-1.5", "0.5", "-1"),
            ("-0.25", "0", "-0.25"),
            (".5", "5.", "5.5"),
            ("1e300", "1e300", &format!("{:.0}", 2e300)),
            ("100", "0", "100"),
            ("5005.6", "1e-400", "5005.6"),
            ("0", "3.0000000000000000001", "3"),
            ("-0.33333333333333333333333333333333333333333333", "0", "-0.33333333333333333"),
            ("0.000000000000000005", "0", "0.00000000000000001"),
            ("0.000000000000000004", "0", "0"),
            ("0e999", "1", "1"),
            // What was printed is read again.
            (&format!("{:.0}", 1e300), "0", &format!("{:.0}", 1e300)),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("1e308", "1e308"), None);
        for bad in ["", " 1", "1 ", "nan", "a", "0x", "1e", "--1"] {
            assert_eq!(Number::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_number_or_not(a in "[-+0-9.eE]{0,40}", b in "[-0-9.]{0,40}") {
            let _ = sum(&a, &b);
        }
    }
}
