//! What follows from an entry before any trigger has secrets: whether it means something, and what its
//! proof covers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::{BuildError, Plan};
use crate::catalog::ProviderEntry;

/// Checks that an entry's texts mean something, for entries that no trigger uses yet.
///
/// # Errors
///
/// If a location, template, pipe or syntax of it cannot be read.
pub fn validate_entry(entry: &Arc<ProviderEntry>) -> Result<(), BuildError> {
    plan_of_any(entry).map(drop)
}

/// What an entry, with a trigger's settings, means for the trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemeFacts {
    /// Whether the proof covers the body; none where there is no proof.
    pub covers_body: Option<bool>,
    /// Whether `server.public_url` must be known.
    pub needs_public_url: bool,
}

impl SchemeFacts {
    /// Compiles an entry with a trigger's settings.
    ///
    /// # Errors
    ///
    /// If a setting is missing, unknown, or makes no sense.
    pub fn of(entry: &Arc<ProviderEntry>, settings: &BTreeMap<String, String>) -> Result<Self, BuildError> {
        Plan::new(entry, settings).map(|plan| Self::of_plan(&plan))
    }

    /// Compiles an entry whose settings are not known yet.
    ///
    /// # Errors
    ///
    /// As for [`validate_entry`].
    pub fn of_any(entry: &Arc<ProviderEntry>) -> Result<Self, BuildError> {
        plan_of_any(entry).map(|plan| Self::of_plan(&plan))
    }

    fn of_plan(plan: &Plan) -> Self {
        let mut forms = plan.forms.iter();
        let covers_body = plan.main_form().map(|_| forms.all(|form| form.scheme.covers_body()));
        Self { covers_body, needs_public_url: plan.needs_public_url() }
    }
}

fn plan_of_any(entry: &Arc<ProviderEntry>) -> Result<Plan, BuildError> {
    // What the entry leaves open is filled with a header's name, which every place for a name takes.
    let open = entry.settings.iter().filter(|setting| setting.default.is_none());
    let settings = open.map(|setting| (setting.name.clone(), "X-Any".to_owned())).collect();
    Plan::new(entry, &settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ProviderCatalog;

    #[test]
    fn every_entry_compiles() {
        for entry in ProviderCatalog::built_in().entries() {
            validate_entry(entry).unwrap();
        }
        let broken = "like = \"github\"\n[signature]\ncontent = \"{nope}\"";
        let text = format!("id = \"acme\"\n{broken}");
        let catalog = ProviderCatalog::with_user_entries(&[text]).unwrap();
        let error = validate_entry(catalog.get("acme").unwrap()).unwrap_err().to_string();
        assert!(error.contains("acme") && error.contains("{nope}"), "{error}");
    }
}
