//! [`Protected`]: a value that is replaced as a whole and read without a lock.

#![allow(unsafe_code)]

use std::sync::Arc;

use super::{Epochs, Guard};
use crate::primitive::{AtomicPtr, Ordering};

/// A value behind a pointer: readers inside an epoch borrow it, a writer replaces it, and the old
/// one is dropped when its epoch is safe.
pub(crate) struct Protected<T: Send + Sync + 'static> {
    pointer: AtomicPtr<T>,
    epochs: Arc<Epochs>,
}

/// A value on its way to being dropped by another thread.
struct Retired<T>(*mut T);

// SAFETY: the pointer is the only way left to the value once its epoch is safe, and `T: Send`
// lets another thread drop it.
unsafe impl<T: Send> Send for Retired<T> {}

impl<T> Retired<T> {
    /// # Safety
    /// Nobody else may reach the value any more.
    unsafe fn free(self) {
        // SAFETY: the pointer came from `Box::into_raw`, and by the caller's promise nobody else
        // has it. Freed earlier, a reader would look into freed memory.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl<T: Send + Sync + 'static> Protected<T> {
    /// Protects `value` by `epochs`.
    pub(crate) fn new(value: T, epochs: Arc<Epochs>) -> Self {
        Self { pointer: AtomicPtr::new(Box::into_raw(Box::new(value))), epochs }
    }

    /// The present value, for as long as the caller stays inside.
    #[inline]
    pub(crate) fn load<'g>(&'g self, guard: &'g Guard<'_>) -> &'g T {
        assert!(guard.is_of(&self.epochs), "a guard of other epochs protects nothing here");
        // SAFETY: the pointer is always one from `Box::into_raw`. A replaced value is freed only
        // when every thread inside entered after it became unreachable; this guard entered before
        // the load, so what is loaded outlives it, and `'g` ends with the guard. With a guard of
        // other epochs (refused above) the value could be freed while it is borrowed.
        unsafe { &*self.pointer.load(Ordering::Acquire) }
    }

    /// Replaces the value.
    pub(crate) fn replace(&self, value: T) {
        let new = Box::into_raw(Box::new(value));
        let old = Retired(self.pointer.swap(new, Ordering::SeqCst));
        self.epochs.defer(Box::new(move || {
            // SAFETY: the swap took the only shared copy of the pointer, and `defer` runs this
            // when every thread that could have loaded it has left.
            unsafe { old.free() };
        }));
    }
}

impl<T: Send + Sync + 'static> Drop for Protected<T> {
    fn drop(&mut self) {
        let last = Retired(self.pointer.load(Ordering::Relaxed));
        // SAFETY: `&mut self` proves that no borrow from `load` is left.
        unsafe { last.free() };
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_old_value_lives_until_its_readers_leave() {
        let epochs = Arc::new(Epochs::new(2));
        let first = Arc::new(1);
        let protected = Protected::new(Arc::clone(&first), Arc::clone(&epochs));
        let guard = epochs.enter();
        let seen = protected.load(&guard);
        protected.replace(Arc::new(2));
        assert_eq!((**seen, Arc::strong_count(&first)), (1, 2));
        drop(guard);
        assert_eq!(Arc::strong_count(&first), 1);
        assert_eq!(**protected.load(&epochs.enter()), 2);
    }
}
