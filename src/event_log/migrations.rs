//! The steps from one stored layout to the next. Their files stand in `migrations/`.

#[path = "../../migrations/0001_create.rs"]
mod m0001_create;

type Step = fn(&sled::Db) -> Result<(), sled::Error>;

/// All steps; the first one leads to format 1. A step is never edited once released.
const STEPS: [Step; 1] = [m0001_create::up];

/// The format that this program writes.
pub(crate) const FORMAT: u32 = STEPS.len() as u32;

/// Brings a store of format `from` (0 is an empty one) to the next format; returns that.
pub(crate) fn step(db: &sled::Db, from: u32) -> Result<u32, sled::Error> {
    STEPS[from as usize](db)?;
    Ok(from + 1)
}
