//! Becoming the runner: what this process is in the pod, the module will be.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use rustix::io::FdFlags;

use crate::handover::Loan;
use crate::signals::Inherited;

/// The runner's own name, its first argument.
const RUNNER: &str = "warmstep-run";

/// Why this process could not become the runner.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// A descriptor cannot be kept open.
    #[error("cannot hand the agent's loan to the runner: {0}")]
    Descriptor(#[from] rustix::io::Errno),
    /// The kernel, or the container's profile, forbids to execute what was lent.
    #[error(
        "this container may not execute the runner that the agent lent ({0}): its security profile \
         must allow execveat, and vm.memfd_noexec must be below 2"
    )]
    Forbidden(Errno),
    /// What was lent cannot be executed.
    #[error("the runner that the agent lent cannot be executed: {0}")]
    Exec(Errno),
}

/// Replaces this program by the runner. Arguments are the numbers of the connection and of the lent
/// descriptors; the environment is empty, so that nothing set in the pod steers the runner itself.
///
/// # Errors
///
/// When it cannot; the connection is then still open.
pub(crate) fn become_runner(loan: &Loan, inherited: &Inherited) -> Result<Infallible, LaunchError> {
    let mut arguments = vec![c_string(RUNNER.to_owned())];
    let kept = std::iter::once(loan.connection.as_fd()).chain(loan.rest.iter().map(AsFd::as_fd));
    for descriptor in kept {
        rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        arguments.push(c_string(descriptor.as_raw_fd().to_string()));
    }
    inherited.restore();
    let environment: [CString; 0] = [];
    let result =
        nix::unistd::execveat(&loan.runner, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH);
    match result {
        Ok(never) => match never {},
        Err(error @ (Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) => {
            Err(LaunchError::Forbidden(error))
        }
        Err(error) => Err(LaunchError::Exec(error)),
    }
}

fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|_| unreachable!("names and numbers contain no NUL"))
}
