//! Format 1: from an empty folder to the first layout.
//!
//! Trees: `frames` (partition u16 BE, frame u64 BE, chunk u8 → bytes) and `meta`.

/// Creates the trees that format 1 has.
pub(crate) fn up(db: &sled::Db) -> Result<(), sled::Error> {
    for tree in ["frames", "meta"] {
        db.open_tree(tree)?;
    }
    Ok(())
}
