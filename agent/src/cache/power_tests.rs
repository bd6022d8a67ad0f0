//! C3: the power is cut at every change of the disk. A kill keeps what the kernel holds; only this
//! shows that what was renamed into place had reached the disk.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::crash_tests::{CHILD, changes, changes_of_opening, check, run_child};

/// `EXT4_IOC_SHUTDOWN` (`fs/ext4/ext4.h`): the file system forgets everything that is not on the
/// disk, and takes no more.
const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587D;

/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: not even the journal is written.
const NO_LOG_FLUSH: u32 = 2;

/// The image's size: some entries and sled's files fit many times.
const DISK: u64 = 64 * 1024 * 1024;

/// Cuts the power of the disk that this child works on.
pub(super) fn cut() {
    let plan = std::env::var(CHILD).unwrap();
    let root = Path::new(plan.splitn(3, ' ').nth(2).unwrap());
    let directory = File::open(root.parent().unwrap()).unwrap();
    // SAFETY: the kernel reads one u32 from the address it is given, which `Setter` holds.
    #[expect(unsafe_code, reason = "no safe function makes this call")]
    unsafe {
        let setter = rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH);
        rustix::ioctl::ioctl(&directory, setter).unwrap();
    }
}

/// A disk in a file, mounted for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: &Path) -> Self {
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success() || std::thread::panicking(), "{command:?} ended with {status}");
}

#[test]
fn a_power_cut_at_every_change_leaves_nothing_wrong() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting a disk takes root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (image, at) = (directory.path().join("disk"), directory.path().join("mounted"));
    std::fs::create_dir(&at).unwrap();
    File::create(&image).unwrap().set_len(DISK).unwrap();
    run(Command::new("mkfs.ext4").arg("-q").arg(&image));
    let root = at.join("cache");
    let expected = changes() - changes_of_opening();
    let mut reached = 0;
    loop {
        let mounted = Mounted::new(&image, &at);
        let status = run_child("cut", &root, reached).wait().unwrap();
        drop(mounted);
        let _mounted = Mounted::new(&image, &at);
        check(&root);
        if status.signal() != Some(9) {
            break;
        }
        reached += 1;
    }
    assert!(reached >= expected, "cut at {reached} changes of {expected}");
}
