//! What somebody who has taken over a runner would try (M7).
//!
//! Each does no harm where it succeeds, for the tests also try it without a jail.

use std::ffi::{CStr, c_long};
use std::io;
use std::ptr::null;

use libc::*;

/// Tries an attack by its name: the file that it reads if it begins with `/`, a system call else.
///
/// The parent's id is known from before, for asking for it kills too.
pub(crate) fn attack(name: &str, parent: u32) -> io::Result<()> {
    if name.starts_with('/') {
        return std::fs::read(name).map(drop);
    }
    let parent = c_long::from(parent);
    let none = address(null::<u8>());
    let (call, arguments) = match name {
        "execve" => (SYS_execve, vec![text(c"/bin/true"), none, none]),
        "execveat" => (SYS_execveat, vec![int(AT_FDCWD), text(c"/bin/true"), none, none, 0]),
        "fork" => return fork(),
        "socket-tcp" => (SYS_socket, vec![int(AF_INET), int(SOCK_STREAM), 0]),
        "socket-raw" => (SYS_socket, vec![int(AF_INET), int(SOCK_RAW), 1]),
        "socket-unix" => (SYS_socket, vec![int(AF_UNIX), int(SOCK_STREAM), 0]),
        "socket-netlink" => (SYS_socket, vec![int(AF_NETLINK), int(SOCK_RAW), 0]),
        "socket-packet" => (SYS_socket, vec![int(AF_PACKET), int(SOCK_RAW), 0]),
        "socket-vsock" => (SYS_socket, vec![int(AF_VSOCK), int(SOCK_STREAM), 0]),
        "ptrace" => (SYS_ptrace, vec![0, 0, 0, 0]),
        "bpf" => (SYS_bpf, vec![0, none, 0]),
        "io_uring" => (SYS_io_uring_setup, vec![1, none]),
        "mount" => (SYS_mount, vec![text(c"none"), text(c"/nowhere"), text(c"tmpfs"), 0, none]),
        "open_tree" => (SYS_open_tree, vec![int(AT_FDCWD), text(c"/"), 1]),
        "unshare" => (SYS_unshare, vec![int(CLONE_NEWNS)]),
        "setns" => (SYS_setns, vec![0, 0]),
        "chroot" => (SYS_chroot, vec![text(c"/")]),
        "keyctl" => (SYS_keyctl, vec![0, -3, 0]),
        "perf_event_open" => (SYS_perf_event_open, vec![none, 0, -1, -1, 0]),
        "process_vm_readv" => (SYS_process_vm_readv, vec![parent, none, 0, none, 0, 0]),
        "pidfd_open" => (SYS_pidfd_open, vec![parent, 0]),
        "kill" => (SYS_kill, vec![parent, 0]),
        "kill-all" => (SYS_kill, vec![-1, 0]),
        "tgkill" => (SYS_tgkill, vec![parent, parent, 0]),
        "rt_sigqueueinfo" => (SYS_rt_sigqueueinfo, vec![parent, 0, none]),
        "userfaultfd" => (SYS_userfaultfd, vec![0]),
        "memfd_create" => (SYS_memfd_create, vec![text(c"code"), 0]),
        "setuid" => (SYS_setuid, vec![0]),
        "capset" => (SYS_capset, vec![none, none]),
        "seccomp" => (SYS_seccomp, vec![2, 0, none]),
        "prctl-dumpable" => (SYS_prctl, vec![int(PR_SET_DUMPABLE), 1, 0, 0, 0]),
        "finit_module" => (SYS_finit_module, vec![-1, none, 0]),
        "open_by_handle_at" => (SYS_open_by_handle_at, vec![int(AT_FDCWD), none, 0]),
        "fake-input" => return ioctl(TIOCSTI),
        "write-and-execute" => {
            let both = int(PROT_WRITE | PROT_EXEC);
            (SYS_mmap, vec![0, 4096, both, int(MAP_PRIVATE | MAP_ANONYMOUS), -1, 0])
        }
        "other-architecture" => return other_architecture(),
        "openat-passwd" => (SYS_openat, vec![int(AT_FDCWD), text(c"/etc/passwd"), 0]),
        "openat2-passwd" => return openat2(c"/etc/passwd"),
        "openat2-up" => return openat2(c"../../../../../../etc/passwd"),
        other => return Err(io::Error::other(format!("no such attack: {other}"))),
    };
    raw(call, &arguments)
}

fn int(number: c_int) -> c_long {
    number.into()
}

fn address<T>(pointer: *const T) -> c_long {
    pointer.expose_provenance().cast_signed() as c_long
}

fn text(text: &'static CStr) -> c_long {
    address(text.as_ptr())
}

fn raw(call: c_long, arguments: &[c_long]) -> io::Result<()> {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = six;
    // SAFETY: each attack's pointers are null or point to what the call only reads, and none changes
    // this process's memory.
    let result = unsafe { syscall(call, a, b, c, d, e, f) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn fork() -> io::Result<()> {
    // SAFETY: the child ends at once.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: ends the child.
        0 => unsafe { _exit(0) },
        child => {
            // SAFETY: waits for the child that was just made.
            unsafe { waitpid(child, std::ptr::null_mut(), 0) };
            Ok(())
        }
    }
}

fn ioctl(request: Ioctl) -> io::Result<()> {
    let byte = b'x';
    raw(SYS_ioctl, &[0, request.cast_signed() as c_long, address(&raw const byte)])
}

fn openat2(path: &'static CStr) -> io::Result<()> {
    let mut how = [0_u64; 3];
    raw(
        SYS_openat2,
        &[
            int(AT_FDCWD),
            text(path),
            address(how.as_mut_ptr()),
            size_of_val(&how).cast_signed() as c_long,
        ],
    )
}

/// `getpid` as 32-bit code calls it, which has another number: one that means `mkdir` here.
#[cfg(target_arch = "x86_64")]
fn other_architecture() -> io::Result<()> {
    let result: u64;
    // SAFETY: a call that takes no arguments and changes nothing.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") 20_u64 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if result.cast_signed() < 0 { Err(io::Error::from_raw_os_error(ENOSYS)) } else { Ok(()) }
}

/// `getpid`, as x32 numbers it or where there is no second way.
#[cfg(not(target_arch = "x86_64"))]
fn other_architecture() -> io::Result<()> {
    raw(0x4000_0000 + SYS_getpid, &[])
}
