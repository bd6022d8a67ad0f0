//! `warmstep run`: find the module, gather the grants, hand the step over, become the runner.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use warmstep_wire::check::StepError;
use warmstep_wire::exit;
use warmstep_wire::message::Step;

use crate::argo::{self, ArgoError};
use crate::arguments::Run;
use crate::grants::{GrantError, Grants};
use crate::handover::{Handover, HandoverError};
use crate::launch::{self, LaunchError};
use crate::module::{self, Module, ModuleError};
use crate::progress::Progress;
use crate::signals;
use crate::termination::Failure;
use crate::wait::Patience;

/// Runs a module as this process.
///
/// # Errors
///
/// When there is no module to become; the failure holds the exit code.
pub(crate) fn run(run: Run) -> Result<Infallible, Failure> {
    let inherited = signals::prepare();
    let Module { name, file } = module::find(&run.module)?;
    let lookup = |name: &OsStr| std::env::var_os(name);
    let template = argo::granted(Path::new(argo::TEMPLATE), lookup)?;
    let arguments = match template {
        Some(_) => argo::whole(run.arguments, lookup),
        None => run.arguments,
    };
    let mut grants = template.unwrap_or_default();
    grants.add_flags(&run.directories, &run.environment, &run.network, lookup)?;
    let mut progress = Progress::new(&name, run.quiet);
    let step = step(name, arguments, grants, run.memory, run.timeout);
    step.check()?;

    let handover = Handover::new(&run.socket, &step, file.as_ref())?;
    let mut patience = Patience::new(run.socket.clone(), run.wait, run.quiet);
    let loan = handover.until_lent(&mut patience, &mut progress)?;
    Ok(launch::become_runner(&loan, &inherited)?)
}

fn step(
    module: String,
    arguments: Vec<OsString>,
    grants: Grants,
    memory: Option<u64>,
    timeout: Option<Duration>,
) -> Step {
    Step {
        module,
        arguments: arguments.into_iter().map(|argument| argument.into_vec().into()).collect(),
        environment: grants.environment,
        directories: grants.directories,
        network: grants.network,
        memory,
        timeout: timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        paths: grants.paths,
        usual_memory: grants.usual_memory,
    }
}

impl From<ModuleError> for Failure {
    fn from(error: ModuleError) -> Self {
        Self { code: error.code(), reason: error.to_string() }
    }
}

impl From<ArgoError> for Failure {
    fn from(error: ArgoError) -> Self {
        Self { code: exit::REFUSED, reason: error.to_string() }
    }
}

impl From<GrantError> for Failure {
    fn from(error: GrantError) -> Self {
        Self { code: exit::REFUSED, reason: error.to_string() }
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self { code: exit::REFUSED, reason: error.to_string() }
    }
}

impl From<HandoverError> for Failure {
    fn from(error: HandoverError) -> Self {
        Self { code: error.code(), reason: error.to_string() }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Self { code: exit::INTERNAL, reason: error.to_string() }
    }
}
