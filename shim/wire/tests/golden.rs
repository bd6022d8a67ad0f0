//! The protocol's bytes, written down: shims and agents of other versions rely on every one.

use minicbor::bytes::ByteVec;
use warmstep_wire::frame::{self, HEADER, Header, Kind};
use warmstep_wire::message::{DirectoryGrant, Outcome, PathGrant, Phase, Reply, Step, Variable};
use warmstep_wire::plan::Plan;

/// Hexadecimal bytes, with a comment behind `;` on each line.
fn bytes(text: &str) -> Vec<u8> {
    let digits = text.lines().map(|line| line.split(';').next().unwrap_or_default());
    let digits: Vec<u32> =
        digits.flat_map(str::chars).filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte")).collect()
}

fn bytevec(text: &[u8]) -> ByteVec {
    ByteVec::from(text.to_vec())
}

fn step() -> Step {
    Step {
        module: "oci://r/m".into(),
        arguments: vec![bytevec(b"-x"), bytevec(b""), bytevec(b"\xff")],
        environment: vec![Variable { name: bytevec(b"A"), value: bytevec(b"1") }],
        directories: vec![DirectoryGrant {
            host: bytevec(b"/d"),
            guest: bytevec(b"d"),
            read_only: true,
        }],
        network: vec!["h:80".into()],
        memory: Some(65536),
        timeout: None,
        paths: vec![],
        usual_memory: None,
    }
}

fn path(guest: &[u8], read_only: bool) -> PathGrant {
    PathGrant { host: bytevec(b"/h"), guest: bytevec(guest), read_only }
}

const STEP: &str = "
    86                       ; a list of six: what is absent at the end is left out
    69 6f63693a2f2f722f6d    ; module, text
    83 42 2d78 40 41 ff      ; arguments, byte strings
    81 82 41 41 41 31        ; environment: name, value
    81 83 42 2f64 41 64 f5   ; directories: host, guest, read-only
    81 64 683a3830           ; network, text
    1a 00010000              ; memory
";

/// Checks a message both ways, in a frame.
fn check<T>(kind: Kind, number: u8, descriptors: u8, message: &T, body: &[u8])
where
    T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> + PartialEq + std::fmt::Debug,
{
    let length = u8::try_from(body.len()).expect("a short body");
    let mut frame = b"WSTP".to_vec();
    frame.extend([number, descriptors, 0, 0, length, 0, 0, 0]);
    frame.extend(body);
    let encoded = frame::to_bytes(kind, message, usize::from(descriptors)).expect("a frame");
    assert_eq!(encoded, frame, "{message:?}");

    let header: [u8; HEADER] = frame[..HEADER].try_into().expect("a header");
    let expected = Header { length: body.len(), descriptors: usize::from(descriptors) };
    assert_eq!(Header::parse(header, kind).expect("a header"), expected);
    assert_eq!(&minicbor::decode::<T>(body).expect("a message"), message);
}

#[test]
fn a_step() {
    check(Kind::Step, 1, 1, &step(), &bytes(STEP));
}

#[test]
fn the_smallest_step() {
    let none = Step {
        module: "m".into(),
        arguments: vec![],
        environment: vec![],
        directories: vec![],
        network: vec![],
        memory: None,
        timeout: Some(1),
        paths: vec![],
        usual_memory: None,
    };
    check(Kind::Step, 1, 0, &none, &bytes("87 616d 80 80 80 80 f6 01"));
}

#[test]
fn a_step_with_paths() {
    let small = Step {
        arguments: vec![],
        environment: vec![],
        directories: vec![],
        network: vec![],
        memory: None,
        module: "m".into(),
        ..step()
    };
    let paths = Step { paths: vec![path(b"/i", true), path(b"/o", false)], ..small.clone() };
    let body = bytes(
        "88 616d 80 80 80 80 f6 f6                     ; memory and timeout are not there
         82 83 42 2f68 42 2f69 f5 83 42 2f68 42 2f6f f4 ; paths: host, guest, read-only",
    );
    check(Kind::Step, 1, 0, &paths, &body);
    let usual = Step { usual_memory: Some(1), ..small };
    check(Kind::Step, 1, 0, &usual, &bytes("89 616d 80 80 80 80 f6 f6 80 01"));
}

/// What would be skipped by an agent of before is asked for by another name.
#[test]
fn tokens() {
    assert_eq!(warmstep_wire::PROTOCOL, "warmstep/1");
    assert_eq!(warmstep_wire::PROTOCOL_WITH_PATHS, "warmstep/1.1");
}

#[test]
fn replies() {
    for (phase, number) in [(Phase::Resolve, 0), (Phase::Pull, 1), (Phase::Compile, 2)] {
        let progress = Reply::Progress { phase, done: 23, total: 500 };
        let body = [0x82, 0x00, 0x83, number, 0x17, 0x19, 0x01, 0xf4];
        check(Kind::Reply, 2, 0, &progress, &body);
    }
    let refused = Reply::Refused { code: 126, reason: "no".into() };
    check(Kind::Reply, 2, 0, &refused, &bytes("82 01 82 187e 62 6e6f"));
    check(Kind::Reply, 2, 0, &Reply::Busy { retry_after: 250 }, &bytes("82 02 81 18fa"));
    check(Kind::Reply, 2, 4, &Reply::Lend, &bytes("82 03 80"));
}

#[test]
fn outcomes() {
    let mut outcome = Outcome {
        code: 134,
        reason: Some("trap".into()),
        load: 1,
        run: 2,
        cpu: 3,
        peak_memory: 1 << 20,
        bytes_read: 5,
        bytes_written: 1 << 40,
        missing_layers: None,
    };
    let body = "88 1886 64 74726170 01 02 03 1a 00100000 05 1b 0000010000000000";
    check(Kind::Outcome, 3, 0, &outcome, &bytes(body));
    outcome.reason = None;
    let body = "88 1886 f6 01 02 03 1a 00100000 05 1b 0000010000000000";
    check(Kind::Outcome, 3, 0, &outcome, &bytes(body));
    outcome.missing_layers = Some("x".into());
    let body = "89 1886 f6 01 02 03 1a 00100000 05 1b 0000010000000000 61 78";
    check(Kind::Outcome, 3, 0, &outcome, &bytes(body));
}

#[test]
fn a_plan() {
    let Step { arguments, environment, directories, network, .. } = step();
    let (module, digest) = ("m".into(), "00ff".into());
    let mut plan = Plan {
        module,
        digest,
        arguments,
        environment,
        directories,
        network,
        memory: 1,
        timeout: 0,
        whole_jail: None,
        paths: vec![],
    };
    let body = bytes(
        "88 616d 64 30306666        ; module, digest
         83 42 2d78 40 41 ff        ; arguments
         81 82 41 41 41 31          ; environment
         81 83 42 2f64 41 64 f5     ; directories
         81 64 683a3830             ; network
         01 00                      ; memory, timeout",
    );
    assert_eq!(plan.encode(), body);
    assert_eq!(Plan::decode(&body).expect("a plan"), plan);
    plan.paths = vec![path(b"/o", false)];
    let mut body = body;
    body[0] = 0x8a;
    body.extend(bytes("f6  81 83 42 2f68 42 2f6f f4 ; whole_jail, paths"));
    assert_eq!(plan.encode(), body);
    assert_eq!(Plan::decode(&body).expect("a plan"), plan);
}

/// A later version adds fields at the end, whatever is in them.
#[test]
fn fields_of_later_versions_are_skipped() {
    let mut longer = bytes(STEP);
    longer[0] = 0x8d;
    // A map, an indefinite list of a tag and a text, a float, an indefinite byte string.
    longer.extend(bytes(
        "f6 f6 f6  a1 01 82 02 03  9f c1 00 61 7a ff  fb 3ff8000000000000  5f 41 00 ff",
    ));
    assert_eq!(minicbor::decode::<Step>(&longer).expect("a step"), step());

    let grown = bytes("82 00 84 01 02 03 63 6e6577");
    let progress = Reply::Progress { phase: Phase::Pull, done: 2, total: 3 };
    assert_eq!(minicbor::decode::<Reply>(&grown).expect("a reply"), progress);
    assert_eq!(minicbor::decode::<Reply>(&bytes("82 03 81 07")).expect("a reply"), Reply::Lend);
}

/// An earlier version lacks what is optional, and must not lack anything else.
#[test]
fn optional_fields_may_be_missing() {
    let shorter = bytes("85 616d 80 80 80 80");
    let found = minicbor::decode::<Step>(&shorter).expect("a step");
    assert_eq!((found.memory, found.timeout), (None, None));
    for body in ["84 616d 80 80 80", "80", "82 00 82 01 02", "82 01 81 00"] {
        assert!(minicbor::decode::<Step>(&bytes(body)).is_err(), "{body}");
        assert!(minicbor::decode::<Reply>(&bytes(body)).is_err(), "{body}");
    }
}

/// What a decoder does not know, it does not take for something else.
#[test]
fn unknown_variants_are_errors() {
    for body in ["82 04 80", "82 00 83 03 00 00", "82 01 82 190100 60", "83 03 80 80", "81 03"] {
        assert!(minicbor::decode::<Reply>(&bytes(body)).is_err(), "{body}");
    }
}
