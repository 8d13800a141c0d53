//! Desired status of objects, in the words of the Gateway API. Written by whoever may write; part of no digest.

use crate::{ObjectId, Text};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    pub object: ObjectId,
    pub conditions: Vec<Condition>,
    /// For a Gateway.
    pub listeners: Vec<ListenerStatus>,
    /// For a route: one entry a parentRef. For a policy: one an ancestor.
    pub parents: Vec<ParentStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs`, `Programmed`, `Conflicted`.
    pub kind: &'static str,
    pub status: bool,
    /// A reason of the specification (`NoMatchingListenerHostname`).
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    pub name: Text,
    pub attached_routes: u32,
    pub supported_kinds: Vec<&'static str>,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    pub parent: ObjectId,
    pub section: Option<Text>,
    pub port: Option<u16>,
    pub conditions: Vec<Condition>,
}
