//! From a pinned module to its bytes.

use std::io::SeekFrom;

use sha2::Digest as _;
use tokio::io::{AsyncSeek, AsyncSeekExt, AsyncWrite, AsyncWriteExt};

use crate::Registries;
use crate::digest::Digest;
use crate::error::{Fault, RegistryError};
use crate::http::Answer;
use crate::resolve::Resolved;
use crate::retry::{Allowed, Operation};
use crate::source::Source;
use crate::wasm;

/// [`Registries::pull`] from one place.
struct Pull<'a, S, P> {
    registries: &'a Registries,
    resolved: &'a Resolved,
    sink: &'a mut S,
    progress: P,
}

impl<S, P> Operation for Pull<'_, S, P>
where
    S: AsyncWrite + AsyncSeek + Unpin + Send,
    P: Fn(u64, u64) + Send + Sync,
{
    type Output = ();

    async fn run(&mut self, source: &Source) -> Result<(), Fault> {
        self.sink.seek(SeekFrom::Start(0)).await.map_err(Fault::Sink)?;
        (self.progress)(0, self.resolved.size());
        let answer = self.registries.layer(source, self.resolved).await?;
        copy(answer, self.resolved, self.sink, &self.progress).await
    }
}

impl Registries {
    /// Writes the module to the beginning of `sink`, and returns once every byte is written,
    /// flushed and verified: its size, its digest, and that it is a core WebAssembly module.
    ///
    /// A place that fails half way is followed by the next, which starts from the beginning; that
    /// is why the sink must be seekable. Exactly [`Resolved::size`] bytes are written in the end,
    /// and never more at any time. After an error the content is worthless.
    ///
    /// `progress` is told the bytes that are done and those there are in all, often; after a
    /// failure it starts again from zero.
    ///
    /// # Errors
    /// One line that names the reference, what is wrong and what to do; [`RegistryError::kind`]
    /// says which exit code that is.
    pub async fn pull(
        &self,
        resolved: &Resolved,
        sink: &mut (impl AsyncWrite + AsyncSeek + Unpin + Send),
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<(), RegistryError> {
        let time = self.config.limits.pull;
        let allowed = Allowed { what: "pulled", limit: "pull", time };
        let pull = Pull { registries: self, resolved, sink, progress };
        self.try_sources(resolved.reference(), allowed, pull).await
    }

    /// Asks for the layer, and checks what can be known before its bytes.
    async fn layer(&self, source: &Source, resolved: &Resolved) -> Result<Answer, Fault> {
        let layer = resolved.module();
        let answer = self.ask(source, &source.blob_url(&layer)?, "*/*").await?;
        match answer.status.as_u16() {
            200 => {}
            404 => return Err(Fault::NoLayer { host: answer.host, layer }),
            _ => return Err(answer.into_fault().await),
        }
        answer.check_identity()?;
        match answer.length() {
            Some(length) if length != resolved.size() => Err(Fault::Length {
                expected: resolved.size(),
                actual: length.to_string(),
                host: answer.host,
            }),
            _ => Ok(answer),
        }
    }
}

async fn copy(
    mut answer: Answer,
    resolved: &Resolved,
    sink: &mut (impl AsyncWrite + Unpin + Send),
    progress: &(impl Fn(u64, u64) + Send + Sync),
) -> Result<(), Fault> {
    let size = resolved.size();
    let mut done = 0;
    let mut header = wasm::Header::default();
    let mut hash = sha2::Sha256::new();
    while let Some(piece) = answer.piece().await? {
        let length = piece.len() as u64;
        if length > size - done {
            return Err(wrong_length(answer, size, "more".to_owned()));
        }
        header.feed(&piece)?;
        hash.update(&piece);
        sink.write_all(&piece).await.map_err(Fault::Sink)?;
        done += length;
        progress(done, size);
    }
    if done < size {
        return Err(wrong_length(answer, size, done.to_string()));
    }
    header.end()?;
    let (expected, actual) = (resolved.module(), Digest::from_bytes(hash.finalize().into()));
    if expected != actual {
        return Err(Fault::Digest { host: answer.host, expected, actual });
    }
    sink.flush().await.map_err(Fault::Sink)
}

fn wrong_length(answer: Answer, expected: u64, actual: String) -> Fault {
    Fault::Length { host: answer.host, expected, actual }
}
