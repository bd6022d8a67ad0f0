//! Small WASIX modules that do one thing each, written where they are used. Where a call fails, they
//! end with its error number.

use std::net::SocketAddrV4;

use warmstep_tests::modules::from_text;

/// The error numbers of WASI that the tests expect.
pub(crate) mod errno {
    pub(crate) const NOENT: i32 = 44;
    pub(crate) const NOTSUP: i32 = 58;
    pub(crate) const PERM: i32 = 63;
}

/// The directory that is the root of everything that was granted.
const ROOT: u32 = 4;

/// The imports and helpers of every guest here. What is imported from `wasix_32v1` makes it WASIX.
const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_sync" (func $sync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory"
    (func $rmdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link"
    (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasix_32v1" "sock_open" (func $sock_open (param i32 i32 i32 i32) (result i32)))
  (import "wasix_32v1" "sock_connect" (func $connect (param i32 i32) (result i32)))
  (import "wasix_32v1" "sock_bind" (func $bind (param i32 i32) (result i32)))
  (import "wasix_32v1" "sock_listen" (func $listen (param i32 i32) (result i32)))
  (import "wasix_32v1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasix_32v1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasix_32v1" "resolve"
    (func $resolve (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasix_32v1" "fd_pipe" (func $pipe (param i32 i32) (result i32)))
  (import "wasix_32v1" "thread_sleep" (func $sleep (param i64) (result i32)))
  (import "wasix_32v1" "thread_spawn_v2" (func $spawn (param i32 i32) (result i32)))
  (import "wasix_32v1" "proc_fork" (func $fork (param i32 i32) (result i32)))
"#;

const HELPERS: &str = r#"
  ;; ends with an error number, if it is one
  (func $ok (param $errno i32) (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func $vector (param $at i32) (param $length i32)
    (i32.store (i32.const 16) (local.get $at))
    (i32.store (i32.const 20) (local.get $length)))
  (func $say (param $at i32) (param $length i32)
    (call $vector (local.get $at) (local.get $length))
    (call $ok (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
"#;

fn guest(body: &str) -> Vec<u8> {
    let memory = r#"(memory (export "memory") 2)"#;
    from_text(&format!("(module {IMPORTS} {memory} {HELPERS} {body})")).unwrap()
}

/// A data segment with these bytes, whatever they are.
fn data(at: u32, bytes: impl AsRef<[u8]>) -> String {
    use std::fmt::Write;
    let mut text = format!("(data (i32.const {at}) \"");
    for byte in bytes.as_ref() {
        write!(text, "\\{byte:02x}").unwrap();
    }
    text + "\")"
}

/// Says a word, sleeps for so many milliseconds, and ends with the code.
pub(crate) fn says(word: &str, milliseconds: u64, code: u8) -> Vec<u8> {
    let (data, length) = (data(1024, format!("{word}\n")), word.len() + 1);
    let nanoseconds = milliseconds * 1_000_000;
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $say (i32.const 1024) (i32.const {length}))
          (if (i64.ne (i64.const {nanoseconds}) (i64.const 0))
            (then (call $ok (call $sleep (i64.const {nanoseconds})))))
          (call $exit (i32.const {code})))"#
    ))
}

/// Traps in a function that has a name.
pub(crate) fn traps() -> Vec<u8> {
    guest(r#"(func $very_deep unreachable) (func (export "_start") (call $very_deep))"#)
}

/// Never ends.
pub(crate) fn spins() -> Vec<u8> {
    guest(r#"(func (export "_start") (loop $again (br $again)))"#)
}

/// Grows its memory by so many pages, and ends with 3 if that cannot be.
pub(crate) fn grows(pages: u32) -> Vec<u8> {
    guest(&format!(
        r#"(func (export "_start")
          (if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1))
            (then (call $exit (i32.const 3)))))"#
    ))
}

/// An address as WASIX has it.
fn address(peer: SocketAddrV4) -> Vec<u8> {
    // Family 1 is IPv4.
    [&[1, 0], &peer.port().to_ne_bytes()[..], &peer.ip().octets()[..], &[0; 12]].concat()
}

/// Connects, sends `ping`, and says what comes back.
pub(crate) fn connects(peer: SocketAddrV4) -> Vec<u8> {
    let data = [data(1024, address(peer)), data(1100, "ping")].concat();
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $ok (call $sock_open (i32.const 1) (i32.const 1) (i32.const 6) (i32.const 32)))
          (call $ok (call $connect (i32.load (i32.const 32)) (i32.const 1024)))
          (call $vector (i32.const 1100) (i32.const 4))
          (call $ok (call $send (i32.load (i32.const 32)) (i32.const 16) (i32.const 1)
            (i32.const 0) (i32.const 24)))
          (call $vector (i32.const 2048) (i32.const 64))
          (call $ok (call $recv (i32.load (i32.const 32)) (i32.const 16) (i32.const 1)
            (i32.const 0) (i32.const 24) (i32.const 28)))
          (call $say (i32.const 2048) (i32.load (i32.const 24))))"#
    ))
}

/// Resolves a name, connects to the first of its addresses, and says `connected`.
pub(crate) fn connects_by_name(name: &str, port: u16) -> Vec<u8> {
    let data = [
        data(1024, name),
        data(1500, "connected\n"),
        data(2000, [&[1, 0], &port.to_ne_bytes()[..]].concat()),
    ]
    .concat();
    let length = name.len();
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $ok (call $resolve (i32.const 1024) (i32.const {length}) (i32.const {port})
            (i32.const 3000) (i32.const 4) (i32.const 24)))
          (if (i32.eqz (i32.load (i32.const 24))) (then (call $exit (i32.const 99))))
          ;; an address without a port: the family, a byte, the address
          (i32.store (i32.const 2004) (i32.load (i32.const 3002)))
          (call $ok (call $sock_open (i32.const 1) (i32.const 1) (i32.const 6) (i32.const 32)))
          (call $ok (call $connect (i32.load (i32.const 32)) (i32.const 2000)))
          (call $say (i32.const 1500) (i32.const 10)))"#
    ))
}

/// Resolves a name and does nothing with it.
pub(crate) fn resolves(name: &str) -> Vec<u8> {
    let (data, length) = (data(1024, name), name.len());
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $ok (call $resolve (i32.const 1024) (i32.const {length}) (i32.const 80)
            (i32.const 3000) (i32.const 4) (i32.const 24))))"#
    ))
}

/// Listens on an address.
pub(crate) fn listens(on: SocketAddrV4) -> Vec<u8> {
    let data = data(1024, address(on));
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $ok (call $sock_open (i32.const 1) (i32.const 1) (i32.const 6) (i32.const 32)))
          (call $ok (call $bind (i32.load (i32.const 32)) (i32.const 1024)))
          (call $ok (call $listen (i32.load (i32.const 32)) (i32.const 1))))"#
    ))
}

/// Connects a socket for datagrams, which binds it.
pub(crate) fn sends_datagrams(peer: SocketAddrV4) -> Vec<u8> {
    let data = data(1024, address(peer));
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $ok (call $sock_open (i32.const 1) (i32.const 2) (i32.const 17) (i32.const 32)))
          (call $ok (call $bind (i32.load (i32.const 32)) (i32.const 1024)))
          (call $ok (call $connect (i32.load (i32.const 32)) (i32.const 1024))))"#
    ))
}

/// Says what is in a file, up to 4,000 bytes.
pub(crate) fn reads(path: &str) -> Vec<u8> {
    let (data, length) = (data(1024, path), path.len());
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $ok (call $open (i32.const {ROOT}) (i32.const 1) (i32.const 1024)
            (i32.const {length}) (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0)
            (i32.const 32)))
          (call $vector (i32.const 8192) (i32.const 4000))
          (call $ok (call $read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1)
            (i32.const 24)))
          (call $say (i32.const 8192) (i32.load (i32.const 24))))"#
    ))
}

/// Reads a file so often, and says how often that went well, in four bytes.
pub(crate) fn reads_again_and_again(path: &str, times: u32) -> Vec<u8> {
    let (data, length) = (data(1024, path), path.len());
    guest(&format!(
        r#"{data} (func (export "_start") (local $left i32)
          (local.set $left (i32.const {times}))
          (loop $again
            (if (i32.eqz (call $open (i32.const {ROOT}) (i32.const 1) (i32.const 1024)
              (i32.const {length}) (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0)
              (i32.const 32)))
              (then
                (call $vector (i32.const 8192) (i32.const 4000))
                (call $ok (call $read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1)
                  (i32.const 24)))
                (call $say (i32.const 8192) (i32.load (i32.const 24)))
                (call $ok (call $close (i32.load (i32.const 32))))))
            (br_if $again
              (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#
    ))
}

/// Writes a text into a file that it makes, with these open flags and descriptor flags.
pub(crate) fn writes(path: &str, text: &str, open: u32, flags: u32) -> Vec<u8> {
    let data = [data(1024, path), data(4096, text)].concat();
    let (length, text) = (path.len(), text.len());
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $ok (call $open (i32.const {ROOT}) (i32.const 1) (i32.const 1024)
            (i32.const {length}) (i32.const {open}) (i64.const 0x41) (i64.const 0x41)
            (i32.const {flags}) (i32.const 32)))
          (call $vector (i32.const 4096) (i32.const {text}))
          (call $ok (call $write (i32.load (i32.const 32)) (i32.const 16) (i32.const 1)
            (i32.const 24)))
          (call $ok (call $sync (i32.load (i32.const 32)))))"#
    ))
}

/// Changes names, which it looks at first: wasmer-wasix removes only directories that it has seen.
/// `mkdir`, `rmdir`, `unlink` with one path; `rename`, `symlink`, `link` with two.
pub(crate) fn changes(what: &str, first: &str, second: &str) -> Vec<u8> {
    let data = [data(1024, first), data(2048, second)].concat();
    let one = format!("(i32.const 1024) (i32.const {})", first.len());
    let two = format!("(i32.const 2048) (i32.const {})", second.len());
    let root = format!("(i32.const {ROOT})");
    let call = match what {
        "rename" => format!("(call $rename {root} {one} {root} {two})"),
        "symlink" => format!("(call $symlink {one} {root} {two})"),
        "link" => format!("(call $link {root} (i32.const 0) {one} {root} {two})"),
        one_path => format!("(call ${one_path} {root} {one})"),
    };
    let look = format!("(drop (call $stat {root} (i32.const 0) {one} (i32.const 3000)))");
    guest(&format!(r#"{data} (func (export "_start") {look} (call $ok {call}))"#))
}

/// Sends a word through a pipe to itself and says it.
pub(crate) fn pipes() -> Vec<u8> {
    let data = data(1024, "through\n");
    guest(&format!(
        r#"{data} (func (export "_start")
          (call $ok (call $pipe (i32.const 32) (i32.const 36)))
          (call $vector (i32.const 1024) (i32.const 8))
          (call $ok (call $write (i32.load (i32.const 36)) (i32.const 16) (i32.const 1)
            (i32.const 24)))
          (call $vector (i32.const 2048) (i32.const 64))
          (call $ok (call $read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1)
            (i32.const 24)))
          (call $say (i32.const 2048) (i32.load (i32.const 24))))"#
    ))
}

/// Forks without having been built for it.
pub(crate) fn forks() -> Vec<u8> {
    guest(
        r#"(func (export "_start")
          (call $ok (call $fork (i32.const 1) (i32.const 32))))"#,
    )
}

/// Two threads and more: each adds to a shared number a thousand times, and the last wakes the first
/// thread, which says `all` if the number is right. What a thread does besides is `also`.
pub(crate) fn threads(count: u32, also: &str) -> Vec<u8> {
    let expected = count * 1000;
    let data = data(1024, "all\n");
    // The data is in the first thread's hands alone: an active segment would be applied by each.
    let data = data.replacen("(data (i32.const 1024)", "(data $word", 1);
    let text = format!(
        r#"(module {IMPORTS}
          (import "env" "memory" (memory 4 64 shared))
          (export "memory" (memory 0))
          {HELPERS} {data}
          (func (export "wasi_thread_start") (param $tid i32) (param $start i32)
            (local $left i32)
            (local.set $left (i32.const 1000))
            (loop $again
              (drop (i32.atomic.rmw.add (i32.const 512) (i32.const 1)))
              (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            {also}
            (if (i32.eq (i32.atomic.rmw.add (i32.const 516) (i32.const 1))
                  (i32.const {count_less_one}))
              (then
                (i32.atomic.store (i32.const 520) (i32.const 1))
                (drop (memory.atomic.notify (i32.const 520) (i32.const 1))))))
          (func (export "_start") (local $left i32)
            (memory.init $word (i32.const 1024) (i32.const 0) (i32.const 4))
            (local.set $left (i32.const {count}))
            ;; how a thread is to be started: its stack, and what it is told
            (i32.store (i32.const 600) (i32.const 131072))
            (i32.store (i32.const 656) (i32.const 4096))
            (loop $again
              (call $ok (call $spawn (i32.const 600) (i32.const 700)))
              (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (loop $wait
              (drop (memory.atomic.wait32 (i32.const 520) (i32.const 0) (i64.const 100000000)))
              (br_if $wait (i32.eqz (i32.atomic.load (i32.const 520)))))
            (if (i32.ne (i32.atomic.load (i32.const 512)) (i32.const {expected}))
              (then (call $exit (i32.const 98))))
            (call $say (i32.const 1024) (i32.const 4))))"#,
        count_less_one = count - 1
    );
    from_text(&text).unwrap()
}

/// Grows its shared memory by so many pages, and ends with 3 if that cannot be.
pub(crate) fn grows_shared(most: u32, pages: u32) -> Vec<u8> {
    let text = format!(
        r#"(module {IMPORTS}
          (import "env" "memory" (memory 2 {most} shared))
          (export "memory" (memory 0))
          {HELPERS}
          (func (export "_start")
            (if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1))
              (then (call $exit (i32.const 3))))))"#
    );
    from_text(&text).unwrap()
}
