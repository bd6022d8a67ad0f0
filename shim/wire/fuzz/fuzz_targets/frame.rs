//! Whatever comes over the socket is a message or an error, never a panic, a hang or a heap of memory.

#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;

use libfuzzer_sys::fuzz_target;
use warmstep_wire::frame::{self, Kind};
use warmstep_wire::message::{Outcome, Reply, Step};

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let (mut theirs, ours) = UnixStream::pair().expect("a pair");
    // What is longer does not fit in the socket's buffer, and would block.
    theirs.write_all(&data[..data.len().min(64 * 1024)]).expect("written");
    drop(theirs);
    match choice % 3 {
        0 => {
            if let Ok((step, _)) = frame::receive::<Step>(&ours, Kind::Step) {
                let _ = step.check();
                again(Kind::Step, &step);
            }
        }
        1 => {
            if let Ok((reply, _)) = frame::receive::<Reply>(&ours, Kind::Reply) {
                again(Kind::Reply, &reply);
            }
        }
        _ => {
            if let Ok((outcome, _)) = frame::receive::<Outcome>(&ours, Kind::Outcome) {
                again(Kind::Outcome, &outcome);
            }
        }
    }
});

/// What was understood once is understood again.
fn again<T>(kind: Kind, message: &T)
where
    T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> + PartialEq + std::fmt::Debug,
{
    let bytes = frame::to_bytes(kind, message, 0).expect("a frame");
    let decoded: T = minicbor::decode(&bytes[frame::HEADER..]).expect("a message");
    assert_eq!(&decoded, message);
}
