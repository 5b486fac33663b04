//! [`matches()`]: the glob patterns of Redis.

/// Redis takes patterns with more stars than this for matching nothing.
const STARS_MAX: usize = 1000;

/// Whether `text` matches `pattern`: `*`, `?`, `[a-z]`, `[^a-z]`, `\x`.
///
/// Only the last `*` is ever gone back to, so that the work is at most the product of the lengths.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut stars) = (0, 0, 0);
    // After the last star: where the pattern goes on, and up to where the star has eaten.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let after = match pattern.get(p) {
            Some(b'*') => {
                while pattern.get(p + 1) == Some(&b'*') {
                    p += 1;
                }
                p += 1;
                if p == pattern.len() {
                    return true;
                }
                stars += 1;
                if stars > STARS_MAX {
                    return false;
                }
                star = Some((p, t));
                continue;
            }
            Some(_) => match_one(pattern, p, text[t]),
            None => None,
        };
        match (after, star) {
            (Some(after), _) => (p, t) = (after, t + 1),
            (None, Some((after_star, eaten))) => {
                star = Some((after_star, eaten + 1));
                (p, t) = (after_star, eaten + 1);
            }
            (None, None) => return false,
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&byte| byte == b'*')
}

/// Matches one byte against the pattern's element at `p`; where the next element begins.
fn match_one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => match_class(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

/// Matches a byte against the class whose content begins at `p`. An unclosed class ends with the
/// pattern.
fn match_class(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let is_negated = pattern.get(p) == Some(&b'^');
    p += usize::from(is_negated);
    let mut is_member = false;
    loop {
        match pattern.get(p..).unwrap_or_default() {
            [] => break,
            [b'\\', escaped, ..] => {
                is_member |= *escaped == byte;
                p += 2;
            }
            [b']', ..] => {
                p += 1;
                break;
            }
            [low, b'-', high, ..] => {
                is_member |= (*low.min(high)..=*low.max(high)).contains(&byte);
                p += 3;
            }
            [member, ..] => {
                is_member |= *member == byte;
                p += 1;
            }
        }
    }
    (is_member != is_negated).then_some(p)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("h[ae]llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("[a", "a", true),
            ("**x", "abcx", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn more_than_a_thousand_stars_match_nothing() {
        let text = [b'a'; 2000];
        assert!(matches("*?".repeat(1000).as_bytes(), &text));
        assert!(!matches("*?".repeat(1001).as_bytes(), &text));
        assert!(matches("*".repeat(1001).as_bytes(), &text));
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let pattern = "a*".repeat(2000) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 20_000]));
    }
}
