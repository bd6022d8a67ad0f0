//! Copying that hashes on the way, within a bound.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use warmstep_registry::Digest;

/// How much is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// A copy did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The source cannot be read.
    #[error("cannot read it: {0}")]
    Read(io::Error),
    /// The copy cannot be written.
    #[error("cannot write the copy: {0}")]
    Write(io::Error),
    /// There is more than was allowed, in bytes.
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
}

impl From<CopyError> for io::Error {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Read(error) | CopyError::Write(error) => error,
            CopyError::TooLong(_) => Self::new(io::ErrorKind::FileTooLarge, error.to_string()),
        }
    }
}

/// Copies to the end, and says what was copied and how many bytes it is; fails when there are more
/// than `most`.
pub(crate) fn copy_and_hash(
    from: &mut impl Read,
    to: &mut impl Write,
    most: u64,
) -> Result<(Digest, u64), CopyError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut total = 0_u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_bytes(hasher.finalize().into()), total)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        total += read as u64;
        if total > most {
            return Err(CopyError::TooLong(most));
        }
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(CopyError::Write)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_side_failed_and_stops_at_its_bound() {
        let copy = |most| copy_and_hash(&mut &b"12345"[..], &mut Vec::new(), most);
        assert_eq!(copy(5).unwrap(), (Digest::of(b"12345"), 5));
        assert!(matches!(copy(4), Err(CopyError::TooLong(4))));
        let full = copy_and_hash(&mut &b"12345"[..], &mut &mut [0; 3][..], 5);
        assert!(matches!(full, Err(CopyError::Write(_))), "{full:?}");
    }
}
