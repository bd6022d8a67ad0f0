//! O7: steps and faults for a while, a long one with `make soak`; descriptors and memory stay flat.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use warmstep_tests::Agent;

use crate::{guests, raw};

/// How long it goes on in seconds, unless `WARMSTEP_SOAK_SECONDS` says otherwise.
const SECONDS: u64 = 10;

/// What an agent of this size may gain while it warms up, in bytes: allocators keep some.
const SLACK: u64 = 8 * 1024 * 1024;

#[test]
fn steps_and_faults_for_a_while() {
    let seconds = std::env::var("WARMSTEP_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let mut agent = Agent::builder().start().unwrap();
    let scratch = agent.scratch().to_owned();
    let write = |name: &str, wasm: Vec<u8>| {
        let path = scratch.join(name);
        fs::write(&path, wasm).unwrap();
        path
    };
    let good = write("good.wasm", guests::says("good"));
    let trap = write("trap.wasm", guests::traps());
    let bad = write("bad.wasm", b"\0asm\x01\0\0\0\xff".to_vec());
    let sleeper = write("sleeper.wasm", guests::sleeper(60_000, 0));
    for module in [&good, &trap, &bad] {
        agent.step(module).run().unwrap();
    }
    let (mut round, mut before) = (0_u32, None);
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
    while Instant::now() < end {
        assert_eq!(agent.step(&good).run().unwrap().out(), "good\n");
        assert_eq!(agent.step(&trap).run().unwrap().code, 134);
        assert_eq!(agent.step(&bad).run().unwrap().code, 126);
        let killed = agent.step(&sleeper).start().unwrap();
        killed.signal(Signal::KILL).unwrap();
        killed.wait().unwrap();
        let _ = raw::connect(&agent.socket()).write_all(&raw::REQUEST[..40]);
        // A module that is new each time, and goes again.
        let fresh = write("fresh.wasm", guests::says(&format!("round {round}")));
        assert_eq!(agent.step(&fresh).run().unwrap().out(), format!("round {round}\n"));
        let digest = warmstep_tests::push::sha256(&fs::read(&fresh).unwrap());
        agent.ask(["rm", &digest]).unwrap();
        round += 1;
        if round == 10 {
            before = Some(held(&mut agent));
        }
    }
    let (descriptors, resident) = before.expect("ten rounds take less than the whole time");
    let deadline = Instant::now() + Duration::from_secs(10);
    let after = loop {
        let after = held(&mut agent);
        if after.0 <= descriptors || Instant::now() > deadline {
            break after;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    println!(
        "{round} rounds: {descriptors} → {} descriptors, {resident} → {} bytes",
        after.0, after.1
    );
    assert!(after.0 <= descriptors, "{descriptors} descriptors became {}", after.0);
    assert!(after.1 <= resident + SLACK, "{resident} bytes became {}", after.1);
}

/// The agent's descriptors, and its resident set in bytes.
fn held(agent: &mut Agent) -> (usize, u64) {
    let program = agent.program().unwrap();
    let directory = format!("/proc/{}/fd", program.pid().as_raw_nonzero());
    (fs::read_dir(directory).unwrap().count(), program.resident().unwrap())
}
