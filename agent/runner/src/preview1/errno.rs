//! Error numbers of WASI preview 1, and how Linux's map to them.
//!
//! The numbers are those of `wasi_snapshot_preview1.witx` and `wasi_unstable.witx`, which agree.

use rustix::io::Errno as Linux;

/// What a preview 1 function returns when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(u16);

/// What a preview 1 function gives.
pub(crate) type Result<T> = std::result::Result<T, Errno>;

impl Errno {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const AGAIN: Self = Self(6);
    pub(crate) const BADF: Self = Self(8);
    pub(crate) const EXIST: Self = Self(20);
    pub(crate) const FAULT: Self = Self(21);
    pub(crate) const INVAL: Self = Self(28);
    pub(crate) const IO: Self = Self(29);
    pub(crate) const ISDIR: Self = Self(31);
    pub(crate) const NAMETOOLONG: Self = Self(37);
    pub(crate) const NOTDIR: Self = Self(54);
    pub(crate) const NOTSOCK: Self = Self(57);
    pub(crate) const NOTSUP: Self = Self(58);
    pub(crate) const NXIO: Self = Self(60);
    pub(crate) const OVERFLOW: Self = Self(61);
    pub(crate) const PERM: Self = Self(63);
    pub(crate) const ROFS: Self = Self(69);
    pub(crate) const NOTCAPABLE: Self = Self(76);

    /// The number the module sees.
    pub(crate) fn code(self) -> u16 {
        self.0
    }
}

/// Linux's error numbers beside those of WASI. What is not here is an `EIO`.
const TABLE: &[(Linux, u16)] = &[
    (Linux::TOOBIG, 1),
    (Linux::ACCESS, 2),
    (Linux::ADDRINUSE, 3),
    (Linux::ADDRNOTAVAIL, 4),
    (Linux::AFNOSUPPORT, 5),
    (Linux::AGAIN, 6),
    (Linux::ALREADY, 7),
    (Linux::BADF, 8),
    (Linux::BADMSG, 9),
    (Linux::BUSY, 10),
    (Linux::CANCELED, 11),
    (Linux::CHILD, 12),
    (Linux::CONNABORTED, 13),
    (Linux::CONNREFUSED, 14),
    (Linux::CONNRESET, 15),
    (Linux::DEADLK, 16),
    (Linux::DESTADDRREQ, 17),
    (Linux::DOM, 18),
    (Linux::DQUOT, 19),
    (Linux::EXIST, 20),
    (Linux::FAULT, 21),
    (Linux::FBIG, 22),
    (Linux::HOSTUNREACH, 23),
    (Linux::IDRM, 24),
    (Linux::ILSEQ, 25),
    (Linux::INPROGRESS, 26),
    (Linux::INTR, 27),
    (Linux::INVAL, 28),
    (Linux::IO, 29),
    (Linux::ISCONN, 30),
    (Linux::ISDIR, 31),
    (Linux::LOOP, 32),
    (Linux::MFILE, 33),
    (Linux::MLINK, 34),
    (Linux::MSGSIZE, 35),
    (Linux::MULTIHOP, 36),
    (Linux::NAMETOOLONG, 37),
    (Linux::NETDOWN, 38),
    (Linux::NETRESET, 39),
    (Linux::NETUNREACH, 40),
    (Linux::NFILE, 41),
    (Linux::NOBUFS, 42),
    (Linux::NODEV, 43),
    (Linux::NOENT, 44),
    (Linux::NOEXEC, 45),
    (Linux::NOLCK, 46),
    (Linux::NOLINK, 47),
    (Linux::NOMEM, 48),
    (Linux::NOMSG, 49),
    (Linux::NOPROTOOPT, 50),
    (Linux::NOSPC, 51),
    (Linux::NOSYS, 52),
    (Linux::NOTCONN, 53),
    (Linux::NOTDIR, 54),
    (Linux::NOTEMPTY, 55),
    (Linux::NOTRECOVERABLE, 56),
    (Linux::NOTSOCK, 57),
    (Linux::OPNOTSUPP, 58),
    (Linux::NOTTY, 59),
    (Linux::NXIO, 60),
    (Linux::OVERFLOW, 61),
    (Linux::OWNERDEAD, 62),
    (Linux::PERM, 63),
    (Linux::PIPE, 64),
    (Linux::PROTO, 65),
    (Linux::PROTONOSUPPORT, 66),
    (Linux::PROTOTYPE, 67),
    (Linux::RANGE, 68),
    (Linux::ROFS, 69),
    (Linux::SPIPE, 70),
    (Linux::SRCH, 71),
    (Linux::STALE, 72),
    (Linux::TIMEDOUT, 73),
    (Linux::TXTBSY, 74),
    (Linux::XDEV, 75),
];

impl From<Linux> for Errno {
    fn from(error: Linux) -> Self {
        TABLE.iter().find(|(linux, _)| *linux == error).map_or(Self::IO, |(_, code)| Self(*code))
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Linux::from_io_error(&error).map_or(Self::IO, Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_number_of_the_specification_once() {
        let mut codes: Vec<u16> = TABLE.iter().map(|(_, code)| *code).collect();
        codes.sort_unstable();
        assert_eq!(codes, (1..=75).collect::<Vec<u16>>());
    }

    #[test]
    fn the_names_agree_with_the_table() {
        assert_eq!(Errno::from(Linux::EXIST), Errno::EXIST);
        assert_eq!(Errno::from(Linux::ISDIR), Errno::ISDIR);
        assert_eq!(Errno::from(Linux::NOTSOCK), Errno::NOTSOCK);
        assert_eq!(Errno::from(Linux::ROFS), Errno::ROFS);
        assert_eq!(Errno::from(Linux::from_raw_os_error(4000)), Errno::IO);
    }
}
