//! Inside Argo Workflows: the step's own template says what the module may touch.
//!
//! Argo's init container writes it beside its executor, into a volume that every container of the
//! step has. Where that file is not, this is not Argo, and nothing is granted here. A template that
//! cannot be read or understood ends the step: it never grants more than it says.

mod arguments;
mod memory;
mod paths;
mod template;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub(crate) use self::arguments::whole;
use self::memory::CGROUP_LIMIT;
use self::paths::{Declared, PathError};
use self::template::{MAIN, Template};
use crate::grants::{self, Grants};

/// Where Argo's init container writes the template (`workflow/executor/emissary`).
pub(crate) const TEMPLATE: &str = "/var/run/argo/template";

/// Names the container that this is (`EnvVarContainerName` of `workflow/common`).
const CONTAINER_NAME: &str = "ARGO_CONTAINER_NAME";

/// The script of a script template (`ExecutorScriptSourcePath`), which is its last argument.
const SCRIPT: &str = "/argo/staging/script";

/// The longest template, in bytes. It comes out of an object of Kubernetes, and etcd takes none that
/// is larger than 1.5 MiB.
const MAX_TEMPLATE: u64 = 2 * 1024 * 1024;

/// Why the template does not say what to grant. All of them end a step as refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgoError {
    /// It is there, but cannot be read.
    #[error(
        "cannot read this step's template at {path}: {error}; Argo's init container writes it for \
         everyone to read"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is larger than any template.
    #[error("this step's template at {0} is longer than {MAX_TEMPLATE} bytes: it is not Argo's")]
    Size(PathBuf),
    /// It is no template.
    #[error("cannot understand this step's template at {path}: {error}; is it written by Argo?")]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// The container is not one of the template's.
    #[error(
        "this step's template has no container {0:?} ({CONTAINER_NAME}): warmstep runs in the \
         containers of container, script and container set templates"
    )]
    Container(String),
    /// A declared path cannot be granted.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// What the template at `path` grants to this container; nothing where there is none.
///
/// # Errors
///
/// When there is one that does not say.
pub(crate) fn granted(
    path: &Path,
    lookup: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Option<Grants>, ArgoError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let template: Template = serde_json::from_slice(&text)
        .map_err(|error| ArgoError::Form { path: path.into(), error })?;
    let limit = memory::of_cgroup(Path::new(CGROUP_LIMIT));
    grants(&template, limit, lookup).map(Some)
}

/// The bytes of a file, or nothing if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, ArgoError> {
    let failed = |error: io::Error| ArgoError::Read { path: path.into(), error };
    // Not blocking: whatever else is there, it must not hold the step.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        opened => File::from(opened.map_err(|error| failed(error.into()))?),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    let mut text = Vec::new();
    file.take(MAX_TEMPLATE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_TEMPLATE {
        return Err(ArgoError::Size(path.into()));
    }
    Ok(Some(text))
}

fn grants(
    template: &Template,
    limit: Option<u64>,
    lookup: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Grants, ArgoError> {
    let name = lookup(CONTAINER_NAME.as_ref()).unwrap_or_else(|| MAIN.into());
    let name = name.to_string_lossy();
    let chosen = template.choose(&name).ok_or_else(|| ArgoError::Container(name.to_string()))?;
    let mut grants = Grants::default();
    for variable in chosen.container.variables() {
        // One that is optional, and comes from where there is nothing, is not set.
        if let Some(value) = lookup(variable.as_ref()) {
            grants::set(&mut grants.environment, variable.into(), value);
        }
    }
    let mut declared = Declared::default();
    if chosen.is_step {
        template.inputs().try_for_each(|path| declared.input(path))?;
        template.outputs().try_for_each(|path| declared.output(path))?;
    }
    if chosen.has_script {
        declared.input(SCRIPT)?;
    }
    grants.paths = declared.into_grants();
    let limits = [chosen.container.memory().and_then(memory::of_quantity), limit];
    grants.usual_memory = limits.into_iter().flatten().min().map(memory::usual);
    Ok(grants)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
