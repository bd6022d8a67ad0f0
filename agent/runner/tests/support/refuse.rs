//! A container whose profile refuses a call.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    sock_filter, sock_fprog,
};

/// The runner, where a call is refused with an error number.
pub(crate) fn refusing(runner: &str, call: libc::c_long, errno: libc::c_int) -> Command {
    let mut command = Command::new(runner);
    // SAFETY: the closure makes only system calls.
    unsafe { command.pre_exec(move || load(&mut refusal(call, errno))) };
    command
}

fn refusal(call: libc::c_long, errno: libc::c_int) -> [sock_filter; 4] {
    let instruction =
        |code: u32, jf, k| sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf, k };
    let call = u32::try_from(call).unwrap_or(0);
    [
        instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 1, call),
        instruction(BPF_RET | BPF_K, 0, SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        instruction(BPF_RET | BPF_K, 0, SECCOMP_RET_ALLOW),
    ]
}

fn load(filter: &mut [sock_filter; 4]) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let program = sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the kernel copies the four instructions.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
