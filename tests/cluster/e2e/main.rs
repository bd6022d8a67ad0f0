//! `make e2e`: what is promised for a cluster, on a real one: etcd, the API server, the kubelet,
//! containerd, Argo's controller and its executor, all of them as their authors publish them.

mod examples;
mod figures;
mod life;
mod limits;
mod steps;
mod workflow;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use warmstep_tests::cluster::Cluster;
use warmstep_tests::{install, interrupt};

/// A test: its name and what it does.
type Test = (&'static str, fn(&Cluster) -> Result<()>);

/// What each test took.
type Times = Arc<Mutex<Vec<(&'static str, Duration)>>>;

/// How many workflows run at once, where tests do not disturb each other: most of a workflow's time
/// is Argo's and the kubelet's waiting.
const TOGETHER: usize = 4;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    interrupt::watch()?;
    let times = Times::default();
    if arguments.list {
        let cluster = None;
        return Ok(
            libtest_mimic::run(&arguments, trials(&all(), cluster.as_ref(), &times)).exit_code()
        );
    }
    let before = Instant::now();
    let cluster = Arc::new(Cluster::start()?);
    eprintln!("e2e: the cluster is up after {:.0?}", before.elapsed());
    let before = Instant::now();
    install::everything(&cluster)?;
    eprintln!("e2e: everything is installed after {:.0?}", before.elapsed());

    // Asked for by `make e2e-figures`: measuring is no test, and takes its time.
    if arguments.ignored {
        arguments.ignored = false;
        arguments.test_threads = Some(1);
        return Ok(libtest_mimic::run(&arguments, trials(figures::TESTS, Some(&cluster), &times))
            .exit_code());
    }
    arguments.test_threads.get_or_insert(TOGETHER);
    let together = [examples::TESTS, steps::TESTS, limits::TESTS].concat();
    let together = libtest_mimic::run(&arguments, trials(&together, Some(&cluster), &times));
    // These stop and restart what the others stand on.
    arguments.test_threads = Some(1);
    let alone = libtest_mimic::run(&arguments, trials(life::TESTS, Some(&cluster), &times));
    print(&times);
    Ok(if together.has_failed() || alone.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn all() -> Vec<Test> {
    [examples::TESTS, steps::TESTS, limits::TESTS, life::TESTS].concat()
}

fn trials(tests: &[Test], cluster: Option<&Arc<Cluster>>, times: &Times) -> Vec<Trial> {
    let trial = |&(name, test): &Test| {
        let (cluster, times) = (cluster.cloned(), Arc::clone(times));
        Trial::test(name, move || {
            let Some(cluster) = cluster else { return Ok(()) };
            let before = Instant::now();
            let done = test(&cluster);
            let took = (name, before.elapsed());
            times.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            done.map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    tests.iter().map(trial).collect()
}

fn print(times: &Times) {
    println!("What each test took:");
    for (name, took) in times.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("{:>7.1} s  {name}", took.as_secs_f64());
    }
}
