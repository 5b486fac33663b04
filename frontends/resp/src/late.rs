//! [`Late`]: what is there once the engine is open, and until then something in its place.

use std::ops::Deref;
use std::sync::OnceLock;

/// A value that comes late.
pub(crate) struct Late<T> {
    in_its_place: T,
    value: OnceLock<T>,
}

impl<T> Late<T> {
    pub(crate) const fn new(in_its_place: T) -> Self {
        Self { in_its_place, value: OnceLock::new() }
    }

    /// It is there from now on. Only the first one counts.
    pub(crate) fn set(&self, value: T) {
        let _ = self.value.set(value);
    }
}

impl<T> Deref for Late<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value.get().unwrap_or(&self.in_its_place)
    }
}
