//! Modules of this node's own: every `*.wasm` in `modules_dir` is made warm under its digest.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Prewarmer;
use super::annotation::Modules;
use super::object::{Kind, Object};
use super::wants::Asked;
use crate::changes::Changes;

/// The most files of the directory that are looked at.
const MOST: usize = 4096;

/// Looks, and looks again after every change, until the agent ends.
pub(super) async fn run(this: Arc<Prewarmer>) {
    let mut live = this.live.clone();
    let mut said = None;
    loop {
        let directory = live.get().modules_dir.clone();
        let Some(directory) = directory else {
            this.only(Kind::File, &BTreeSet::new());
            live.changed().await;
            continue;
        };
        let mut changes = Changes::of(&directory);
        while live.get().modules_dir.as_ref() == Some(&directory) {
            look(&this, &directory, &mut said).await;
            tokio::select! {
                () = changes.next() => {}
                () = live.changed() => {}
            }
        }
    }
}

/// Takes over what is there now. What cannot be listed stays what it was.
async fn look(this: &Prewarmer, directory: &Path, said: &mut Option<String>) {
    let path = directory.to_owned();
    let listed = tokio::task::spawn_blocking(move || list(&path)).await;
    let files = match listed.map_err(io::Error::other).and_then(|listed| listed) {
        Ok(files) => files,
        Err(error) => {
            let error = error.to_string();
            if said.as_ref() != Some(&error) {
                tracing::warn!(directory = %directory.display(), error,
                    "the modules of modules_dir cannot be listed");
            }
            *said = Some(error);
            return;
        }
    };
    *said = None;
    let object = |path: &Path| Object {
        kind: Kind::File,
        namespace: None,
        name: path.display().to_string(),
    };
    this.only(Kind::File, &files.iter().map(|(path, _)| object(path)).collect());
    for (path, identity) in files {
        let modules = match path.to_str() {
            Some(path) => Modules { modules: vec![path.to_owned()], problems: Vec::new() },
            None => Modules::problem("its name is not UTF-8"),
        };
        this.ask(object(&path), Asked::new(identity, modules));
    }
}

/// The modules in a directory, each with what tells it from what it was before.
fn list(directory: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        // Links are followed: a ConfigMap's files are links. What has just gone is none.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || !metadata.is_file() || path.extension().is_none_or(|end| end != "wasm") {
            continue;
        }
        let identity = format!(
            "{}-{}-{}.{:09}",
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        files.push((path, identity));
    }
    files.sort();
    if files.len() > MOST {
        tracing::warn!(directory = %directory.display(), most = MOST,
            "modules_dir holds more modules than are heeded");
        files.truncate(MOST);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_modules_are_listed_also_behind_a_configmap_s_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("..2026")).unwrap();
        fs::write(root.join("..2026/a.wasm"), "a").unwrap();
        symlink("..2026", root.join("..data")).unwrap();
        symlink("..data/a.wasm", root.join("a.wasm")).unwrap();
        symlink("nowhere", root.join("gone.wasm")).unwrap();
        fs::create_dir(root.join("directory.wasm")).unwrap();
        for name in ["b.wasm", "b.wat", ".hidden.wasm", "wasm"] {
            fs::write(root.join(name), "b").unwrap();
        }
        let found = list(root).unwrap();
        let names: Vec<_> =
            found.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.wasm", "b.wasm"]);
        fs::write(root.join("b.wasm"), "other").unwrap();
        assert_ne!(list(root).unwrap()[1].1, found[1].1, "a changed file is another one");
        assert!(list(&root.join("nowhere")).is_err());
    }
}
