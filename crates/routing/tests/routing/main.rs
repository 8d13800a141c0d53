//! The router from outside: tables of cases a topic, and a property test against a plain linear scan.

mod conditions;
mod layer4;
mod plan;
mod precedence;
mod property;
mod redirects;
mod selection;
mod trace;
