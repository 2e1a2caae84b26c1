//! The fold of what is known of rate limits: by provider and scope, as long as it is not over.

use std::collections::BTreeMap;

use super::core::Core;
use super::{keys, rows};
use crate::event::{CoolDown, PermitsChange, ProviderId};
use crate::event_log::record::Permits;

/// What is known of a provider's rate limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermitsState {
    /// Permits were given out, and nobody wrote that it ended.
    pub open: bool,
    /// What is known of its scopes, by their keys.
    pub scopes: BTreeMap<String, CoolDown>,
}

impl Core {
    /// Folds one record: what it says of a scope replaces what was known, and what is over is forgotten.
    pub(super) fn permitted(&mut self, it: Permits) {
        let state = self.permits.entry(it.provider.clone()).or_default();
        let (open, learned) = match it.change {
            PermitsChange::Opened => (true, Vec::new()),
            PermitsChange::Learned(learned) => (state.open, learned),
            PermitsChange::Closed(learned) => (false, learned),
        };
        state.open = open;
        for cool_down in learned {
            let key = keys::permits_scope_key(&it.provider, &cool_down.scope);
            self.rows.put(key, rows::encode_cool_down(&cool_down));
            state.scopes.insert(cool_down.scope.clone(), cool_down);
        }
        let over = state.scopes.extract_if(.., |_, cool_down| cool_down.is_over(it.at));
        for (scope, _) in over {
            self.rows.remove(&keys::permits_scope_key(&it.provider, &scope));
        }
        self.rows.put(keys::permits_key(&it.provider), vec![u8::from(open)]);
    }

    /// Takes in a row of the table.
    pub(super) fn load_permits(&mut self, provider: ProviderId, open: bool) {
        self.permits.entry(provider).or_default().open = open;
    }

    pub(super) fn load_cool_down(&mut self, provider: ProviderId, cool_down: CoolDown) {
        self.permits.entry(provider).or_default().scopes.insert(cool_down.scope.clone(), cool_down);
    }
}
