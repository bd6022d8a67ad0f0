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
