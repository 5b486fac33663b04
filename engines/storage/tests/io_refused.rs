//! io_uring refused for real, by a seccomp filter such as those of containers.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use common::TempDir;
use ferrokit_engine::{Env, ErrorKind};
use ferrokit_storage::testing::fs_suite::{self, Blocking};
use ferrokit_storage::{Host, IoBackend, UringFs, UringOptions};

/// Lets `io_uring_setup` fail with `EPERM` on this thread and those it starts.
fn refuse_io_uring() {
    const fn statement(code: u32, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
    }
    let mut program = [
        // The number of the call.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_io_uring_setup as u32,
        },
        statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter and its program live until the call has returned, and the kernel copies
    // them; `len` is their number. Otherwise the kernel would read beyond them.
    let answers = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter),
        ]
    };
    assert_eq!(answers, [0, 0], "{}", std::io::Error::last_os_error());
}

#[test]
fn threads_take_over_where_io_uring_is_refused() {
    // The environment of the test run may have decided already.
    if std::env::var("FERROKIT_IO").is_ok_and(|io| io == "uring") {
        eprintln!("skipped: FERROKIT_IO=uring forbids the fallback");
        return;
    }
    let directory = TempDir::new("io-refused");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            refuse_io_uring();
            let error = UringFs::new(&Env::system(), UringOptions::default()).err();
            let error = error.expect("a filter that refuses io_uring");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("use the threads backend"), "{error}");
            let asked_for = Host::system(IoBackend::Uring).err().map(|error| error.kind());
            assert_eq!(asked_for, Some(ErrorKind::Unsupported), "never replaced in silence");
            let host = Host::system(IoBackend::Auto).expect("the fallback");
            assert_eq!(host.fs.backend(), "threads");
            fs_suite::run(&*host.fs, &Blocking, directory.path());
        });
    });
}
