//! The table of the system calls that a confined process may make, and why.
//!
//! A row names the call, the lists it is on, the reason, and what its arguments must be. A list has
//! at most 60 calls (a WASIX host with a network: 66), each once. Before a row is added: which line of which function makes the call, and is
//! there another way? `tests/jail.rs` makes each call of each list with good and bad arguments, and
//! every call that is not listed.
//!
//! Paths are not looked at, for seccomp cannot follow a pointer: they are Landlock's part.

use std::ffi::c_long;

use libc::*;

use super::{Allowed, Answer, Call, Check, Lists};

const WASIX: Lists = Lists::WASIX.and(Lists::WASIX_NETWORK);
const PREVIEW1: Lists = Lists::PREVIEW1;
const NETWORK: Lists = Lists::WASIX_NETWORK;
const COMPILER: Lists = Lists::COMPILER;
const HOSTS: Lists = PREVIEW1.and(WASIX);
const THREADED: Lists = WASIX.and(COMPILER);
const ALL: Lists = HOSTS.and(COMPILER);

macro_rules! allow {
    ($number:ident, $lists:expr, $reason:literal $(, $check:expr)*) => {
        row(stringify!($number), $number, $lists, Answer::Allow, &[$($check),*], $reason)
    };
}

macro_rules! absent {
    ($number:ident, $lists:expr, $reason:literal) => {
        row(stringify!($number), $number, $lists, Answer::Absent, &[], $reason)
    };
}

/// Every system call that a confined process may make.
#[rustfmt::skip]
pub const CALLS: &[Call] = &[
    // Descriptors.
    allow!(SYS_read, ALL, "stdin, files, pipes and sockets; the plan and the module"),
    allow!(SYS_write, ALL, "stdout, stderr, files, pipes and sockets"),
    allow!(SYS_readv, PREVIEW1, "fd_read with several buffers"),
    allow!(SYS_writev, PREVIEW1, "fd_write with several buffers"),
    allow!(SYS_pread64, HOSTS, "the module's kind; the initial memory's image"),
    allow!(SYS_pwrite64, WASIX.and(COMPILER), "fd_write at a position of its own; the initial memory's image"),
    allow!(SYS_preadv, PREVIEW1, "fd_pread with several buffers"),
    allow!(SYS_pwritev, PREVIEW1, "fd_pwrite with several buffers"),
    allow!(SYS_lseek, ALL, "fd_seek, fd_tell, directory cookies"),
    allow!(SYS_close, ALL, "fd_close, and whatever else was opened"),
    allow!(SYS_fcntl, HOSTS, "fd_fdstat_get and fd_fdstat_set_flags; a duplicate, where cap-std walks",
        one_of(1, &[bits(F_GETFL), bits(F_SETFL), bits(F_DUPFD_CLOEXEC)])),
    allow!(SYS_ioctl, PREVIEW1, "poll_oneoff tells how much can be read; never to fake input (TIOCSTI)",
        one_of(1, &[request(FIONREAD)])),
    allow!(SYS_ioctl, WASIX, "is it a terminal, how large; how much can be read, and waiting or not",
        one_of(1, &[request(TCGETS), request(TIOCGWINSZ), request(FIONREAD), request(FIONBIO)])),
    allow!(SYS_fsync, HOSTS, "fd_sync, which must not lie"),
    allow!(SYS_fdatasync, PREVIEW1, "fd_datasync, likewise"),
    allow!(SYS_ftruncate, ALL, "fd_filestat_set_size; the image's length"),
    allow!(SYS_fallocate, PREVIEW1, "fd_allocate"),
    allow!(SYS_fadvise64, PREVIEW1, "fd_advise: a hint"),
    allow!(SYS_getdents64, HOSTS, "fd_readdir"),

    // Paths, beneath what Landlock leaves.
    allow!(SYS_openat2, HOSTS, "path_open: resolves beneath a grant"),
    allow!(SYS_openat, ALL, "wasmer opens the lent module once more; cap-std where openat2 says EPERM, as for append-only files; glibc's malloc, in a thread, looks into /proc/sys"),
    allow!(SYS_faccessat2, PREVIEW1, "cap-std at `..`, where there is no openat2"),
    allow!(SYS_newfstatat, PREVIEW1.and(COMPILER), "fd_readdir; glibc's fstat"),
    allow!(SYS_statx, ALL, "path_filestat_get, fd_filestat_get"),
    allow!(SYS_fstat, HOSTS, "fd_filestat_get"),
    allow!(SYS_readlinkat, HOSTS, "path_readlink"),
    allow!(SYS_mkdirat, HOSTS, "path_create_directory"),
    allow!(SYS_unlinkat, HOSTS, "path_unlink_file, path_remove_directory"),
    allow!(SYS_linkat, HOSTS, "path_link"),
    allow!(SYS_symlinkat, HOSTS, "path_symlink"),
    allow!(SYS_renameat, HOSTS, "path_rename"),
    allow!(SYS_utimensat, HOSTS, "path_filestat_set_times, fd_filestat_set_times"),

    // Waiting and time. The clocks are calls only where the vDSO cannot tell the time.
    allow!(SYS_ppoll, HOSTS, "poll_oneoff over descriptors; whether a stream is ready"),
    #[cfg(target_arch = "x86_64")]
    allow!(SYS_poll, WASIX, "whether the kernel has random numbers; whether a connection is there"),
    allow!(SYS_clock_gettime, ALL, "clock_time_get"),
    allow!(SYS_clock_getres, PREVIEW1, "clock_res_get"),
    allow!(SYS_clock_nanosleep, COMPILER, "looks at the processor time that it has taken now and then"),
    allow!(SYS_restart_syscall, THREADED, "the kernel makes it for who was stopped and continued while it waited for a time"),
    allow!(SYS_setitimer, HOSTS, "--timeout, without a thread"),

    // The event loop of tokio.
    allow!(SYS_epoll_create1, WASIX, "tokio's event loop"),
    allow!(SYS_epoll_ctl, WASIX, "tokio's event loop"),
    #[cfg(target_arch = "x86_64")]
    allow!(SYS_epoll_wait, WASIX, "tokio's event loop"),
    #[cfg(target_arch = "aarch64")]
    allow!(SYS_epoll_pwait, WASIX, "tokio's event loop"),
    allow!(SYS_eventfd2, WASIX, "wakes tokio's event loop"),

    // Sockets that the process was started with; the outcome goes over one.
    allow!(SYS_accept4, PREVIEW1, "sock_accept"),
    allow!(SYS_recvmsg, PREVIEW1, "sock_recv"),
    allow!(SYS_sendmsg, PREVIEW1, "sock_send"),
    allow!(SYS_sendto, HOSTS, "the outcome"),
    allow!(SYS_shutdown, HOSTS, "sock_shutdown"),

    // Sockets of its own: of the internet alone, and only where a network is granted.
    allow!(SYS_socket, NETWORK, "TCP and UDP; no raw packets, no unix sockets",
        one_of(0, &[bits(AF_INET), bits(AF_INET6)]), masked(1, !SOCKET_FLAGS, &[bits(SOCK_STREAM), bits(SOCK_DGRAM)])),
    allow!(SYS_connect, NETWORK, "sock_connect, to the ports that Landlock leaves"),
    allow!(SYS_bind, NETWORK, "a name server is asked from a port of its own"),
    allow!(SYS_getsockopt, NETWORK, "whether a connection was made"),
    allow!(SYS_setsockopt, NETWORK, "TCP_NODELAY, timeouts"),
    allow!(SYS_recvfrom, NETWORK, "sock_recv"),
    allow!(SYS_getsockname, NETWORK, "sock_addr_local"),
    allow!(SYS_getpeername, NETWORK, "sock_addr_peer"),

    // Memory.
    allow!(SYS_mmap, ALL, "linear memories, code, the allocator; never both writable and executable",
        masked(2, bits(PROT_WRITE | PROT_EXEC), WRITE_OR_EXECUTE)),
    allow!(SYS_mprotect, ALL, "memory.grow, publishing code; never both writable and executable",
        masked(2, bits(PROT_WRITE | PROT_EXEC), WRITE_OR_EXECUTE)),
    allow!(SYS_munmap, ALL, "the allocator, linear memories"),
    allow!(SYS_mremap, ALL, "the allocator"),
    allow!(SYS_madvise, ALL, "the allocator gives memory back"),
    allow!(SYS_brk, ALL, "the allocator"),

    // Signals, to itself alone.
    allow!(SYS_rt_sigaction, ALL, "traps, --timeout"),
    allow!(SYS_rt_sigprocmask, ALL, "abort, a thread's start"),
    allow!(SYS_rt_sigreturn, ALL, "the end of every signal handler"),
    allow!(SYS_sigaltstack, ALL, "traps on a full stack"),
    allow!(SYS_tgkill, ALL, "abort", own_process(0)),
    allow!(SYS_getpid, ALL, "abort"),
    allow!(SYS_gettid, ALL, "abort"),

    // The process.
    allow!(SYS_exit_group, ALL, "proc_exit"),
    allow!(SYS_getrandom, ALL, "random_get, the keys of hash maps"),
    allow!(SYS_futex, PREVIEW1, "the unwinder's first use, at a trap, ends a pthread_once; one thread never waits",
        masked(1, !FUTEX_FLAGS, &[bits(FUTEX_WAKE)])),
    allow!(SYS_futex, THREADED, "locks and conditions, without what is only for priorities",
        masked(1, !FUTEX_FLAGS, &[bits(FUTEX_WAIT), bits(FUTEX_WAKE), bits(FUTEX_WAIT_BITSET)])),
    allow!(SYS_sched_yield, ALL, "sched_yield, locks"),
    allow!(SYS_getrusage, HOSTS, "the outcome's processor time and memory"),

    // Threads, which share everything with the process; never a process of its own.
    allow!(SYS_clone, THREADED, "a thread, made as glibc makes it", one_of(0, &[A_THREAD])),
    absent!(SYS_clone3, THREADED, "its flags are behind a pointer: glibc falls back to clone"),
    allow!(SYS_exit, THREADED, "a thread's end"),
    allow!(SYS_set_robust_list, THREADED, "a thread's start"),
    allow!(SYS_rseq, THREADED, "a thread's start"),
    allow!(SYS_prctl, THREADED, "a thread's name", one_of(0, &[bits(PR_SET_NAME)])),
    allow!(SYS_sched_getaffinity, THREADED, "how many threads there should be"),
];

const WRITE_OR_EXECUTE: &[u32] = &[0, bits(PROT_WRITE), bits(PROT_EXEC)];

/// What `socket` takes beside the type.
const SOCKET_FLAGS: u32 = bits(SOCK_CLOEXEC | SOCK_NONBLOCK);

/// What a futex's operation takes beside its kind.
const FUTEX_FLAGS: u32 = bits(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);

/// What `pthread_create` passes, in every glibc since 2.3.
const A_THREAD: u32 = bits(
    CLONE_VM
        | CLONE_FS
        | CLONE_FILES
        | CLONE_SIGHAND
        | CLONE_THREAD
        | CLONE_SYSVSEM
        | CLONE_SETTLS
        | CLONE_PARENT_SETTID
        | CLONE_CHILD_CLEARTID,
);

const fn row(
    symbol: &'static str,
    number: c_long,
    lists: Lists,
    answer: Answer,
    checks: &'static [Check],
    reason: &'static str,
) -> Call {
    let (prefix, name) = symbol.split_at("SYS_".len());
    assert!(prefix.len() == "SYS_".len() && !reason.is_empty());
    Call { name, number: low32(number.cast_unsigned()), lists, answer, checks, reason }
}

const fn one_of(argument: u8, values: &'static [u32]) -> Check {
    masked(argument, u32::MAX, values)
}

const fn masked(argument: u8, mask: u32, values: &'static [u32]) -> Check {
    Check { argument, mask, allowed: Allowed::Values(values) }
}

const fn own_process(argument: u8) -> Check {
    Check { argument, mask: u32::MAX, allowed: Allowed::OwnProcess }
}

const fn bits(flags: c_int) -> u32 {
    flags.cast_unsigned()
}

const fn request(number: Ioctl) -> u32 {
    low32(number)
}

#[expect(clippy::cast_possible_truncation, reason = "checked, and `try_from` is not const")]
const fn low32(number: u64) -> u32 {
    assert!(number <= 0xFFFF_FFFF);
    number as u32
}
