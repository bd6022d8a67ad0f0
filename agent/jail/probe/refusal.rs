//! A filter such as a container runtime's, which refuses single calls with an error code.

use std::io;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    sock_filter, sock_fprog,
};

/// Refuses what is named from now on, with the error that runtimes use for it.
pub(crate) fn refuse(names: &[String]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut filter = Vec::new();
    for name in names {
        let (call, first_argument, errno) = match name.as_str() {
            "close_range" => (libc::SYS_close_range, None, libc::ENOSYS),
            "openat" => (libc::SYS_openat, None, libc::EPERM),
            "landlock" => (libc::SYS_landlock_create_ruleset, None, libc::EPERM),
            "landlock-absent" => (libc::SYS_landlock_create_ruleset, None, libc::ENOSYS),
            "landlock-disabled" => (libc::SYS_landlock_create_ruleset, None, libc::EOPNOTSUPP),
            "landlock-restrict" => (libc::SYS_landlock_restrict_self, None, libc::E2BIG),
            "seccomp" => (libc::SYS_seccomp, None, libc::EPERM),
            "prctl-seccomp" => (libc::SYS_prctl, Some(libc::PR_SET_SECCOMP), libc::EPERM),
            "prctl-dumpable" => (libc::SYS_prctl, Some(libc::PR_SET_DUMPABLE), libc::EPERM),
            "no_new_privs" => (libc::SYS_prctl, Some(libc::PR_SET_NO_NEW_PRIVS), libc::EPERM),
            "capset" => (libc::SYS_capset, None, libc::EPERM),
            other => return Err(io::Error::other(format!("nobody refuses {other}"))),
        };
        rule(&mut filter, u32::try_from(call).map_err(io::Error::other)?, first_argument, errno);
    }
    filter.push(statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    // A runtime has the privilege to do without; whoever tests as another user than root has not.
    if !names.iter().any(|name| name == "no_new_privs") {
        rustix::thread::set_no_new_privs(true)?;
    }
    load(&mut filter)
}

/// `offsetof(struct seccomp_data, nr)` and the lower half of `args[0]`.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn rule(filter: &mut Vec<sock_filter>, call: u32, first_argument: Option<i32>, errno: i32) {
    let answer = statement(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errno.unsigned_abs());
    filter.push(statement(BPF_LD | BPF_W | BPF_ABS, NUMBER));
    match first_argument {
        None => filter.extend([unless(call, 1), answer]),
        Some(argument) => filter.extend([
            unless(call, 3),
            statement(BPF_LD | BPF_W | BPF_ABS, FIRST_ARGUMENT),
            unless(argument.unsigned_abs(), 1),
            answer,
        ]),
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("codes have 16 bits"), jt: 0, jf: 0, k }
}

/// Skips some instructions unless what was loaded is this.
fn unless(value: u32, skip: u8) -> sock_filter {
    sock_filter { jf: skip, ..statement(BPF_JMP | BPF_JEQ | BPF_K, value) }
}

fn load(filter: &mut [sock_filter]) -> io::Result<()> {
    let len = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel copies `len` instructions, which are there.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
