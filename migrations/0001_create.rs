//! Format 1: from an empty folder to the first layout.
//!
//! Trees: `frames` (partition u16 BE, frame u64 BE, chunk u8 → bytes), `meta`, and `state`, which is derived.

/// Creates the trees that format 1 has.
pub(crate) fn up(db: &sled::Db) -> Result<(), sled::Error> {
    for tree in ["frames", "meta", "state"] {
        db.open_tree(tree)?;
    }
    Ok(())
}
