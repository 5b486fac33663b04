//! Who may use the server: everybody, or who knows the password (`requirepass`), and from other
//! machines nobody while there is none (`protected-mode`).

use std::net::IpAddr;

use crate::settings::Settings;

/// The one user there is.
const DEFAULT_USER: &[u8] = b"default";

/// Whether a password must be given.
#[inline]
pub(crate) fn is_required(settings: &Settings) -> bool {
    !settings.requirepass.is_empty()
}

/// Whether a user is who they say. Without a password, any will do.
pub(crate) fn admits(settings: &Settings, user: &[u8], password: &[u8]) -> bool {
    let expected = settings.requirepass.get();
    let is_right = expected.is_empty() || is_equal(&expected, password);
    is_right && user == DEFAULT_USER
}

/// Whether a connection from there is turned away.
pub(crate) fn is_out_of_bounds(settings: &Settings, peer: IpAddr) -> bool {
    settings.protected_mode.get() && !is_required(settings) && !is_this_machine(peer)
}

/// Whether an address is the machine's own loopback.
pub(crate) fn is_this_machine(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Compares without telling by the time it takes where the first difference is, nor how long the
/// secret is.
fn is_equal(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = usize::from(secret.len() != given.len());
    let endless = secret.iter().cycle();
    for (given, secret) in given.iter().zip(endless) {
        difference |= usize::from(std::hint::black_box(given ^ secret));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_admits_the_default_user_alone() {
        let settings = Settings::default();
        assert!(!is_required(&settings) && admits(&settings, b"default", b"anything"));
        settings.set("requirepass", "abc").unwrap();
        assert!(is_required(&settings) && admits(&settings, b"default", b"abc"));
        for (user, password) in [
            ("default", "ab"),
            ("default", "abcd"),
            ("default", ""),
            ("default", "abcabc"),
            ("x", "abc"),
        ] {
            assert!(!admits(&settings, user.as_bytes(), password.as_bytes()), "{user} {password}");
        }
    }

    #[test]
    fn other_machines_need_a_password_or_an_open_door() {
        let settings = Settings::default();
        let [local, mapped, other] =
            ["127.0.0.9", "::ffff:127.0.0.1", "192.0.2.1"].map(|it| it.parse().unwrap());
        assert!(!is_out_of_bounds(&settings, local) && !is_out_of_bounds(&settings, mapped));
        assert!(is_out_of_bounds(&settings, other));
        settings.set("requirepass", "x").unwrap();
        assert!(!is_out_of_bounds(&settings, other));
        settings.set("requirepass", "").unwrap();
        settings.set("protected-mode", "no").unwrap();
        assert!(!is_out_of_bounds(&settings, other));
    }
}
