//! Simulated power cuts: a process runs under a journal of its file operations, is killed, and then loses
//! what no completed fsync covered.
//!
//! Two models. *Strict*: everything that is not covered is lost, names of files too. *Random*: of the
//! uncovered writes each is kept, lost or torn at a page; of the uncovered names the earlier ones are kept
//! (file systems keep their order). Not modelled: devices that lie about a flush, and damage to old data.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PAGE: usize = 4096;
const MAGIC: u32 = 0x4355_5421;
const ENTRY_BYTES: usize = 72;

/// What a power cut takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Model {
    /// Everything that no sync covers.
    Strict,
    /// Some of it, chosen by this seed.
    Random(u64),
}

/// A folder whose power can be cut.
pub(crate) struct PowerCut {
    shim: PathBuf,
    dir: PathBuf,
    journal: PathBuf,
    saved: PathBuf,
}

/// What a cut took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Operations that no sync covered.
    pub uncovered: usize,
    /// Of these, those that were lost, also in part.
    pub lost: usize,
}

/// One operation of the journal.
#[derive(Debug)]
struct Op {
    seq: u64,
    inode: u64,
    old_size: u64,
    replaced: bool,
    path: PathBuf,
    what: What,
}

#[derive(Debug)]
enum What {
    Write { offset: u64, old: Vec<u8>, new: Vec<u8> },
    Truncate { length: u64, old: Vec<u8> },
    Create,
    Rename { to: PathBuf },
    Remove,
    Folder,
}

/// The library that keeps the journal, compiled once; nothing without a C compiler.
fn shim() -> Option<PathBuf> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/powercut/shim.c");
        let library =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("powercut-{}.so", std::process::id()));
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let compiled = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .status();
        compiled.is_ok_and(|status| status.success()).then_some(library)
    })
    .clone()
}

impl PowerCut {
    /// Prepares cuts of `dir`; journal and saved files go to `work`, which is on the same file system.
    /// Nothing, said loudly, where there is no C compiler.
    pub(crate) fn prepare(work: &Path, dir: &Path) -> Option<Self> {
        let Some(shim) = shim() else {
            eprintln!("SKIPPED: power cuts need a C compiler (cc, or one named by CC)");
            return None;
        };
        fs::create_dir_all(dir).unwrap();
        let saved = work.join("saved");
        fs::create_dir_all(&saved).unwrap();
        let (dir, saved) = (dir.canonicalize().unwrap(), saved.canonicalize().unwrap());
        Some(Self { shim, dir, journal: work.join("journal"), saved })
    }

    /// Makes a process keep the journal. One process at a time; its children are not watched.
    pub(crate) fn watch(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.shim)
            .env("CUT_DIR", &self.dir)
            .env("CUT_JOURNAL", &self.journal)
            .env("CUT_SAVED", &self.saved);
    }

    /// Cuts the power. The process was killed before, and is gone.
    pub(crate) fn cut(&self, model: Model) -> Loss {
        let journal = fs::read(&self.journal).unwrap_or_default();
        let ops = uncovered(&journal);
        let mut files = Files::find([&self.dir, &self.saved]);
        for op in ops.iter().rev() {
            self.undo(op, &mut files);
        }
        let mut lost = ops.len();
        if let Model::Random(seed) = model {
            lost -= self.redo_some(&ops, &mut files, &mut Random(seed | 1));
        }
        let _ = fs::remove_file(&self.journal);
        fs::remove_dir_all(&self.saved).unwrap();
        fs::create_dir(&self.saved).unwrap();
        Loss { uncovered: ops.len(), lost }
    }

    /// Where the shim kept a file that lost its name.
    fn saved(&self, op: &Op) -> PathBuf {
        self.saved.join(op.seq.to_string())
    }

    /// Where a file or folder stands whose name was lost.
    fn put_by(&self, op: &Op) -> PathBuf {
        self.saved.join(format!("{}.lost", op.seq))
    }

    /// Undoing goes backwards from the last operation, so each finds the files as it left them.
    fn undo(&self, op: &Op, files: &mut Files) {
        match &op.what {
            What::Write { offset, old, .. } => {
                if let Some(file) = files.open(op.inode) {
                    let size = file.metadata().unwrap().len();
                    if size > op.old_size {
                        file.set_len(op.old_size).unwrap();
                    }
                    file.write_all_at(old, *offset).unwrap();
                }
            }
            What::Truncate { length, old } => {
                if let Some(file) = files.open(op.inode) {
                    file.set_len(op.old_size).unwrap();
                    file.write_all_at(old, *length).unwrap();
                }
            }
            // Put by, since a random cut may give the name back, with the content that was synced.
            What::Create | What::Folder => files.rename(&op.path, &self.put_by(op)),
            What::Rename { to } => {
                // Killed between the note and the rename itself, it has not happened.
                if !op.path.exists() {
                    files.rename(to, &op.path);
                    if op.replaced {
                        self.bring_back(op, to, files);
                    }
                }
            }
            What::Remove => {
                if !op.path.exists() {
                    self.bring_back(op, &op.path, files);
                }
            }
        }
    }

    fn bring_back(&self, op: &Op, to: &Path, files: &mut Files) {
        let saved = self.saved(op);
        fs::hard_link(&saved, to).unwrap();
        files.moved(&saved, to);
    }

    /// Does some of what was undone again; returns how many operations survive whole.
    fn redo_some(&self, ops: &[Op], files: &mut Files, random: &mut Random) -> usize {
        let names = ops.iter().filter(|op| op.is_of_names()).count();
        let mut names_kept = random.below(names + 1);
        let mut kept = 0;
        for op in ops {
            if op.is_of_names() {
                if names_kept > 0 {
                    names_kept -= 1;
                    self.redo_name(op, files);
                    kept += 1;
                }
                continue;
            }
            let Some(file) = files.open(op.inode) else { continue };
            match &op.what {
                What::Write { offset, new, .. } => match random.below(100) {
                    0..45 => {
                        file.write_all_at(new, *offset).unwrap();
                        kept += 1;
                    }
                    45..65 if new.len() > PAGE => {
                        let pages = 1 + random.below((new.len() - 1) / PAGE);
                        file.write_all_at(&new[..pages * PAGE], *offset).unwrap();
                    }
                    _ => {}
                },
                What::Truncate { length, .. } if random.below(2) == 0 => {
                    file.set_len(*length).unwrap();
                    kept += 1;
                }
                _ => {}
            }
        }
        kept
    }

    fn redo_name(&self, op: &Op, files: &mut Files) {
        match &op.what {
            What::Create | What::Folder => files.rename(&self.put_by(op), &op.path),
            What::Rename { to } => files.rename(&op.path, to),
            What::Remove => {
                let _ = fs::remove_file(&op.path);
            }
            What::Write { .. } | What::Truncate { .. } => {}
        }
    }
}

impl Op {
    /// Names lie in folders and are covered by a sync of the folder.
    fn is_of_names(&self) -> bool {
        !matches!(self.what, What::Write { .. } | What::Truncate { .. })
    }

    fn folder(&self) -> &Path {
        let name = match &self.what {
            What::Rename { to } => to,
            _ => &self.path,
        };
        name.parent().unwrap()
    }
}

/// Where the files are, by inode.
struct Files {
    paths: HashMap<u64, PathBuf>,
}

impl Files {
    fn find(dirs: [&PathBuf; 2]) -> Self {
        let mut files = Self { paths: HashMap::new() };
        // The folder itself last: its names count more than the saved ones.
        for dir in dirs.into_iter().rev() {
            files.find_in(dir);
        }
        files
    }

    fn find_in(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.find_in(&entry.path());
            } else if kind.is_file() {
                self.paths.insert(entry.metadata().unwrap().ino(), entry.path());
            }
        }
    }

    /// Renames a file or folder that is there: an operation noted right before the kill may not have begun.
    fn rename(&mut self, from: &Path, to: &Path) {
        if fs::rename(from, to).is_ok() {
            self.moved(from, to);
        }
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        for path in self.paths.values_mut() {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            }
        }
    }

    fn open(&self, inode: u64) -> Option<File> {
        OpenOptions::new().write(true).open(self.paths.get(&inode)?).ok()
    }
}

/// Reads the journal; returns in order the operations that no later sync covers.
fn uncovered(journal: &[u8]) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    let mut files: HashMap<u64, u64> = HashMap::new();
    let mut folders: HashMap<PathBuf, u64> = HashMap::new();
    let mut rest = journal;
    // The last entry may be cut short by the kill; its operation never began.
    while let Some((entry, after)) = rest.split_at_checked(ENTRY_BYTES) {
        let u32_at = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap());
        assert_eq!(u32_at(0), MAGIC, "the journal is not what the shim writes");
        let lengths = [52, 56, 60, 64].map(|at| u32_at(at) as usize);
        let Some((body, next)) = after.split_at_checked(lengths.iter().sum()) else { break };
        rest = next;
        let (path, body) = body.split_at(lengths[0]);
        let (to, body) = body.split_at(lengths[1]);
        let (old, new) = body.split_at(lengths[2]);
        let path_of = |bytes: &[u8]| PathBuf::from(std::str::from_utf8(bytes).unwrap());
        let (kind, inode, offset, covered) = (u32_at(4), u64_at(16), u64_at(24), u64_at(40));
        let what = match kind {
            1 => What::Write { offset, old: old.to_vec(), new: new.to_vec() },
            2 => What::Truncate { length: offset, old: old.to_vec() },
            3 => {
                let upto = files.entry(inode).or_default();
                *upto = covered.max(*upto);
                continue;
            }
            4 => What::Create,
            5 => What::Rename { to: path_of(to) },
            6 => What::Remove,
            7 => What::Folder,
            8 => {
                let upto = folders.entry(path_of(path)).or_default();
                *upto = covered.max(*upto);
                continue;
            }
            kind => panic!("unknown entry {kind} in the journal"),
        };
        let (seq, old_size, replaced) = (u64_at(8), u64_at(32), u32_at(48) != 0);
        ops.push(Op { seq, inode, old_size, replaced, path: path_of(path), what });
    }
    let covered = |op: &Op| {
        let upto = if op.is_of_names() { folders.get(op.folder()) } else { files.get(&op.inode) };
        upto.is_some_and(|upto| op.seq <= *upto)
    };
    ops.retain(|op| !covered(op));
    ops.sort_by_key(|op| op.seq);
    ops
}

/// Random numbers from a seed (xorshift), so that a failing cut can be made again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns a number below `limit`, which is at least 1.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}

/// Set in the process that the self-test watches.
const SELF_TEST_DIR: &str = "HOOKKEEPER_POWERCUT_SELF_TEST_DIR";

/// What the self-test watches. Does nothing in a normal test run.
#[test]
fn powercut_self_test_when_started_again() {
    let Ok(dir) = std::env::var(SELF_TEST_DIR) else { return };
    let dir = Path::new(&dir);
    let sync = |path: &Path| File::open(path).unwrap().sync_all().unwrap();
    let write = |name: &str, content: &str| fs::write(dir.join(name), content).unwrap();
    write("kept", "synced");
    sync(&dir.join("kept"));
    write("replaced", "before");
    sync(&dir.join("replaced"));
    write("removed", "still there");
    sync(&dir.join("removed"));
    fs::create_dir(dir.join("folder")).unwrap();
    sync(dir);
    // From here on nothing of the folder is synced.
    let mut kept = OpenOptions::new().append(true).open(dir.join("kept")).unwrap();
    std::io::Write::write_all(&mut kept, b" and not").unwrap();
    write("nameless", "its content was synced, its name was not");
    sync(&dir.join("nameless"));
    write("replacement", "after");
    sync(&dir.join("replacement"));
    fs::rename(dir.join("replacement"), dir.join("replaced")).unwrap();
    fs::remove_file(dir.join("removed")).unwrap();
    write("folder/inside", "x");
    sync(&dir.join("folder"));
    fs::create_dir(dir.join("folder-2")).unwrap();
    write("folder-2/inside", "x");
    File::options().write(true).open(dir.join("folder/inside")).unwrap().set_len(0).unwrap();
}

fn watched_self_test(work: &Path, dir: &Path) -> Option<PowerCut> {
    let cut = PowerCut::prepare(work, dir)?;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["powercut::powercut_self_test_when_started_again", "--exact"]).env(SELF_TEST_DIR, dir);
    cut.watch(&mut command);
    assert!(command.stdout(std::process::Stdio::null()).status().unwrap().success());
    Some(cut)
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn strict_cut_takes_all_that_no_sync_covers_and_nothing_else() {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("data");
    let Some(cut) = watched_self_test(work.path(), &dir) else { return };
    let loss = cut.cut(Model::Strict);
    assert_eq!(loss.uncovered, loss.lost);
    assert_eq!(names(&dir), ["folder", "kept", "removed", "replaced"]);
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("kept"), "synced");
    assert_eq!(read("replaced"), "before");
    assert_eq!(read("removed"), "still there");
    assert_eq!(read("folder/inside"), "", "a name that was synced, a content that was not");
}

#[test]
fn random_cuts_keep_what_is_synced_and_lose_some_of_the_rest() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 1..12 {
        let work = tempfile::tempdir().unwrap();
        let dir = work.path().join("data");
        let Some(cut) = watched_self_test(work.path(), &dir) else { return };
        let loss = cut.cut(Model::Random(seed * 7919));
        assert!(loss.lost <= loss.uncovered);
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        assert!(read("kept").unwrap().starts_with("synced"));
        assert!(["before", "after"].contains(&read("replaced").unwrap().as_str()));
        if let Some(content) = read("nameless") {
            assert_eq!(content, "its content was synced, its name was not");
        }
        outcomes.insert(names(&dir));
    }
    assert!(outcomes.len() > 2, "cuts differ: {outcomes:?}");
}
