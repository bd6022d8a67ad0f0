//! The functions on sockets. None is ever opened here: they serve what the pod's own standard
//! input, output or error is, as with a socket-activated service, and what is accepted there.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::FileType;
use rustix::net::{Shutdown, SocketFlags};

use super::Wasi;
use super::errno::{Errno, Result};
use super::stdio::transfer;
use super::table::Descriptor;
use super::types::{FdFlags, Rights};
use warmstep_host::ending;

/// witx `riflags`.
const RECV_PEEK: u32 = 1;
const RECV_WAITALL: u32 = 2;
/// witx `roflags::recv_data_truncated`.
const DATA_TRUNCATED: u16 = 1;

fn socket(wasi: &Wasi, fd: u32, rights: Rights) -> Result<&Descriptor> {
    let descriptor = wasi.table.get(fd)?;
    if descriptor.kind != FileType::Socket {
        return Err(Errno::NOTSOCK);
    }
    descriptor.require_asked(rights)?;
    Ok(descriptor)
}

/// `sock_accept`.
pub(crate) fn accept(wasi: &mut Wasi, fd: u32, flags: u32, result: u32) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(result, 4)?;
    let flags = FdFlags::parse(flags).ok_or(Errno::INVAL)?;
    if flags.0 & !FdFlags::NONBLOCK.0 != 0 {
        return Err(Errno::INVAL);
    }
    let descriptor = socket(wasi, fd, Rights::SOCK_ACCEPT)?;
    let mut how = SocketFlags::CLOEXEC;
    how.set(SocketFlags::NONBLOCK, flags.contains(FdFlags::NONBLOCK));
    let accepted = loop {
        match rustix::net::accept_with(descriptor, how) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let number = wasi.table.insert(Descriptor::connection(accepted, flags))?;
    memory.write_u32(result, number)
}

/// `sock_recv`: the number of bytes, and whether a message was cut.
pub(crate) fn recv(
    wasi: &mut Wasi,
    fd: u32,
    (buffers, count): (u32, u32),
    flags: u32,
    (size, out_flags): (u32, u32),
) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(size, 4)?;
    memory.bytes(out_flags, 2)?;
    let mut how = libc::MSG_NOSIGNAL;
    if flags & !(RECV_PEEK | RECV_WAITALL) != 0 {
        return Err(Errno::INVAL);
    }
    if flags & RECV_PEEK != 0 {
        how |= libc::MSG_PEEK;
    }
    if flags & RECV_WAITALL != 0 {
        how |= libc::MSG_WAITALL;
    }
    let descriptor = socket(wasi, fd, Rights::FD_READ)?;
    let mut buffers = memory.buffers(buffers, count)?;
    let number = descriptor.as_fd().as_raw_fd();
    let mut message = message(&mut buffers);
    // SAFETY: `message` names only buffers that were checked to lie in the module's memory.
    let done = transfer(|| unsafe { libc::recvmsg(number, &raw mut message, how) })?;
    ending::count_read(done);
    let cut = message.msg_flags & libc::MSG_TRUNC != 0;
    memory.write_u32(size, done)?;
    memory.write(out_flags, &(if cut { DATA_TRUNCATED } else { 0 }).to_le_bytes())
}

/// `sock_send`.
pub(crate) fn send(
    wasi: &mut Wasi,
    fd: u32,
    (buffers, count): (u32, u32),
    flags: u32,
    size: u32,
) -> Result<()> {
    let mut memory = wasi.memory()?;
    memory.bytes(size, 4)?;
    if flags != 0 {
        return Err(Errno::INVAL);
    }
    let descriptor = socket(wasi, fd, Rights::FD_WRITE)?;
    let mut buffers = memory.buffers(buffers, count)?;
    let number = descriptor.as_fd().as_raw_fd();
    let message = message(&mut buffers);
    // SAFETY: `message` names only buffers that were checked to lie in the module's memory.
    let done =
        transfer(|| unsafe { libc::sendmsg(number, &raw const message, libc::MSG_NOSIGNAL) })?;
    ending::count_written(done);
    memory.write_u32(size, done)
}

/// `sock_shutdown`.
pub(crate) fn shutdown(wasi: &mut Wasi, fd: u32, how: u32) -> Result<()> {
    let how = match how {
        1 => Shutdown::Read,
        2 => Shutdown::Write,
        3 => Shutdown::Both,
        _ => return Err(Errno::INVAL),
    };
    Ok(rustix::net::shutdown(socket(wasi, fd, Rights::SOCK_SHUTDOWN)?, how)?)
}

/// A message without address or control data.
fn message(buffers: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: a `msghdr` of zeros is one that names nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers.as_mut_ptr();
    message.msg_iovlen = buffers.len();
    message
}
