//! The network: none, or TCP connections to the granted ports, and datagrams.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};

use crate::probe::{End, Probe, SIGSYS};

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    (listener, port.to_string())
}

fn wasix(port: &str) -> Probe {
    Probe::new(&["--profile", "wasix", "--connect", port])
}

#[test]
fn a_granted_port_can_be_reached() {
    let (listener, port) = listener();
    assert_eq!(wasix(&port).run(&["connect", &port]), End::Done(String::new()));
    let mut received = String::new();
    let (mut stream, _) = listener.accept().expect("the probe has connected");
    stream.read_to_string(&mut received).expect("what it sent");
    assert_eq!(received, "hello");
}

#[test]
fn another_port_cannot() {
    let (_listener, port) = listener();
    let (_other, other) = listener_other_than(&port);
    assert_eq!(wasix(&other).run(&["connect", &port]), End::Refused(libc::EACCES));
}

fn listener_other_than(port: &str) -> (TcpListener, String) {
    let (listener, other) = listener();
    assert_ne!(port, other);
    (listener, other)
}

#[test]
fn nothing_can_be_reached_without_a_grant() {
    let (_listener, port) = listener();
    for options in [
        &["--profile", "preview1"][..],
        &["--profile", "preview1", "--connect", &port],
        &["--profile", "wasix"],
        &["--profile", "compiler"],
        &["--profile", "compiler", "--connect", &port],
    ] {
        assert_eq!(Probe::new(options).run(&["connect", &port]), SIGSYS, "{options:?}");
    }
}

/// Landlock alone refuses it where a container's profile refuses seccomp.
#[test]
fn nothing_can_be_reached_without_seccomp_either() {
    let (_listener, port) = listener();
    let refused = ["--refuse", "seccomp", "--refuse", "prctl-seccomp"];
    let options = [&["--profile", "preview1"][..], &refused].concat();
    assert_eq!(Probe::new(&options).run(&["connect", &port]), End::Refused(libc::EACCES));
    assert_eq!(Probe::new(&options).run(&["listen"]), End::Refused(libc::EACCES));
}

#[test]
fn a_name_server_can_be_asked() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    server.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a timeout");
    let port = server.local_addr().expect("its number").port().to_string();
    let answer = std::thread::spawn(move || {
        let mut question = [0; 16];
        let (length, from) = server.recv_from(&mut question).expect("a question");
        server.send_to(&question[..length], from).expect("the probe listens");
    });
    assert_eq!(wasix("53").run(&["ask", &port]), End::Done(String::new()));
    answer.join().expect("it was asked");
}

#[test]
fn nobody_can_be_listened_to() {
    assert_eq!(wasix("80").run(&["listen"]), End::Refused(libc::EACCES));
}
