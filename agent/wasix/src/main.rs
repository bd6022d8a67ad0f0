//! `warmstep-run-wasix`: see the library of the same package.

#![forbid(unsafe_code)]

fn main() {
    warmstep_wasix::run(std::env::args_os().skip(1))
}
