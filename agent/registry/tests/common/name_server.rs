//! A name server that knows a few names, for good and for bad.

#![allow(dead_code, reason = "every test binary uses another part of this")]

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Answers on loopback until it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl NameServer {
    /// Knows these names and their addresses; every other name does not exist.
    pub(crate) async fn start(names: &[(&str, Ipv4Addr)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("an address");
        let names: Vec<(String, Ipv4Addr)> =
            names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                if let Some(answer) = answer(&query[..length], &names) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, task }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer to a query with one question (RFC 1035, section 4).
fn answer(query: &[u8], names: &[(String, Ipv4Addr)]) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let is_a = query.get(at..at + 4)? == [0, 1, 0, 1];
    let question = &query[12..at + 4];
    let name = labels.join(".");
    let known = names.iter().find(|(known, _)| *known == name);
    let address = known.filter(|_| is_a).map(|(_, address)| address.octets());

    let mut bytes = query[..2].to_vec();
    // A response, recursion available; code 3 is "no such name".
    bytes.extend_from_slice(&[0x81, if known.is_some() { 0x80 } else { 0x83 }]);
    bytes.extend_from_slice(&[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    bytes.extend_from_slice(question);
    if let Some(octets) = address {
        // A pointer to the question's name, type A, class IN, 60 s, 4 bytes.
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend_from_slice(&octets);
    }
    Some(bytes)
}
