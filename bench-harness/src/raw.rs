//! The one system call that has no safe wrapper here: `getrusage`.

#![expect(unsafe_code, reason = "a call of the C library")]

use std::io;
use std::mem::MaybeUninit;

/// User and system time of this process, all threads, in nanoseconds.
pub(crate) fn process_times_ns() -> io::Result<(u64, u64)> {
    times_ns(libc::RUSAGE_SELF)
}

/// User and system time of the calling thread, in nanoseconds.
pub(crate) fn thread_times_ns() -> io::Result<(u64, u64)> {
    times_ns(libc::RUSAGE_THREAD)
}

fn times_ns(of: libc::c_int) -> io::Result<(u64, u64)> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage writes one whole `rusage` to a pointer to room for one, which this is; a
    // smaller one would be written beyond its end.
    if unsafe { libc::getrusage(of, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and so filled the structure; reading it otherwise would read
    // uninitialised memory.
    let usage = unsafe { usage.assume_init() };
    Ok((nanoseconds(usage.ru_utime), nanoseconds(usage.ru_stime)))
}

fn nanoseconds(time: libc::timeval) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let microseconds = u64::try_from(time.tv_usec).unwrap_or(0);
    seconds * 1_000_000_000 + microseconds * 1000
}
