//! The rules for a target that registers while natshook runs: those of the config's own, with its defaults and its egress
//! guard, and no way to natshook's environment and files.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{
    check::{self, Policy},
    checked::InstanceName,
    connection::SourceKind,
    error::{ConfigError, Errors, KeyPath, Problem},
    places::{Place, visit_places},
};
use crate::{egress::Guard, target::Target};

/// What targets that register are judged by. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct TargetRules(Arc<Inner>);

struct Inner {
    name: InstanceName,
    source: SourceKind,
    guard: Guard,
    defaults: Policy,
}

impl fmt::Debug for TargetRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What else they are of is printed with the config. Secrets are left out by their types.
        f.debug_struct("TargetRules").field("defaults", &self.0.defaults).finish_non_exhaustive()
    }
}

impl TargetRules {
    pub(super) fn new(name: InstanceName, source: SourceKind, guard: Guard, defaults: Policy) -> Self {
        Self(Arc::new(Inner { name, source, guard, defaults }))
    }

    /// The target that `written` is, with its secrets as texts.
    ///
    /// # Errors
    /// Everything that is wrong with it, with keys as they stand in it. None holds a secret.
    pub fn check(&self, mut written: Value) -> Result<Target, Vec<ConfigError>> {
        let Inner { name, source, guard, defaults } = &*self.0;
        let mut errors = Errors::default();
        let here = path_in(&written);
        let mut refused = Vec::new();
        visit_places(&mut written, &here, &mut |place, path, value| {
            if let Some(problem) = not_by_value(place, value) {
                errors.add(path, problem);
                refused.push(path.clone());
                // Reading what it names is what is refused.
                *value = Value::Null;
            }
        });
        let mut rest = Errors::default();
        let context = check::Context { name, source: *source, guard, registry: true };
        let target = check::check_target(written, &context, defaults, &here, &mut rest);
        let rest = rest.into_list().into_iter().filter(|error| !refused.contains(&error.path));
        let errors: Vec<ConfigError> = errors.into_list().into_iter().chain(rest).collect();
        target.filter(|_| errors.is_empty()).ok_or(errors)
    }
}

/// Whether what stands at a place would be read from natshook's own environment or disk, or is no secret at all.
fn not_by_value(place: Place, value: &Value) -> Option<Problem> {
    let found = match (place, value) {
        (Place::File, _) => return Some(Problem::FileOfOurs),
        (Place::Secret, Value::Object(table)) if table.contains_key("env") => "an environment variable",
        (Place::Secret, Value::Object(table)) if table.contains_key("file") => "a file",
        (Place::Secret, Value::Object(_)) => "a table",
        (Place::Secret, Value::Array(_)) => "a list",
        (Place::Secret, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => return None,
    };
    Some(Problem::NotByValue { found })
}

/// The place of a target that stands alone.
fn path_in(written: &Value) -> KeyPath {
    let name = written.get("name").and_then(Value::as_str);
    name.map_or_else(KeyPath::default, |name| KeyPath::default().of_target(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;
    use serde_json::json;

    const BASE: &str = "[registry]\nenabled = true\n[defaults]\ntimeout = \"7s\"\n";

    fn config(text: &str) -> Config {
        Config::from_toml(text, "test").unwrap()
    }

    fn wrong(written: Value) -> Vec<String> {
        let errors = config(BASE).connections.remove(0).rules.unwrap().check(written).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_target_takes_the_defaults_and_may_say_otherwise() {
        let rules = config(BASE).connections.remove(0).rules.unwrap();
        let written = json!({ "name": "a", "subjects": "a", "url": "https://hooks.example/a" });
        assert_eq!(rules.check(written.clone()).unwrap().timeout.as_secs(), 7);
        let mut own = written;
        own["timeout"] = json!("3s");
        assert_eq!(rules.check(own).unwrap().timeout.as_secs(), 3);
    }

    #[test]
    fn every_way_to_the_environment_or_the_disk_is_refused_once() {
        for (secret, found) in [
            (json!({ "env": "PATH" }), "found an environment variable"),
            (json!({ "file": "/etc/passwd" }), "found a file"),
            (json!({ "file": "/etc/passwd", "x": 1 }), "found a file"),
            (json!(["PATH"]), "found a list"),
            (json!({ "x": 1 }), "found a table"),
        ] {
            let written = json!({
                "name": "a", "subjects": "a", "url": "https://hooks.example/a", "auth": { "bearer": secret },
                "signing": { "secrets": [secret] }
            });
            let wrong = wrong(written);
            assert_eq!(wrong.len(), 2, "{wrong:?}");
            assert!(wrong[0].starts_with(&format!("auth.bearer (target \"a\"): {found}")), "{wrong:?}");
            assert!(
                wrong[1].starts_with(&format!("signing.secrets[0] (target \"a\"): {found}")),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn what_is_no_table_is_no_target() {
        for written in [json!(null), json!("a"), json!([]), json!(["a", "a", "https://hooks.example/a"])] {
            assert!(!wrong(written.clone()).is_empty(), "{written}");
        }
    }

    #[test]
    fn the_hash_tells_of_other_defaults_and_not_of_who_has_registered() {
        let mut one = config(BASE);
        let hash = one.hash();
        assert_ne!(config(&BASE.replace("7s", "8s")).hash(), hash);
        let written = json!({ "name": "a", "subjects": "a", "url": "https://hooks.example/a" });
        let target = one.connections[0].rules.as_ref().unwrap().check(written).unwrap();
        one.connections[0].set_registered(vec![(target, std::time::SystemTime::UNIX_EPOCH)]);
        assert_eq!((one.targets().count(), one.hash()), (1, hash));
        one.connections[0].set_registered(Vec::new());
        assert_eq!(one.connections[0].targets, []);
    }
}
