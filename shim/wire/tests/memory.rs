//! What hostile frames cost in memory. Alone in this file, because memory is the whole process's.

#[path = "support/frame.rs"]
mod frame;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use frame::frame;
use warmstep_wire::frame::{FrameError, Kind, Parser, receive};
use warmstep_wire::message::Step;

const MIB: usize = 1 << 20;

/// This process's resident set, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok()).expect("pages");
    pages * rustix::param::page_size()
}

/// The most that was resident since [`reset_peak`], in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kilobytes = line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
    kilobytes.expect("a number") * 1024
}

fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak is reset");
}

fn refuse(bytes: &[u8]) -> FrameError {
    let (mut theirs, ours) = UnixStream::pair().expect("a pair");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = theirs.write_all(bytes);
        });
        let result = receive::<Step>(&ours, Kind::Step);
        drop(ours);
        result.expect_err("refused")
    })
}

/// One test, because the measurements must not overlap, and in this order, because what the
/// allocator keeps of one hides what another takes.
#[test]
fn hostile_frames_cost_little() {
    let arguments = {
        // A MiB of empty arguments: one byte each here, 24 each in memory.
        let mut body = vec![0x87, 0x61, b'm', 0x9f];
        body.resize(MIB, 0x40);
        frame(1, 0, &body)
    };
    decoding_takes_what_a_step_may_have_and_no_more(&arguments);
    nothing_is_kept(&arguments);
    an_announced_length_costs_nobody_but_the_announcer();
}

fn decoding_takes_what_a_step_may_have_and_no_more(arguments: &[u8]) {
    reset_peak();
    let before = resident();
    refuse(arguments);
    let cost = peak().saturating_sub(before);
    println!("at most {cost} bytes for a MiB of arguments");
    // The body, the list as it grows to its limit, and the writing thread.
    assert!((MIB..8 * MIB).contains(&cost), "{cost} bytes");
}

fn nothing_is_kept(arguments: &[u8]) {
    let nested = frame(1, 0, &[&[0x81][..], &[0x81; 10_000]].concat());
    let huge = [&b"WSTP\x01\0\0\0"[..], &(1_u32 << 31).to_le_bytes()].concat();
    let round = || {
        for bytes in [&huge[..], &nested, arguments] {
            drop(refuse(bytes));
        }
    };
    // What the allocator holds back for the next time is there after some.
    (0..50).for_each(|_| round());
    let before = resident();
    (0..200).for_each(|_| round());
    let kept = resident().saturating_sub(before);
    println!("{kept} bytes kept after 200 rounds");
    assert!(kept < MIB, "{kept} bytes");
}

fn an_announced_length_costs_nobody_but_the_announcer() {
    let mut held = Vec::new();
    let before = resident();
    for _ in 0..100 {
        let (mut theirs, ours) = UnixStream::pair().expect("a pair");
        theirs.write_all(b"WSTP\x01\0\0\0\0\0\x20\0").expect("a header for 2 MiB");
        let mut parser = Parser::new(Kind::Step);
        parser.read(ours.as_fd()).expect("a header");
        theirs.write_all(b"\x87").expect("a first byte");
        parser.read(ours.as_fd()).expect("a first byte");
        held.push((theirs, ours, parser));
    }
    let grown = resident().saturating_sub(before);
    println!("{grown} bytes held for 100 announcements of 2 MiB");
    assert!(grown < 100 * 100 * 1024, "{grown} bytes");
}
