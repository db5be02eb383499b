//! What becomes of a target that is stored: it is one by the rules of the config in use, or it is not, and why. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    document::unsealed,
    protocol::{State, Wrong},
    seal::Vault,
};
use crate::{
    config::{Connection, TargetRules},
    target::Target,
};

/// What stored targets are judged by.
#[derive(Clone, Debug)]
pub struct Judge {
    vault: Vault,
    rules: TargetRules,
    own: BTreeSet<String>,
}

/// What becomes of a target that is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is used.
    Active(Box<Target>),
    /// The config has one of its name.
    Overridden,
    /// It cannot be used.
    Invalid(Vec<Wrong>),
}

impl Verdict {
    /// The same without the target.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self::Active(_) => State::Active,
            Self::Overridden => State::Overridden,
            Self::Invalid(_) => State::Invalid,
        }
    }

    /// Why it cannot be used.
    #[must_use]
    pub fn errors(&self) -> &[Wrong] {
        match self {
            Self::Active(_) | Self::Overridden => &[],
            Self::Invalid(errors) => errors,
        }
    }
}

impl Judge {
    /// By what the config says of `connection`; `None` where no target can register there.
    #[must_use]
    pub fn new(connection: &Connection) -> Option<Self> {
        let (registry, rules) = connection.registry.as_ref().zip(connection.rules.as_ref())?;
        let own = connection.own_targets().map(|target| target.name.to_string());
        Some(Self {
            vault: Vault::new(connection.instance.registry_bucket(), registry.keys.clone()),
            rules: rules.clone(),
            own: own.chain(connection.elsewhere.iter().map(ToString::to_string)).collect(),
        })
    }

    /// What opens and seals secrets.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Whether the config has a target of this name.
    #[must_use]
    pub fn is_own(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    /// The target that `written` is, with its secrets as texts.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self, written: Value) -> Result<Target, Vec<Wrong>> {
        let errors = |errors: Vec<_>| errors.into_iter().map(Wrong::from).collect();
        self.rules.check(written).map_err(errors)
    }

    /// What becomes of what is stored under `name`.
    #[must_use]
    pub fn judge(&self, name: &str, stored: &Value) -> Verdict {
        if self.is_own(name) {
            return Verdict::Overridden;
        }
        let target = named(name, stored)
            .and_then(|stored| unsealed(&self.vault, name, stored))
            .and_then(|written| self.check(written));
        match target {
            Ok(target) => Verdict::Active(Box::new(target)),
            Err(errors) => Verdict::Invalid(errors),
        }
    }
}

/// What is stored under `name` is the target of that name, also where it does not say so.
fn named(name: &str, stored: &Value) -> Result<Value, Vec<Wrong>> {
    let Value::Object(mut table) = stored.clone() else {
        return Err(vec![Wrong { key: String::new(), error: "expected a JSON object".to_owned() }]);
    };
    let said = table.entry("name").or_insert_with(|| name.into());
    if said != name {
        let error = format!("found {said}, expected {name:?}, under which it is stored");
        return Err(vec![Wrong { key: "name".to_owned(), error }]);
    }
    Ok(Value::Object(table))
}
