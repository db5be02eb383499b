//! The couriers of the targets in the config at this moment. Deliveries from the retry queue, the status page and the
//! metrics find them here, by the target's name. Which ones there are is decided by `targets`.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{delivery::Courier, target::TargetName};

/// The couriers by their targets' names. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Couriers(Arc<RwLock<BTreeMap<TargetName, Arc<Courier>>>>);

impl Couriers {
    /// The courier of `target`, if the config has it.
    pub(super) fn get(&self, target: &str) -> Option<Arc<Courier>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(target).cloned()
    }

    /// All of them, in the order of their names.
    pub(super) fn all(&self) -> Vec<Arc<Courier>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// `courier` serves its target from now on.
    pub(super) fn put(&self, courier: Arc<Courier>) {
        let name = courier.target.name.clone();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, courier);
    }

    /// Nobody serves `target` any more.
    pub(super) fn remove(&self, target: &TargetName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(target);
    }
}
