//! The process's own streams, for wasmer-wasix: they are the pod's.

use std::io::{self, SeekFrom};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use virtual_fs::{AsyncRead, AsyncSeek, AsyncWrite, FsError, ReadBuf, Result, VirtualFile};
use warmstep_host::ending;
use wasmer_wasix::wasmer_wasix_types::wasi::Filetype;

/// How much is said to be readable; how much it is shows when it is read.
const SOME: usize = 4096;

/// One of the three streams.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: BorrowedFd<'static>,
    number: u32,
    /// For what has to be waited for; not for files, which cannot be.
    waits: Option<AsyncFd<BorrowedFd<'static>>>,
}

impl Stream {
    /// All three: standard input, output, error.
    pub(crate) fn all(runtime: &Handle) -> [Self; 3] {
        let _guard = runtime.enter();
        let fds = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        let mut number = 0;
        fds.map(|fd| {
            number += 1;
            // SAFETY: it belongs to nobody else in this process, and stays open until its end.
            let waits = unsafe { AsyncFd::register(fd) };
            Self { fd, number: number - 1, waits: waits.ok() }
        })
    }

    /// What wasmer-wasix should take it for: programs ask whether it is a terminal.
    pub(crate) fn kind(&self) -> Filetype {
        match fstat(self.fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::CharacterDevice) if rustix::termios::isatty(self.fd) => {
                Filetype::CharacterDevice
            }
            Ok(FileType::RegularFile) => Filetype::RegularFile,
            Ok(FileType::Socket) => Filetype::SocketStream,
            _ => Filetype::Unknown,
        }
    }

    fn is_ready(&self, events: PollFlags) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(self.fd, events)], Some(&now)) == Ok(1)
    }

    fn poll_ready(&self, cx: &mut Context<'_>, events: PollFlags) -> Poll<io::Result<usize>> {
        loop {
            if self.is_ready(events) {
                return Poll::Ready(Ok(SOME));
            }
            let Some(waits) = &self.waits else { return Poll::Ready(Ok(SOME)) };
            let mut guard = if events == PollFlags::IN {
                ready!(waits.poll_read_ready(cx))?
            } else {
                ready!(waits.poll_write_ready(cx))?
            };
            if !self.is_ready(events) {
                guard.clear_ready();
            }
        }
    }
}

impl VirtualFile for Stream {
    fn last_accessed(&self) -> u64 {
        0
    }

    fn last_modified(&self) -> u64 {
        0
    }

    fn created_time(&self) -> u64 {
        0
    }

    fn size(&self) -> u64 {
        0
    }

    fn set_len(&mut self, _: u64) -> Result<()> {
        Err(FsError::PermissionDenied)
    }

    fn unlink(&mut self) -> Result<()> {
        Err(FsError::PermissionDenied)
    }

    fn get_special_fd(&self) -> Option<u32> {
        Some(self.number)
    }

    fn poll_read_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_ready(cx, PollFlags::IN)
    }

    fn poll_write_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_ready(cx, PollFlags::OUT)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_ready(cx, PollFlags::IN))?;
            match rustix::io::read(self.fd, buffer.initialize_unfilled()) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                read => {
                    let read = read?;
                    buffer.advance(read);
                    ending::count_read(u32::try_from(read).unwrap_or(u32::MAX));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(cx, PollFlags::OUT))?;
            match rustix::io::write(self.fd, bytes) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                written => {
                    let written = written?;
                    ending::count_written(u32::try_from(written).unwrap_or(u32::MAX));
                    return Poll::Ready(Ok(written));
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream of the pod has no place to go back to, as far as the module is concerned.
impl AsyncSeek for Stream {
    fn start_seek(self: Pin<&mut Self>, _: SeekFrom) -> io::Result<()> {
        Err(Errno::SPIPE.into())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(0))
    }
}
