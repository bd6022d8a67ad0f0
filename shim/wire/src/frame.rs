//! Frames: a fixed header, a CBOR body, and the descriptors that ride on the header's first byte.
//!
//! ```text
//! 0      4        5            6          8            12
//! | "WSTP" | kind | descriptors | reserved | body length | body …
//! ```
//!
//! The length is checked before the body is read, and counts little-endian bytes. A frame's
//! descriptors come with the header, never with the body, so a reader knows what it may keep.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use minicbor::{Decode, Encode};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// The length of a frame's header, in bytes.
pub const HEADER: usize = 12;

/// The longest body, in bytes: a full Linux argument list (`MAX_ARG_STRLEN` aside, 2 MiB) fits.
pub const MAX_BODY: usize = 2 * 1024 * 1024;

/// The most descriptors in one frame: the runner, the module, the plan, and room to grow.
pub const MAX_DESCRIPTORS: usize = 8;

/// What the kernel may hand over at once (`SCM_MAX_FD`): room for all of them, so that excess
/// descriptors are received and closed instead of truncated in silence.
const KERNEL_DESCRIPTORS: usize = 253;

const MAGIC: [u8; 4] = *b"WSTP";

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`crate::message::Step`], from the shim.
    Step = 1,
    /// [`crate::message::Reply`], from the agent.
    Reply = 2,
    /// [`crate::message::Outcome`], from the runner.
    Outcome = 3,
}

/// A frame could not be sent, received or understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended inside a frame.
    #[error("the connection was cut: {0}")]
    Io(#[from] io::Error),
    /// The stream ended between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The header does not begin as a frame does.
    #[error("the other side does not speak {}", crate::PROTOCOL)]
    Magic,
    /// The frame is of a kind that was not expected here.
    #[error("unexpected frame of kind {0}")]
    Kind(u8),
    /// The body is too long.
    #[error("a frame of {0} bytes is longer than the {MAX_BODY} that are allowed")]
    Length(usize),
    /// The descriptors are not as many as the header says, or too many.
    #[error("{received} descriptors came with a frame that announces {announced}")]
    Descriptors {
        /// How many came.
        received: usize,
        /// How many the header says.
        announced: usize,
    },
    /// The body is not what its kind says.
    #[error("malformed frame: {0}")]
    Body(#[from] minicbor::decode::Error),
}

/// A header whose magic, kind, length and descriptor count have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The body's length in bytes, at most [`MAX_BODY`].
    pub length: usize,
    /// How many descriptors come with it, at most [`MAX_DESCRIPTORS`].
    pub descriptors: usize,
}

impl Header {
    /// Checks the bytes of a header.
    ///
    /// # Errors
    ///
    /// When it is not a header, is of another kind than `kind`, or announces too much.
    pub fn parse(bytes: [u8; HEADER], kind: Kind) -> Result<Self, FrameError> {
        let [m0, m1, m2, m3, found, descriptors, _, _, l0, l1, l2, l3] = bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(FrameError::Magic);
        }
        if found != kind as u8 {
            return Err(FrameError::Kind(found));
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_BODY {
            return Err(FrameError::Length(length));
        }
        let descriptors = usize::from(descriptors);
        if descriptors > MAX_DESCRIPTORS {
            return Err(FrameError::Descriptors { received: 0, announced: descriptors });
        }
        Ok(Self { length, descriptors })
    }
}

/// Encodes a value that cannot fail to encode: all our messages, into memory.
pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).unwrap_or_else(|e| unreachable!("encoding into memory: {e}"))
}

/// The bytes of a whole frame.
///
/// # Errors
///
/// When the body or the number of descriptors is over its limit.
pub fn to_bytes<T: Encode<()>>(
    kind: Kind,
    message: &T,
    descriptors: usize,
) -> Result<Vec<u8>, FrameError> {
    let body = encode(message);
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_BODY)
        .ok_or(FrameError::Length(body.len()))?;
    let count = u8::try_from(descriptors)
        .ok()
        .filter(|_| descriptors <= MAX_DESCRIPTORS)
        .ok_or(FrameError::Descriptors { received: descriptors, announced: MAX_DESCRIPTORS })?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[kind as u8, count, 0, 0]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Sends a whole frame on a blocking socket.
///
/// # Errors
///
/// When the frame is over a limit, or the peer is gone.
pub fn send<T: Encode<()>>(
    socket: impl AsFd,
    kind: Kind,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let bytes = to_bytes(kind, message, descriptors.len())?;
    Ok(send_bytes(socket, &bytes, descriptors)?)
}

/// Sends a frame that is bytes already, on a blocking socket.
///
/// # Errors
///
/// As `sendmsg(2)`; `WouldBlock` when the socket has a timeout and it is over.
pub fn send_bytes(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        let riding = if sent == 0 { descriptors } else { &[] };
        match send_some(socket.as_fd(), &bytes[sent..], riding) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => sent += other?,
        }
    }
    Ok(())
}

/// One `sendmsg`: as many bytes as the socket takes, with `descriptors` on the first of them.
///
/// # Errors
///
/// As `sendmsg(2)`; `WouldBlock` on a non-blocking socket that is full.
pub fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives a whole frame of one kind from a blocking socket.
///
/// # Errors
///
/// When the stream ends, or what comes is not such a frame; its descriptors are closed.
pub fn receive<T: for<'b> Decode<'b, ()>>(
    socket: impl AsFd,
    kind: Kind,
) -> Result<(T, Vec<OwnedFd>), FrameError> {
    let mut parser = Parser::new(kind);
    loop {
        match parser.read(socket.as_fd()) {
            Ok(()) => {}
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let Some(frame) = parser.take()? {
            return Ok(frame);
        }
    }
}

/// A frame that is being received, on a blocking or a non-blocking socket.
#[derive(Debug)]
pub struct Parser {
    kind: Kind,
    header: [u8; HEADER],
    parsed: Option<Header>,
    body: Vec<u8>,
    filled: usize,
    descriptors: Vec<OwnedFd>,
}

impl Parser {
    /// Begins a frame of one kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            header: [0; HEADER],
            parsed: None,
            body: Vec::new(),
            filled: 0,
            descriptors: Vec::new(),
        }
    }

    /// Reads once from the socket. Bytes already read stay; after `WouldBlock`, call it again.
    ///
    /// # Errors
    ///
    /// When the stream ends or fails, the header is refused, or descriptors come that were not
    /// announced.
    pub fn read(&mut self, socket: BorrowedFd<'_>) -> Result<(), FrameError> {
        let buffer = match self.parsed {
            None => &mut self.header[self.filled..],
            // The body grows as it arrives: an announced length costs the announcer, not us.
            Some(header) => {
                let end = header.length.min(self.filled + 64 * 1024);
                self.body.resize(end, 0);
                &mut self.body[self.filled..]
            }
        };
        let (received, descriptors) = receive_some(socket, buffer)?;
        if received == 0 {
            let between = self.parsed.is_none() && self.filled == 0;
            return Err(if between {
                FrameError::Closed
            } else {
                FrameError::Io(io::ErrorKind::UnexpectedEof.into())
            });
        }
        self.filled += received;
        self.descriptors.extend(descriptors);
        self.check()
    }

    fn check(&mut self) -> Result<(), FrameError> {
        if self.parsed.is_none() && self.filled == HEADER {
            self.parsed = Some(Header::parse(self.header, self.kind)?);
            self.filled = 0;
        }
        let received = self.descriptors.len();
        match self.parsed {
            Some(header) if received != header.descriptors => {
                Err(FrameError::Descriptors { received, announced: header.descriptors })
            }
            None if received > MAX_DESCRIPTORS => {
                Err(FrameError::Descriptors { received, announced: MAX_DESCRIPTORS })
            }
            _ => Ok(()),
        }
    }

    /// The frame, once it is whole.
    ///
    /// # Errors
    ///
    /// When the body is not what its kind says.
    pub fn take<T: for<'b> Decode<'b, ()>>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, FrameError> {
        match self.parsed {
            Some(header) if header.length == self.filled => {
                let message = minicbor::decode(&self.body[..self.filled])?;
                Ok(Some((message, std::mem::take(&mut self.descriptors))))
            }
            _ => Ok(None),
        }
    }
}

/// One `recvmsg`: some bytes, and whatever descriptors came with them, close-on-exec.
fn receive_some(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(KERNEL_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("descriptors were lost on the way"));
    }
    Ok((message.bytes, descriptors))
}
