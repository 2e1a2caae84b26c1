//! Lists the catalogue's files, so that a new provider is a file and no line of code.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    const FOLDER: &str = "src/catalog/providers";
    println!("cargo::rerun-if-changed={FOLDER}");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&root).join(FOLDER);
    let mut files: Vec<String> = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    files.retain(|file| file.ends_with(".toml"));
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let (id, path) = (file.trim_end_matches(".toml"), format!("/{FOLDER}/{file}"));
        // The folder is named when this is compiled: what is built of it may be used where the checkout has moved to.
        writeln!(list, "    ({id:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),")
            .expect("a string takes all");
    }
    list.push(']');
    fs::write(Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("entries.rs"), list)
}
