//! Waits for files of secrets to change, without looking again and again.
//!
//! A path leads to its file over folder entries: its own name, and those of the symlinks on the way, such as
//! the `..data` that Kubernetes swaps. Their folders are watched (inotify, on Linux), since a file that is replaced
//! by a rename is another file. Elsewhere nothing is noticed, and changed files are read at the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Most symlinks that are followed on the way to one file, as in Linux.
const SYMLINKS_MAX: usize = 40;

/// The folder entries over which paths lead to their files.
type Entries = BTreeMap<PathBuf, BTreeSet<OsString>>;

/// Watches files.
pub struct FileWatch {
    files: Vec<PathBuf>,
    #[cfg(target_os = "linux")]
    folders: Option<kernel::Folders>,
}

impl FileWatch {
    /// Watches the given files, whether they are there or not.
    pub fn new(files: Vec<PathBuf>) -> Self {
        #[cfg(target_os = "linux")]
        {
            // Without files there is nothing to hold open.
            let folders = if files.is_empty() { None } else { kernel::Folders::open() };
            let mut watch = Self { files, folders };
            watch.follow();
            watch
        }
        #[cfg(not(target_os = "linux"))]
        Self { files }
    }

    /// Finds out anew over which folders the files are reached; to be called after each change.
    pub fn follow(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(folders) = &mut self.folders {
            folders.watch(entries(&self.files));
        }
    }

    /// Returns when a file may have changed. Cancelling it loses nothing.
    pub async fn changed(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(folders) = &mut self.folders {
            return folders.changed().await;
        }
        std::future::pending().await
    }
}

/// Returns the folder entries whose change may change what the files hold.
fn entries(files: &[PathBuf]) -> Entries {
    let mut entries = Entries::new();
    for file in files {
        let start = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        walk(&start, &mut entries);
    }
    entries
}

/// Goes the way of one path, component by component, as the kernel does.
fn walk(path: &Path, entries: &mut Entries) {
    let mut left: Vec<OsString> = names(path);
    let (mut at, mut symlinks) = (PathBuf::from("/"), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match std::fs::read_link(&next) {
            Ok(target) if symlinks < SYMLINKS_MAX => {
                symlinks += 1;
                entries.entry(at.clone()).or_default().insert(name);
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(names(&target));
            }
            _ => {
                // The file itself, or where the way ends for now.
                let is_end = left.is_empty() || !next.exists();
                if is_end {
                    entries.entry(at.clone()).or_default().insert(name);
                    return;
                }
                at = next;
            }
        }
    }
}

/// Returns the components of a path, the last one in front.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    let mut names: Vec<_> = path.components().filter_map(name).collect();
    names.reverse();
    names
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::collections::HashMap;
    use std::ffi::OsStr;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::PathBuf;

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use tokio::net::unix::pipe::Receiver;

    use super::Entries;

    /// Bytes of events that are read at once.
    const EVENTS_BYTES: usize = 4 * 1024;

    /// Watched folders.
    pub(super) struct Folders {
        /// The runtime waits for a descriptor that it owns as a pipe's end.
        queue: Receiver,
        /// The folder of each watch.
        watches: HashMap<i32, PathBuf>,
        entries: Entries,
    }

    impl Folders {
        pub(super) fn open() -> Option<Self> {
            let opened = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from);
            let queue = opened.and_then(Receiver::from_owned_fd_unchecked);
            let warn = |error: &io::Error| {
                tracing::warn!(%error, "changed files of secrets are not noticed until the next start");
            };
            Some(Self {
                queue: queue.inspect_err(warn).ok()?,
                watches: HashMap::new(),
                entries: Entries::new(),
            })
        }

        /// Watches these entries and no others.
        pub(super) fn watch(&mut self, entries: Entries) {
            let flags = WatchFlags::CREATE
                | WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::DELETE
                | WatchFlags::ATTRIB
                | WatchFlags::DELETE_SELF
                | WatchFlags::MOVE_SELF
                | WatchFlags::ONLYDIR;
            let mut watches = HashMap::new();
            for folder in entries.keys() {
                match inotify::add_watch(&self.queue, folder.as_path(), flags) {
                    // The same folder has the same watch.
                    Ok(watch) => drop(watches.insert(watch, folder.clone())),
                    Err(error) => {
                        tracing::warn!(folder = %folder.display(), %error, "changes of secrets in a folder are not noticed");
                    }
                }
            }
            for gone in self.watches.keys().filter(|watch| !watches.contains_key(watch)) {
                // One whose folder is gone is gone by itself.
                let _ = inotify::remove_watch(&self.queue, *gone);
            }
            (self.watches, self.entries) = (watches, entries);
        }

        pub(super) async fn changed(&mut self) {
            loop {
                if let Err(error) = self.queue.readable().await {
                    tracing::warn!(%error, "changed files of secrets are not noticed until the next start");
                    return std::future::pending().await;
                }
                let concerned = self.read();
                // Nothing is left to read, so that the runtime waits again; what came meanwhile counts as a change.
                let more = self.queue.try_read(&mut [0; EVENTS_BYTES]).is_ok();
                if concerned || more {
                    return;
                }
            }
        }

        /// Reads all events that there are; tells whether one concerns a file.
        fn read(&self) -> bool {
            let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
            let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
            let mut concerned = false;
            while let Ok(event) = reader.next() {
                // The folder itself, or events that were lost.
                let whole = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::QUEUE_OVERFLOW;
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                let names = self.watches.get(&event.wd()).and_then(|folder| self.entries.get(folder));
                concerned |= event.events().intersects(whole)
                    || names.zip(name).is_some_and(|(names, name)| names.contains(&name));
            }
            concerned
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    /// Waits for a change; tells whether one came.
    async fn changes(watch: &mut FileWatch) -> bool {
        let came = tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.is_ok();
        watch.follow();
        came
    }

    /// Tells whether a change is there already.
    async fn is_quiet(watch: &mut FileWatch) -> bool {
        tokio::time::timeout(Duration::from_millis(1), watch.changed()).await.is_err()
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("secret"), "a").unwrap();
        let mut watch = FileWatch::new(vec![path("secret"), path("later/secret")]);
        assert!(is_quiet(&mut watch).await);
        fs::write(path("secret"), "b").unwrap();
        assert!(changes(&mut watch).await, "written");
        fs::write(path("other"), "c").unwrap();
        fs::read(path("secret")).unwrap();
        assert!(is_quiet(&mut watch).await, "another file, and reading");
        fs::rename(path("other"), path("secret")).unwrap();
        assert!(changes(&mut watch).await, "replaced by a rename");
        fs::remove_file(path("secret")).unwrap();
        assert!(changes(&mut watch).await, "removed");
        fs::create_dir(path("later")).unwrap();
        assert!(changes(&mut watch).await, "its folder came");
        fs::write(path("later/secret"), "d").unwrap();
        assert!(changes(&mut watch).await, "it came");
        fs::rename(path("later"), path("gone")).unwrap();
        assert!(changes(&mut watch).await, "its folder went");
    }

    #[tokio::test]
    async fn the_swapped_symlink_of_kubernetes_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "a"), ("..2", "b")] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("secret"), text).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/secret", path("secret")).unwrap();
        let mut watch = FileWatch::new(vec![path("secret")]);
        symlink("..2", path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
        assert!(changes(&mut watch).await);
        assert_eq!(fs::read(path("secret")).unwrap(), b"b");
        while !is_quiet(&mut watch).await {}
        fs::remove_dir_all(path("..1")).unwrap();
        assert!(is_quiet(&mut watch).await, "the old version is of no interest any more");
        fs::write(path("..2/secret"), "c").unwrap();
        assert!(changes(&mut watch).await);
    }

    #[test]
    fn a_circle_of_symlinks_ends() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(!entries(&[folder.path().join("a")]).is_empty());
    }
}
