//! What the two runners have in common: how a process becomes one step, and how it ends as one.
//!
//! A runner takes over what the agent lent ([`plan`]), confines itself ([`jail`]), loads the module
//! within its limits ([`load`], [`limits`]), and ends with one outcome ([`ending`]) whether the
//! module returns, traps ([`trap`]) or is stopped ([`signals`]). How paths stay beneath a grant is
//! here too ([`beneath`], [`grants`], [`view`], [`narrow`]): both file systems stand on it.

pub mod beneath;
pub mod ending;
pub mod grants;
pub mod jail;
pub mod limits;
pub mod load;
pub mod narrow;
pub mod plan;
pub mod signals;
pub mod trap;
pub mod view;
