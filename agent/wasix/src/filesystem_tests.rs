//! Tests of the file system where a grant is narrowed to some names, as inside Argo.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use warmstep_host::grants;
use warmstep_wire::message::PathGrant;
use warmstep_wire::plan::Plan;

use super::*;

/// A directory of a pod with an input, an output that is not there yet, and a neighbour.
fn narrowed() -> (TempDir, Granted) {
    let pod = tempfile::tempdir().unwrap();
    fs::write(pod.path().join("in"), "input").unwrap();
    fs::write(pod.path().join("neighbour"), "secret").unwrap();
    fs::create_dir(pod.path().join("made")).unwrap();
    let path = |name: &str, read_only| PathGrant {
        host: pod.path().join(name).as_os_str().as_bytes().to_vec().into(),
        guest: format!("/work/{name}").into_bytes().into(),
        read_only,
    };
    let plan = Plan {
        module: String::new(),
        digest: String::new(),
        arguments: Vec::new(),
        environment: Vec::new(),
        directories: Vec::new(),
        network: Vec::new(),
        memory: 0,
        timeout: 0,
        whole_jail: None,
        paths: vec![path("in", true), path("out", false), path("made", false)],
    };
    let granted = Granted::new(grants::open(&plan).unwrap().preopens);
    (pod, granted)
}

fn names(granted: &Granted, path: &str) -> Vec<String> {
    let entries = granted.read_dir(Path::new(path)).unwrap();
    let name = |entry: virtual_fs::Result<DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

fn opened(granted: &Granted, path: &str, write: bool) -> Result<()> {
    let mut options = granted.new_open_options();
    options.read(!write).write(write).create(write).open(path).map(drop)
}

#[test]
fn only_the_granted_names_are_there() {
    let (pod, granted) = narrowed();
    assert_eq!(names(&granted, "/"), ["work"]);
    assert_eq!(names(&granted, "/work"), ["in", "made"]);
    assert_eq!(opened(&granted, "/work/in", false), Ok(()));
    assert_eq!(opened(&granted, "/work/neighbour", false), Err(FsError::EntryNotFound));
    assert_eq!(granted.symlink_metadata(Path::new("/work/neighbour")), Err(FsError::EntryNotFound));
    assert_eq!(opened(&granted, "/work/in", true), Err(FsError::PermissionDenied));
    assert_eq!(opened(&granted, "/work/other", true), Err(FsError::PermissionDenied));
    assert_eq!(opened(&granted, "/work/out", true), Ok(()));
    assert_eq!(opened(&granted, "/work/made/new", true), Ok(()));
    assert_eq!(names(&granted, "/work"), ["in", "made", "out"]);
    assert_eq!(granted.remove_file(Path::new("/work/in")), Err(FsError::PermissionDenied));
    assert_eq!(granted.remove_file(Path::new("/work/neighbour")), Err(FsError::EntryNotFound));
    assert_eq!(fs::read(pod.path().join("neighbour")).unwrap(), b"secret");
}

#[test]
fn no_link_takes_the_place_of_an_output_or_points_upwards() {
    let (pod, granted) = narrowed();
    let link = |to: &str, at: &str| granted.create_symlink(Path::new(to), Path::new(at));
    assert_eq!(link("neighbour", "/work/out"), Err(FsError::PermissionDenied));
    assert_eq!(link("../neighbour", "/work/made/up"), Err(FsError::PermissionDenied));
    assert_eq!(link("/etc/passwd", "/work/made/root"), Err(FsError::PermissionDenied));
    assert_eq!(link("new", "/work/made/down"), Ok(()));
    // One that somebody else put there is not followed.
    symlink("neighbour", pod.path().join("out")).unwrap();
    assert!(opened(&granted, "/work/out", false).is_err());
    assert!(opened(&granted, "/work/out", true).is_err());
    assert_eq!(fs::read(pod.path().join("neighbour")).unwrap(), b"secret");
}
