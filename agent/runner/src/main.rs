//! `warmstep-run`: see the library of the same package.

fn main() {
    warmstep_runner::run(std::env::args_os().skip(1))
}
