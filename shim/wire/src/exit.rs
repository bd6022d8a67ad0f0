//! The exit codes that Warmstep itself chooses, as documented in the README.
//!
//! They follow `timeout(1)`, `env(1)` and the shells. 64 and 65 belong to Argo's emissary and are
//! never used.

/// The step ran longer than its `--timeout`.
pub const TIMEOUT: u8 = 124;
/// There is no agent, or Warmstep itself failed.
pub const INTERNAL: u8 = 125;
/// The step was refused, or its module cannot run.
pub const REFUSED: u8 = 126;
/// The module was not found.
pub const NOT_FOUND: u8 = 127;
/// The module trapped: 128 + SIGABRT, what `abort()` gives a native program.
pub const TRAP: u8 = 134;
