//! M8: each row of the table with good and bad arguments, and every call that is in no row.

use std::collections::HashSet;

use warmstep_jail::seccomp::{Allowed, Answer, CALLS, Call, Check, Lists};

use crate::probe::{End, Probe, SIGSYS};

/// Each list with the options that select it.
const LISTS: [(Lists, &[&str]); 4] = [
    (Lists::PREVIEW1, &["--profile", "preview1"]),
    (Lists::WASIX, &["--profile", "wasix"]),
    (Lists::WASIX_NETWORK, &["--profile", "wasix", "--connect", "1"]),
    (Lists::COMPILER, &["--profile", "compiler"]),
];

/// Calls that cannot be made with senseless arguments, and the tests that make them sensibly.
const ELSEWHERE: [&str; 2] = [
    "clone",        // signals::threads_start
    "rt_sigreturn", // signals::a_handler_returns
];

/// `uretprobe` and `uprobe`, which the kernel itself puts into traced programs and therefore asks no
/// filter about (`__secure_computing` in `kernel/seccomp.c`). Made by anybody else they do nothing.
#[cfg(target_arch = "x86_64")]
const UNFILTERED: [u32; 2] = [335, 336];
#[cfg(not(target_arch = "x86_64"))]
const UNFILTERED: [u32; 0] = [];

fn on(list: Lists) -> impl Iterator<Item = &'static Call> {
    CALLS.iter().filter(move |call| call.lists.contains(list))
}

#[test]
fn lists_are_short_and_each_row_has_its_reason() {
    for (list, options) in LISTS {
        let count = on(list).count();
        println!("{options:?}: {count} calls");
        let most = if list == Lists::WASIX_NETWORK { 66 } else { 60 };
        assert!((1..=most).contains(&count), "{options:?} lists {count} calls");
    }
    for call in CALLS {
        assert!(call.reason.len() >= 5, "{} has no reason", call.name);
        assert!(LISTS.iter().any(|(list, _)| call.lists.contains(*list)), "{}: no list", call.name);
    }
}

#[test]
fn no_call_is_on_a_list_twice() {
    for (list, options) in LISTS {
        let numbers: HashSet<u32> = on(list).map(|call| call.number).collect();
        assert_eq!(numbers.len(), on(list).count(), "{options:?}");
    }
    let names: HashSet<(&str, u32)> = CALLS.iter().map(|call| (call.name, call.number)).collect();
    let numbers: HashSet<u32> = CALLS.iter().map(|call| call.number).collect();
    assert_eq!(names.len(), numbers.len(), "two names share a number");
}

#[test]
fn good_arguments_reach_the_kernel() {
    for (list, options) in LISTS {
        for call in on(list).filter(|call| !ELSEWHERE.contains(&call.name)) {
            for arguments in good(call) {
                let end = try_call(options, call, &arguments);
                match call.answer {
                    Answer::Allow => assert!(
                        matches!(end, End::Done(_) | End::Refused(_)),
                        "{options:?}: {}{arguments:?}: {end:?}",
                        call.name
                    ),
                    Answer::Absent => assert_eq!(end, End::Refused(libc::ENOSYS), "{}", call.name),
                }
            }
        }
    }
}

#[test]
fn bad_arguments_kill() {
    let mut tried = 0;
    for (list, options) in LISTS {
        for call in on(list) {
            for arguments in bad(call) {
                let end = try_call(options, call, &arguments);
                assert_eq!(end, SIGSYS, "{options:?}: {}{arguments:?}", call.name);
                tried += 1;
            }
        }
    }
    assert!(tried > 50, "only {tried} bad calls were tried");
}

/// The end of the numbers: 0 to 511, which is more than any kernel has, and x32's on x86_64.
#[test]
fn every_other_call_kills() {
    for (list, options) in LISTS {
        let listed: HashSet<u32> = on(list).map(|call| call.number).collect();
        for (first, last) in [("0", "511"), ("1073741824", "1073742335"), ("-2", "-2")] {
            let end = Probe::new(options).run(&["sweep", first, last]);
            let End::Done(survived) = end else { panic!("{options:?}: {end:?}") };
            let survived: HashSet<u32> =
                survived.lines().map(|number| number.parse().expect("a number")).collect();
            let others: Vec<&u32> = survived.difference(&listed).collect();
            assert!(
                others.iter().all(|other| UNFILTERED.contains(other)),
                "{options:?}: {others:?}"
            );
        }
    }
}

/// Without a jail the same call does not kill: what the tests above see is the filter.
#[test]
fn without_a_jail_nothing_kills() {
    let end = Probe::new(&["--free"]).run(&["call", &libc::SYS_ptrace.to_string(), "-1"]);
    assert!(matches!(end, End::Refused(_)), "{end:?}");
}

fn try_call(options: &[&str], call: &Call, arguments: &[String]) -> End {
    let number = call.number.to_string();
    let mut action = vec!["call", &number];
    action.extend(arguments.iter().map(String::as_str));
    Probe::new(options).run(&action)
}

/// All combinations of what the checks allow; what is not checked is senseless.
fn good(call: &Call) -> Vec<Vec<String>> {
    // These two obey whatever they are told.
    let senseless = if call.name.starts_with("exit") { "0" } else { "-1" };
    let mut combinations = vec![vec![senseless.to_owned(); 6]];
    for check in call.checks {
        combinations = combinations
            .iter()
            .flat_map(|arguments| {
                passing(check).into_iter().map(|value| set(arguments, check, value))
            })
            .collect();
    }
    combinations
}

/// What passes all checks but one.
fn bad(call: &Call) -> Vec<Vec<String>> {
    let Some(good) = good(call).into_iter().next() else { return Vec::new() };
    let fail = |check| failing(check).into_iter().map(|value| set(&good, check, value));
    call.checks.iter().flat_map(fail).collect()
}

fn set(arguments: &[String], check: &Check, value: String) -> Vec<String> {
    let mut arguments = arguments.to_vec();
    arguments[usize::from(check.argument)] = value;
    arguments
}

fn passing(check: &Check) -> Vec<String> {
    match check.allowed {
        Allowed::OwnProcess => vec!["self".into()],
        Allowed::Values(values) => values.iter().map(ToString::to_string).collect(),
    }
}

/// Every single bit, none, all, and the neighbours of what passes, without what passes.
fn failing(check: &Check) -> Vec<String> {
    let bits = (0..32).map(|bit| 1 << bit);
    let candidates = bits.chain([0, u32::MAX, check.mask]);
    let mut failing: Vec<u32> = match check.allowed {
        Allowed::OwnProcess => candidates.chain([1, std::process::id()]).collect(),
        Allowed::Values(values) => {
            let neighbours = values.iter().flat_map(|value| [value ^ 1, value ^ (1 << 16)]);
            candidates
                .chain(neighbours)
                .filter(|value| !values.contains(&(value & check.mask)))
                .collect()
        }
    };
    failing.sort_unstable();
    failing.dedup();
    failing.iter().map(ToString::to_string).collect()
}
