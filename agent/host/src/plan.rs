//! What the agent lends: descriptors by number, and the plan in one of them.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use warmstep_wire::plan::{MAX_PLAN, Plan};

/// Room for most plans, in bytes.
const USUAL_PLAN: usize = 16 * 1024;

/// The step cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The arguments are not those of a shim.
    #[error(
        "usage: warmstep-run CONNECTION PLAN MODULE [IMAGE] (numbers of open descriptors; it is started by `warmstep run`)"
    )]
    Usage,
    /// The plan could not be read.
    #[error("cannot read the plan of the step: {0}")]
    Read(#[from] Errno),
    /// The plan is not one.
    #[error("cannot understand the plan of the step: {0}")]
    Decode(#[from] minicbor::decode::Error),
}

/// The descriptors that were lent.
#[derive(Debug)]
pub struct Lent {
    /// The connection to the agent.
    pub connection: OwnedFd,
    /// The plan.
    pub plan: OwnedFd,
    /// The compiled module.
    pub module: OwnedFd,
    /// What was taken out of the Wasm before it was compiled.
    pub image: Option<OwnedFd>,
}

impl Lent {
    /// Takes over the descriptors that the arguments name.
    pub fn from_arguments(
        mut arguments: impl Iterator<Item = OsString>,
    ) -> Result<Self, PlanError> {
        let mut taken = Vec::new();
        let mut next = || arguments.next().map(|number| take(&number, &mut taken));
        let connection = next().ok_or(PlanError::Usage)??;
        let plan = next().ok_or(PlanError::Usage)??;
        let module = next().ok_or(PlanError::Usage)??;
        let image = next().transpose()?;
        if next().is_some() {
            return Err(PlanError::Usage);
        }
        Ok(Self { connection, plan, module, image })
    }
}

/// Takes over one descriptor, if it is open and not yet taken; the first three stay the module's.
fn take(number: &OsString, taken: &mut Vec<i32>) -> Result<OwnedFd, PlanError> {
    let number = number.to_str().and_then(|number| number.parse::<i32>().ok());
    let number = number.filter(|number| *number > 2 && !taken.contains(number));
    let number = number.ok_or(PlanError::Usage)?;
    // SAFETY: the number is not negative, and if it is not open, the call says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|_| PlanError::Usage)?;
    taken.push(number);
    // SAFETY: it is open, it was given to this process to own, and it is taken only once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Reads the plan.
pub fn read(plan: OwnedFd) -> Result<Plan, PlanError> {
    let mut bytes = Vec::with_capacity(USUAL_PLAN);
    // The position is shared with whoever else has the descriptor: it is not relied upon.
    loop {
        let offset = bytes.len() as u64;
        match rustix::io::pread(&plan, rustix::buffer::spare_capacity(&mut bytes), offset) {
            Err(Errno::INTR) => {}
            read => {
                if read? == 0 {
                    break;
                }
            }
        }
        if bytes.len() > MAX_PLAN {
            return Err(PlanError::Read(Errno::FBIG));
        }
        bytes.reserve(USUAL_PLAN);
    }
    Ok(Plan::decode(&bytes)?)
}
