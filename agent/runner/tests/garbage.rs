//! Arguments that make no sense: every function answers with an error number, and the process lives.

mod support;

use std::process::Stdio;

use support::puppet::{FUNCTIONS, Puppet};
use tempfile::tempdir;

/// Numbers at which checks tend to be wrong, pointers into and around the module's 4 MiB among them.
const EDGES: [u64; 24] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    16,
    63,
    64,
    255,
    4095,
    4096,
    65_536,
    (4 << 20) - 1,
    4 << 20,
    (4 << 20) + 1,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff0,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];

/// How many calls in all.
const CALLS: u32 = 60_000;

/// What ends the process, or reads or writes the very socket that the test speaks on.
fn is_left_out(name: &str) -> bool {
    name == "proc_raise"
}

/// Numbers that look random and are the same each time (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn argument(&mut self, kind: char) -> u64 {
        let edge = EDGES[usize::try_from(self.next() >> 33).expect("31 bits") % EDGES.len()];
        let any = if self.next().is_multiple_of(4) { self.next() } else { edge };
        if kind == 'i' { any & 0xffff_ffff } else { any }
    }
}

#[test]
fn every_function_survives_any_arguments() {
    let directory = tempdir().expect("a directory");
    let mut numbers = Numbers(0xbad5eed);
    let mut puppet = None;
    for call in 0..CALLS {
        if call % 500 == 0 {
            // Descriptors get lost, as `fd_close` and `fd_renumber` work.
            puppet = Some(fresh(directory.path(), &mut numbers));
        }
        let puppet = puppet.as_mut().expect("it was made");
        let place = usize::try_from(numbers.next() >> 33).expect("31 bits") % FUNCTIONS.len();
        let (name, parameters) = FUNCTIONS[place];
        if is_left_out(name) {
            continue;
        }
        let mut arguments: Vec<u64> =
            parameters.chars().map(|kind| numbers.argument(kind)).collect();
        // Descriptor 0 is the test's own line to the puppet.
        let descriptors = if name == "fd_renumber" { 2 } else { 1 };
        if name.starts_with("fd_") || name.starts_with("sock_") {
            arguments.iter_mut().take(descriptors).for_each(|fd| *fd = (*fd).max(1));
        }
        // The disk is not the module's alone.
        if name == "fd_allocate" {
            arguments.iter_mut().skip(1).for_each(|number| *number &= 0xff_ffff);
        }
        // A random subscription may be to any time; none of these is short.
        if name == "poll_oneoff" && arguments[0] < 4 << 20 {
            arguments[0] = 3 << 20;
        }
        let error = puppet.call(name, &arguments);
        assert!(error <= 76, "{name} {arguments:x?} gave {error}");
    }
    puppet.expect("it was made").exit(0).success();
}

/// A puppet with some descriptors, and garbage in the first part of its memory.
fn fresh(directory: &std::path::Path, numbers: &mut Numbers) -> Puppet {
    let mut puppet = Puppet::start(|step| {
        let step = step.directory(directory, "/").grant(directory, "/again", true).timeout(0);
        // Nobody would read what it writes.
        step.stdout(Stdio::null()).stderr(Stdio::null())
    });
    for name in ["a", "b", "c"] {
        puppet.create(name);
    }
    // Above what the puppet itself uses, below where subscriptions are read.
    let garbage: Vec<u8> = (0..60_000).map(|_| numbers.next().to_le_bytes()[3]).collect();
    puppet.poke(4096, &garbage);
    puppet
}
