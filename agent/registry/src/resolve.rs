//! From a reference to a pinned module.

use crate::Registries;
use crate::digest::Digest;
use crate::error::{Fault, RegistryError};
use crate::http::Answer;
use crate::manifest::{self, Form, Leads, ManifestError};
use crate::reference::Reference;
use crate::retry::{Allowed, Operation};
use crate::source::Source;

/// What a reference meant when it was asked for. Whatever happens to its tag, this stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    reference: Reference,
    manifest: Digest,
    index: Option<Digest>,
    layer: Digest,
    size: u64,
    form: Form,
}

impl Resolved {
    /// The reference, pinned to the manifest that was found.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The digest of the module's manifest.
    #[must_use]
    pub const fn manifest(&self) -> Digest {
        self.manifest
    }

    /// The digest of the index in which the manifest was found, if the reference led to one.
    #[must_use]
    pub const fn index(&self) -> Option<Digest> {
        self.index
    }

    /// The digest of the module itself: the SHA-256 of its Wasm.
    #[must_use]
    pub const fn module(&self) -> Digest {
        self.layer
    }

    /// The size of the module in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How the module is stored.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }
}

/// A manifest as it came, with the digest it has.
struct Fetched {
    digest: Digest,
    leads: Leads,
}

/// [`Registries::resolve`] at one place.
struct Resolve<'a> {
    registries: &'a Registries,
    reference: &'a Reference,
}

impl Operation for Resolve<'_> {
    type Output = Resolved;

    async fn run(&mut self, source: &Source) -> Result<Resolved, Fault> {
        self.registries.resolve_at(source, self.reference).await
    }
}

impl Registries {
    /// Finds out which module `reference` means now: asks the mirrors and the registry, follows
    /// an index that holds exactly one module, and checks every digest on the way.
    ///
    /// # Errors
    /// One line that names the reference, what is wrong and what to do; [`RegistryError::kind`]
    /// says which exit code that is.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, RegistryError> {
        let time = self.config.limits.resolve;
        let allowed = Allowed { what: "resolved", limit: "resolve", time };
        self.try_sources(reference, allowed, Resolve { registries: self, reference }).await
    }

    async fn resolve_at(&self, source: &Source, reference: &Reference) -> Result<Resolved, Fault> {
        let mut fetched = self.manifest(source, reference.tag(), reference.digest()).await?;
        let mut index = None;
        if let Leads::Manifest { digest, size } = fetched.leads {
            index = Some(fetched.digest);
            self.check_manifest_size(source, size)?;
            fetched = self.manifest(source, None, Some(&digest)).await?;
        }
        let Leads::Module { layer, size, form } = fetched.leads else {
            return Err(ManifestError::NestedIndex.into());
        };
        let limit = self.config.limits.module_bytes;
        if size > limit {
            return Err(Fault::ModuleTooLarge { size, limit });
        }
        let reference = reference.pinned(fetched.digest);
        Ok(Resolved { reference, manifest: fetched.digest, index, layer, size, form })
    }

    /// Fetches the manifest with this digest, or else with this tag.
    async fn manifest(
        &self,
        source: &Source,
        tag: Option<&str>,
        digest: Option<&Digest>,
    ) -> Result<Fetched, Fault> {
        let name = digest.map(ToString::to_string);
        let name = name.as_deref().or(tag).unwrap_or_default();
        let url = source.manifest_url(name)?;
        let mut answer = self.ask(source, &url, manifest::ACCEPT).await?;
        match answer.status.as_u16() {
            200 => {}
            404 => return Err(Fault::NoManifest { host: answer.host }),
            _ => return Err(answer.into_fault().await),
        }
        answer.check_identity()?;
        if let Some(length) = answer.length() {
            self.check_manifest_size(source, length)?;
        }
        let limit = self.config.limits.manifest_bytes;
        let Some(bytes) = answer.read(limit).await? else {
            return Err(Fault::ManifestTooLarge { host: answer.host, limit });
        };
        let actual = Digest::of(&bytes);
        let expected = digest.copied().or_else(|| claimed(&answer)).unwrap_or(actual);
        if expected != actual {
            return Err(Fault::Digest { host: answer.host, expected, actual });
        }
        let leads = manifest::read(&bytes, answer.header("content-type"))?;
        Ok(Fetched { digest: actual, leads })
    }

    fn check_manifest_size(&self, source: &Source, size: u64) -> Result<(), Fault> {
        let limit = self.config.limits.manifest_bytes;
        if size > limit {
            return Err(Fault::ManifestTooLarge { host: source.host.clone(), limit });
        }
        Ok(())
    }
}

/// The digest that the registry says its answer has. It proves nothing, but bytes that contradict
/// it were damaged on their way.
fn claimed(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest")?.parse().ok()
}
