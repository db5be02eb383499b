//! The tests of a target as written: a message, and what becomes of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{
    field::Field,
    value::Text,
    words::{Content, Expectation},
};

/// A message, and what the target makes of it. `natshook check --tests` runs them; nothing is sent.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, extend("required" = ["name", "expect"]))]
pub(in crate::config) struct TargetTest {
    /// What the test is about.
    #[schemars(extend("examples" = ["an order of another region is left out"]))]
    pub(in crate::config) name: Field<Text>,
    /// The message's subject. Default: the target's first one without wildcards.
    #[schemars(extend("examples" = ["orders.eu.created"]))]
    pub(in crate::config) subject: Field<Text>,
    /// Its headers.
    #[schemars(extend("default" = {}, "examples" = [{ "X-Tenant": "acme" }]))]
    pub(in crate::config) headers: Field<BTreeMap<String, Field<Text>>>,
    /// Its payload: a text as it is, or a table, list, number or boolean that is written as JSON.
    #[schemars(extend("default" = {}, "examples" = [{ "id": 7 }]))]
    pub(in crate::config) data: Field<Content>,
    /// What becomes of it: "skip", "filter_error", "transform_error", or the request that is sent, as a table of path
    /// (with the query), headers and body; what a table does not name may be anything.
    #[schemars(extend("examples" = ["skip", { "body": { "id": 7 } }]))]
    pub(in crate::config) expect: Field<Expectation>,
}

/// A request, as far as a test names it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, deny_unknown_fields)]
pub(in crate::config) struct ExpectedRequest {
    /// Path and query.
    #[schemars(extend("examples" = ["/orders/eu?id=7"]))]
    pub(in crate::config) path: Field<Text>,
    /// Some of its headers.
    #[schemars(extend("default" = {}, "examples" = [{ "X-Region": "eu" }]))]
    pub(in crate::config) headers: Field<BTreeMap<String, Field<Text>>>,
    /// Its body: a text that it is exactly, or a table, list, number or boolean that it is as JSON.
    #[schemars(extend("examples" = [{ "id": 7 }]))]
    pub(in crate::config) body: Field<Content>,
}
