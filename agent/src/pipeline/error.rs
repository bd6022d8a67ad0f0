//! Why a step's module cannot be lent, and the exit code that it means.

use warmstep_registry::{Kind, RegistryError};
use warmstep_wire::exit;

use crate::cache::CacheError;
use crate::fetch::FetchError;
use crate::flight::Lost;
use crate::lend::LendError;

/// A step's module cannot be lent.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// There is no such module.
    #[error("{0}")]
    NotFound(String),
    /// The module cannot run.
    #[error("{0}")]
    Refused(String),
    /// Warmstep, or something that it needs, failed.
    #[error("{0}")]
    Internal(String),
}

impl StepError {
    /// The exit code of the shim.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotFound(_) => exit::NOT_FOUND,
            Self::Refused(_) => exit::REFUSED,
            Self::Internal(_) => exit::INTERNAL,
        }
    }
}

impl From<RegistryError> for StepError {
    fn from(error: RegistryError) -> Self {
        // Without the reference, which the step's own message names.
        let fault = error.fault().to_string();
        match error.kind() {
            Kind::NotFound => Self::NotFound(fault),
            Kind::Refused => Self::Refused(fault),
            Kind::Temporary { .. } | Kind::Internal => Self::Internal(fault),
        }
    }
}

impl From<CacheError> for StepError {
    fn from(error: CacheError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<LendError> for StepError {
    fn from(error: LendError) -> Self {
        Self::Internal(format!("the compiled module: {error}"))
    }
}

impl From<FetchError> for StepError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Registry(error) => error.into(),
            FetchError::File(reason) => Self::Refused(reason),
            FetchError::NotFound(reason) => Self::NotFound(reason),
            FetchError::Cache(error) => error.into(),
            FetchError::Failed(reason) => Self::Internal(reason),
        }
    }
}

impl From<Lost> for StepError {
    fn from(_: Lost) -> Self {
        Self::Internal("the agent failed over this module: see its log".to_owned())
    }
}
