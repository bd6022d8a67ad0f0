//! Whatever is sent is received; whatever is received instead is an error, never a panic.

#[path = "support/frame.rs"]
mod frame;

use std::io::Write;
use std::os::unix::net::UnixStream;

use frame::frame;
use minicbor::bytes::ByteVec;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use warmstep_wire::frame::{Kind, receive, send};
use warmstep_wire::message::{DirectoryGrant, Outcome, PathGrant, Phase, Reply, Step, Variable};
use warmstep_wire::plan::Plan;

fn bytes() -> impl Strategy<Value = ByteVec> {
    vec(any::<u8>(), 0..64).prop_map(ByteVec::from)
}

prop_compose! {
    fn variable()(name in bytes(), value in bytes()) -> Variable {
        Variable { name, value }
    }
}

prop_compose! {
    fn directory()(host in bytes(), guest in bytes(), read_only: bool) -> DirectoryGrant {
        DirectoryGrant { host, guest, read_only }
    }
}

prop_compose! {
    fn path()(host in bytes(), guest in bytes(), read_only: bool) -> PathGrant {
        PathGrant { host, guest, read_only }
    }
}

prop_compose! {
    fn step()(
        module in ".{0,80}",
        arguments in vec(bytes(), 0..20),
        environment in vec(variable(), 0..8),
        directories in vec(directory(), 0..8),
        network in vec(".{0,20}", 0..4),
        memory in option::of(any::<u64>()),
        timeout in option::of(any::<u64>()),
        paths in vec(path(), 0..8),
        usual_memory in option::of(any::<u64>()),
    ) -> Step {
        Step {
            module, arguments, environment, directories, network, memory, timeout, paths,
            usual_memory,
        }
    }
}

fn reply() -> impl Strategy<Value = Reply> {
    let phase = prop_oneof![Just(Phase::Resolve), Just(Phase::Pull), Just(Phase::Compile)];
    prop_oneof![
        (phase, any::<u64>(), any::<u64>()).prop_map(|(phase, done, total)| Reply::Progress {
            phase,
            done,
            total
        }),
        (any::<u8>(), ".{0,80}").prop_map(|(code, reason)| Reply::Refused { code, reason }),
        any::<u64>().prop_map(|retry_after| Reply::Busy { retry_after }),
        Just(Reply::Lend),
    ]
}

prop_compose! {
    fn outcome()(
        code: u8,
        reason in option::of(".{0,80}"),
        load: u64,
        run: u64,
        cpu: u64,
        peak_memory: u64,
        bytes_read: u64,
        bytes_written: u64,
        missing_layers in option::of(".{0,80}"),
    ) -> Outcome {
        Outcome {
            code, reason, load, run, cpu, peak_memory, bytes_read, bytes_written, missing_layers
        }
    }
}

fn through<T>(kind: Kind, message: &T) -> T
where
    T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>,
{
    let (theirs, ours) = UnixStream::pair().expect("a pair");
    send(&theirs, kind, message, &[]).expect("sent");
    receive(&ours, kind).expect("received").0
}

proptest! {
    #[test]
    fn steps(step in step()) {
        prop_assert_eq!(&through(Kind::Step, &step), &step);
        let _ = step.check();
        let Step { module, arguments, environment, directories, network, paths, .. } = step;
        let plan = Plan {
            module,
            digest: "d".into(),
            arguments,
            environment,
            directories,
            network,
            memory: u64::MAX,
            timeout: 0,
            whole_jail: Some(true),
            paths,
        };
        prop_assert_eq!(Plan::decode(&plan.encode()).expect("a plan"), plan);
    }

    #[test]
    fn replies(reply in reply()) {
        prop_assert_eq!(through(Kind::Reply, &reply), reply);
    }

    #[test]
    fn outcomes(outcome in outcome()) {
        prop_assert_eq!(through(Kind::Outcome, &outcome), outcome);
    }

    #[test]
    fn noise(kind in 0_u8..5, descriptors in 0_u8..10, body in vec(any::<u8>(), 0..200)) {
        for bytes in [&frame(kind, descriptors, &body), &body] {
            let (mut theirs, ours) = UnixStream::pair().expect("a pair");
            theirs.write_all(bytes).expect("written");
            drop(theirs);
            let _ = receive::<Step>(&ours, Kind::Step);
        }
        let _ = minicbor::decode::<Step>(&body);
        let _ = minicbor::decode::<Reply>(&body);
        let _ = minicbor::decode::<Outcome>(&body);
        let _ = Plan::decode(&body);
    }
}
