//! Landlock: the file system ends at the granted directories, the network at the granted ports.

use std::io;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, BitFlags, NetPort, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::{Confinement, Layer, Network};

/// `uapi/linux/landlock.h`; the libc crate does not have it.
const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;

/// The newest version of the interface whose rights are asked for (Linux 6.12; the tests run on it).
/// Rights that an older kernel lacks are left out.
const NEWEST: ABI = ABI::V6;

/// The oldest version that counts as holding (Linux 6.7): files with truncation, and TCP ports. What
/// came later, ioctl on devices and signals, seccomp refuses just as well.
const OLDEST_WHOLE: i64 = 4;

/// The oldest version that is used at all (Linux 5.19). The first one refuses every rename from one
/// directory to another, granted or not: a step that loses files to its jail is worse than a step
/// without this layer.
const OLDEST_USED: i64 = 2;

/// Leaves nothing of the file system and the network but what `confinement` grants.
pub(crate) fn restrict(confinement: &Confinement<'_>) -> Layer {
    let version = match version() {
        Ok(version) => version,
        Err(error) => return Layer::Missing(absence(&error)),
    };
    if version < OLDEST_USED {
        return Layer::Missing(format!(
            "the kernel's version {version} of it would refuse renames between directories"
        ));
    }
    match ruleset(confinement).and_then(RulesetCreated::restrict_self) {
        Ok(_) if version < OLDEST_WHOLE => Layer::Missing(format!(
            "only in part: the kernel's version {version} of it lacks what version {OLDEST_WHOLE} \
             brought"
        )),
        Ok(_) => Layer::Holds,
        Err(error) => Layer::Missing(format!("refused: {error}")),
    }
}

/// The kernel's version of the interface.
fn version() -> io::Result<i64> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call reads no memory and returns a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, LANDLOCK_CREATE_RULESET_VERSION)
    };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version) }
}

/// Why there is no version.
fn absence(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "not in this kernel".into(),
        Some(libc::EOPNOTSUPP) => "not enabled when this kernel booted".into(),
        _ => format!("refused, perhaps by the container's seccomp profile: {error}"),
    }
}

fn ruleset(confinement: &Confinement<'_>) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let read_only = confinement.read_only.iter().map(|granted| (granted, reading()));
    let read_write = confinement.read_write.iter().map(|granted| (granted, writing()));
    for (granted, access) in read_only.chain(read_write) {
        allow(&mut ruleset, PathBeneath::new(granted, access))?;
    }
    let ports = match confinement.network {
        Network::None => &[],
        Network::Connect(ports) => ports,
    };
    ruleset.add_rules(
        ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))),
    )
}

/// Adds a rule, unless it is about a memfd: those have no place in the file system, so that the
/// kernel neither takes a rule for one (`EBADFD`) nor refuses to open it.
fn allow(
    ruleset: &mut RulesetCreated,
    rule: PathBeneath<&BorrowedFd<'_>>,
) -> Result<(), RulesetError> {
    match ruleset.add_rule(rule) {
        Err(RulesetError::AddRules(AddRulesError::Fs(AddRuleError::AddRuleCall {
            source,
            ..
        }))) if source.raw_os_error() == Some(libc::EBADFD) => Ok(()),
        other => other.map(drop),
    }
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// All that a WASI module can ask of a directory; it can neither execute, nor make a device, a pipe
/// or a socket.
fn writing() -> BitFlags<AccessFs> {
    reading()
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}
