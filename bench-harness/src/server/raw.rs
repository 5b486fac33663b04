//! The system calls that have no safe wrapper: another process' CPU clock, and what a child does
//! before it becomes another program.

#![expect(unsafe_code, reason = "calls of the C library, and code between fork and exec")]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// CPU time of a process so far in nanoseconds: user and system, all its threads, also those that
/// have ended.
pub(super) fn process_cpu_ns(pid: Pid) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: clock_getcpuclockid writes one clockid_t to a pointer to room for one, which this is;
    // a smaller one would be written beyond its end.
    let status = unsafe { libc::clock_getcpuclockid(pid.as_raw_nonzero().get(), &mut clock) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime writes one whole timespec to a pointer to room for one, which this is; a
    // smaller one would be written beyond its end.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and so filled the structure; reading it otherwise would read
    // uninitialised memory.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Ok(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Has the kernel kill the child when the thread that starts it ends, however that comes about.
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let before_exec = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: between fork and exec only what is async-signal-safe may run, since another thread may
    // have held a lock when the process was forked. The closure makes two system calls directly and
    // allocates nothing (an `io::Error` of an errno or a kind is no allocation); a lock of the
    // allocator taken here could hang the child.
    unsafe { command.pre_exec(before_exec) };
}
