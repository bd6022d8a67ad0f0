//! Lists that stop growing: one byte of CBOR can stand for an element of fifty bytes in memory, so
//! the length of a frame alone does not bound what decoding it costs.

use minicbor::bytes::ByteVec;
use minicbor::decode::{Decode, Decoder, Error};

use crate::message::{DirectoryGrant, Variable};

/// The most arguments of a step: decoded, their 24 bytes each are no more than the longest frame.
pub const MAX_ARGUMENTS: usize = 64 * 1024;

/// The most environment variables of a step; a pod with a thousand services has some 7,000.
pub const MAX_VARIABLES: usize = 16 * 1024;

/// The most directories of a step: each costs the runner a descriptor (the usual limit is 1,024).
pub const MAX_DIRECTORIES: usize = 512;

/// The most single paths of a step: each may cost the runner a descriptor while it starts.
pub const MAX_PATHS: usize = 256;

/// The most addresses of a step.
pub const MAX_ADDRESSES: usize = 512;

/// Decodes a step's arguments, or a plan's, which begin with the module's own name.
pub(crate) fn arguments<Ctx>(d: &mut Decoder<'_>, ctx: &mut Ctx) -> Result<Vec<ByteVec>, Error> {
    list(d, ctx, MAX_ARGUMENTS + 1, "too many arguments")
}

/// Decodes an environment.
pub(crate) fn environment<Ctx>(d: &mut Decoder<'_>, ctx: &mut Ctx) -> Result<Vec<Variable>, Error> {
    list(d, ctx, MAX_VARIABLES, "too many environment variables")
}

/// Decodes directory grants.
pub(crate) fn directories<Ctx>(
    d: &mut Decoder<'_>,
    ctx: &mut Ctx,
) -> Result<Vec<DirectoryGrant>, Error> {
    list(d, ctx, MAX_DIRECTORIES, "too many directories")
}

/// Decodes network grants.
pub(crate) fn network<Ctx>(d: &mut Decoder<'_>, ctx: &mut Ctx) -> Result<Vec<String>, Error> {
    list(d, ctx, MAX_ADDRESSES, "too many network addresses")
}

/// Single paths: a list that is left out, or null before later fields, where it is empty.
pub(crate) mod paths {
    use minicbor::data::Type;
    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{self, Encode, Encoder, Write};

    use crate::message::PathGrant;

    pub(crate) fn decode<Ctx>(d: &mut Decoder<'_>, ctx: &mut Ctx) -> Result<Vec<PathGrant>, Error> {
        if d.datatype()? == Type::Null {
            d.null()?;
            return Ok(Vec::new());
        }
        super::list(d, ctx, super::MAX_PATHS, "too many paths")
    }

    pub(crate) fn encode<Ctx, W: Write>(
        paths: &Vec<PathGrant>,
        e: &mut Encoder<W>,
        ctx: &mut Ctx,
    ) -> Result<(), encode::Error<W::Error>> {
        paths.encode(e, ctx)
    }

    #[allow(clippy::unnecessary_wraps, reason = "minicbor calls it")]
    pub(crate) fn nil() -> Option<Vec<PathGrant>> {
        Some(Vec::new())
    }

    #[allow(clippy::ptr_arg, reason = "minicbor calls it")]
    pub(crate) fn is_nil(paths: &Vec<PathGrant>) -> bool {
        paths.is_empty()
    }
}

fn list<'b, Ctx, T: Decode<'b, Ctx>>(
    d: &mut Decoder<'b>,
    ctx: &mut Ctx,
    most: usize,
    complaint: &'static str,
) -> Result<Vec<T>, Error> {
    let position = d.position();
    let elements = d.array_iter_with(ctx)?;
    let mut list = Vec::new();
    for element in elements {
        if list.len() == most {
            return Err(Error::message(complaint).at(position));
        }
        list.push(element?);
    }
    Ok(list)
}
