//! The HTTP request that turns a connection to the agent into frames (RFC 9110, section 7.8).

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use warmstep_wire::STEPS_PATH;

/// How long an agent may take to answer the request: it only has to accept and look at it.
const DEADLINE: Duration = Duration::from_secs(10);

/// The longest response head, in bytes: the agent's takes some 100, hyper's own limit is 400 KiB.
const MAX_HEAD: usize = 8 * 1024;

/// The most header fields of a response.
const MAX_FIELDS: usize = 32;

/// How much of a refusal's body is read, in bytes: it is one line.
const MAX_BODY: usize = 1024;

/// Why the other side does not speak frames with us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// The connection ended before the response did, as it does when an agent is stopped.
    #[error("it closes the connection without an answer")]
    Cut,
    /// The agent lets nobody in for the moment.
    #[error("{reason}")]
    Unavailable {
        /// What it says.
        reason: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Nothing came in time.
    #[error("no answer within {DEADLINE:?}")]
    Silent,
    /// What came is not HTTP/1.1, or more of it than an agent sends.
    #[error("its answer is not an agent's")]
    Foreign,
    /// An HTTP server that does not switch to our protocol.
    #[error("it answers {status}{reason}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What it says, behind a colon, or nothing.
        reason: String,
    },
    /// The socket fails.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What the agent answered, without the body.
struct Response {
    status: u16,
    upgraded: bool,
    length: Option<usize>,
    retry_after: Option<Duration>,
}

/// Asks for a protocol on a fresh, blocking connection. Not a byte behind the response is read,
/// because descriptors may ride on it.
///
/// # Errors
///
/// When the answer is another one than `101 Switching Protocols`, or does not come in time.
pub(crate) fn upgrade(stream: &UnixStream, protocol: &str) -> Result<(), UpgradeError> {
    let request = format!(
        "POST {STEPS_PATH} HTTP/1.1\r\nHost: warmstep\r\nConnection: Upgrade\r\n\
         Upgrade: {protocol}\r\nUser-Agent: warmstep/{}\r\nContent-Length: 0\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
    );
    let deadline = Instant::now() + DEADLINE;
    // A peer that answers and hangs up early has still answered.
    let sent = (&mut &*stream).write_all(request.as_bytes());
    let response = match (read_head(stream, protocol, deadline), sent) {
        (Err(UpgradeError::Cut), _) | (_, Err(_)) => return Err(UpgradeError::Cut),
        (response, Ok(())) => response?,
    };
    match response.status {
        101 if response.upgraded => Ok(()),
        101 => Err(UpgradeError::Foreign),
        503 => Err(UpgradeError::Unavailable {
            reason: read_reason(stream, &response).unwrap_or_else(|| "it is not ready".into()),
            retry_after: response.retry_after,
        }),
        status => {
            let reason = read_reason(stream, &response);
            let reason = reason.map(|text| format!(": {text}")).unwrap_or_default();
            Err(UpgradeError::Status { status, reason })
        }
    }
}

fn read_head(
    stream: &UnixStream,
    protocol: &str,
    deadline: Instant,
) -> Result<Response, UpgradeError> {
    let mut head = Vec::new();
    loop {
        let read = head.len();
        let mut chunk = [0; 1024];
        let peeked = receive(stream, &mut chunk, RecvFlags::PEEK, deadline)?;
        head.extend_from_slice(&chunk[..peeked]);
        let parsed = parse(&head, protocol)?;
        // What belongs to the head is taken from the socket, what is behind it stays there.
        let end = parsed.as_ref().map_or(head.len(), |(end, _)| *end);
        receive(stream, &mut chunk[..end - read], RecvFlags::empty(), deadline)?;
        match parsed {
            Some((_, response)) => return Ok(response),
            None if head.len() >= MAX_HEAD => return Err(UpgradeError::Foreign),
            None => {}
        }
    }
}

/// The response and its length in bytes, once it is whole.
fn parse(head: &[u8], protocol: &str) -> Result<Option<(usize, Response)>, UpgradeError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let end = match response.parse(head) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(UpgradeError::Foreign),
    };
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let response = Response {
        status: response.code.ok_or(UpgradeError::Foreign)?,
        upgraded: field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(protocol)),
        length: field("content-length").and_then(|value| value.parse().ok()),
        retry_after: field("retry-after").and_then(|v| v.parse().ok()).map(Duration::from_secs),
    };
    Ok(Some((end, response)))
}

/// The beginning of a refusal's body: what its length says, if it comes within a second.
fn read_reason(stream: &UnixStream, response: &Response) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut body = vec![0; response.length?.min(MAX_BODY)];
    let mut filled = 0;
    while filled < body.len() {
        match receive(stream, &mut body[filled..], RecvFlags::empty(), deadline) {
            Ok(read) => filled += read,
            Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&body[..filled]);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Receives at least one byte until the deadline. Descriptors, which nobody sends here, are lost.
fn receive(
    stream: &UnixStream,
    buffer: &mut [u8],
    flags: RecvFlags,
    deadline: Instant,
) -> Result<usize, UpgradeError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would be none.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match rustix::net::recv(stream, &mut *buffer, flags) {
            Ok((0, _)) => return Err(UpgradeError::Cut),
            Ok((read, _)) => return Ok(read),
            Err(rustix::io::Errno::AGAIN) => return Err(UpgradeError::Silent),
            Err(rustix::io::Errno::INTR) if !left.is_zero() => {}
            Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::PIPE) => {
                return Err(UpgradeError::Cut);
            }
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    use warmstep_wire::PROTOCOL;

    /// Lets another side answer and close, and says what came of it and what was left unread.
    fn answered(answer: &[u8]) -> (Result<(), UpgradeError>, Vec<u8>) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(answer).expect("an answer");
        theirs.shutdown(std::net::Shutdown::Write).expect("an end");
        let result = upgrade(&ours, PROTOCOL);
        let mut rest = Vec::new();
        (&mut &ours).read_to_end(&mut rest).expect("the rest");
        (result, rest)
    }

    #[test]
    fn the_request_is_the_documented_one() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(b"HTTP/1.1 101 .\r\nupgrade: Warmstep/1\r\n\r\n").expect("an answer");
        upgrade(&ours, PROTOCOL).expect("upgraded");
        drop(ours);
        let mut request = String::new();
        theirs.read_to_string(&mut request).expect("a request");
        let lines: Vec<&str> = request.split("\r\n").collect();
        let agent = concat!("User-Agent: warmstep/", env!("CARGO_PKG_VERSION"));
        let fields = ["Host: warmstep", "Connection: Upgrade", "Upgrade: warmstep/1", agent];
        assert_eq!(lines[0], "POST /v1/steps HTTP/1.1");
        assert_eq!(lines[1..5], fields);
        assert_eq!(lines[5..], ["Content-Length: 0", "", ""]);
    }

    #[test]
    fn nothing_behind_the_head_is_read() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: warmstep/1\r\n\r\n";
        let (result, rest) = answered(format!("{head}WSTP").as_bytes());
        result.expect("upgraded");
        assert_eq!(rest, b"WSTP");
    }

    #[test]
    fn a_head_in_pieces() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: warmstep/1\r\n\r\nrest";
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let writer = std::thread::spawn(move || {
            for byte in head {
                theirs.write_all(&[*byte]).expect("a byte");
            }
            theirs
        });
        upgrade(&ours, PROTOCOL).expect("upgraded");
        let mut rest = [0; 4];
        (&mut &ours).read_exact(&mut rest).expect("the rest");
        drop(writer.join().expect("the writer"));
        assert_eq!(&rest, b"rest");
    }

    #[test]
    fn an_answer_cut_at_every_byte() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: warmstep/1\r\n\r\n";
        for end in 0..head.len() {
            let (result, _) = answered(&head[..end]);
            assert!(matches!(result, Err(UpgradeError::Cut)), "{end}: {result:?}");
        }
    }

    #[test]
    fn strangers() {
        let long = format!("HTTP/1.1 101 x\r\nUpgrade: {}", "x".repeat(2 * MAX_HEAD));
        let many = format!("HTTP/1.1 101 x\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        for answer in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "-ERR unknown command\r\n",
            "\0\0\0\0",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            &long,
            &many,
        ] {
            let (result, _) = answered(answer.as_bytes());
            assert!(matches!(result, Err(UpgradeError::Foreign)), "{answer:.40?}: {result:?}");
        }
    }

    #[test]
    fn refusals_carry_a_reason() {
        let answer = "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 11\r\n\r\nwarmstep/2\n etc";
        let (result, _) = answered(answer.as_bytes());
        let error = result.expect_err("refused");
        assert_eq!(error.to_string(), "it answers 426: warmstep/2");
        let (result, _) = answered(b"HTTP/1.1 404 Not Found\r\n\r\n");
        assert_eq!(result.expect_err("refused").to_string(), "it answers 404");
        // A body that claims to be endless is cut.
        let huge =
            format!("HTTP/1.1 500 x\r\nContent-Length: 99999999\r\n\r\n{}", "y".repeat(9999));
        let error = answered(huge.as_bytes()).0.expect_err("refused").to_string();
        assert_eq!(error.len(), "it answers 500: ".len() + MAX_BODY);
    }

    #[test]
    fn unavailable_agents_say_when() {
        let answer = "HTTP/1.1 503 x\r\nRetry-After: 2\r\nContent-Length: 8\r\n\r\ndraining";
        match answered(answer.as_bytes()).0 {
            Err(UpgradeError::Unavailable { reason, retry_after }) => {
                assert_eq!(reason, "draining");
                assert_eq!(retry_after, Some(Duration::from_secs(2)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn silence_has_an_end() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let start = Instant::now();
        let result = read_head(&ours, PROTOCOL, start + Duration::from_millis(50)).map(|_| ());
        assert!(matches!(result, Err(UpgradeError::Silent)), "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
