//! Digests and the nodes that carry them.
//!
//! A [`Node`] is a shared value with the SHA-256 of its contents, taken once when it is made. A node inside another
//! hashes as its digest, so a snapshot is a tree of digests: equality is one comparison, and a part that did not
//! change keeps its `Arc` when [`Reuse`] finds it in the previous snapshot.
//!
//! The bytes hashed are those of `std::hash::Hash`: the same on every replica that runs the same build on a 64-bit
//! little-endian machine, and on no other promise (docs/decisions/0002).

use crate::hash::HashMap;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// SHA-256 of a part of the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of<T: Hash + ?Sized>(value: &T) -> Digest {
        let mut hasher = Sha256Hasher::default();
        value.hash(&mut hasher);
        hasher.digest()
    }

    pub fn of_bytes(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The first twelve hex digits: what people read and compare.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Gathers the many short writes of `Hash` before it hashes them.
struct Sha256Hasher {
    state: Sha256,
    gathered: [u8; GATHERED_BYTES],
    len: usize,
}

const GATHERED_BYTES: usize = 1024;

impl Default for Sha256Hasher {
    fn default() -> Self {
        Sha256Hasher { state: Sha256::new(), gathered: [0; GATHERED_BYTES], len: 0 }
    }
}

impl Sha256Hasher {
    fn flush(&mut self) {
        self.state.update(&self.gathered[..self.len]);
        self.len = 0;
    }

    fn digest(mut self) -> Digest {
        self.flush();
        Digest(self.state.finalize().into())
    }
}

impl Hasher for Sha256Hasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        if bytes.len() > GATHERED_BYTES - self.len {
            self.flush();
        }
        match self.gathered.get_mut(self.len..self.len + bytes.len()) {
            Some(free) => {
                free.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.state.update(bytes),
        }
    }

    /// Never asked: the digest is taken from the state itself.
    fn finish(&self) -> u64 {
        0
    }
}

/// A shared, immutable part of the plan with its digest.
pub struct Node<T>(Arc<Inner<T>>);

struct Inner<T> {
    digest: Digest,
    value: T,
}

impl<T: Hash> Node<T> {
    pub fn new(value: T) -> Self {
        Node(Arc::new(Inner { digest: Digest::of(&value), value }))
    }
}

impl<T> Node<T> {
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The same allocation: what a reader checks to skip what did not change.
    pub fn is(&self, other: &Node<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Identity as a number, for tables keyed by node. Valid while a clone of the node is held.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        Node(Arc::clone(&self.0))
    }
}

impl<T> Deref for Node<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> PartialEq for Node<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self.0.digest == other.0.digest
    }
}

impl<T> Eq for Node<T> {}

impl<T> Hash for Node<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for Node<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.value.fmt(f)
    }
}

/// Nodes of the previous snapshot by digest: equal parts keep their identity.
pub struct Reuse<'a, T>(HashMap<Digest, &'a Node<T>>);

impl<T> Default for Reuse<'_, T> {
    fn default() -> Self {
        Reuse(HashMap::default())
    }
}

impl<'a, T: Hash> Reuse<'a, T> {
    pub fn from_nodes(nodes: impl IntoIterator<Item = &'a Node<T>>) -> Self {
        Reuse(nodes.into_iter().map(|node| (node.digest(), node)).collect())
    }

    /// The earlier node if an equal one exists, else a new one.
    pub fn node(&self, value: T) -> Node<T> {
        let node = Node::new(value);
        self.0.get(&node.digest()).map_or(node, |earlier| Node::clone(earlier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_digest_and_identity_is_kept_by_reuse() {
        let first = Node::new(vec!["a", "b"]);
        let again = Node::new(vec!["a", "b"]);
        assert_eq!(first, again);
        assert!(!first.is(&again));
        let reuse = Reuse::from_nodes([&first]);
        assert!(reuse.node(vec!["a", "b"]).is(&first));
        assert_ne!(reuse.node(vec!["ab"]), first);
    }

    #[test]
    fn gathering_changes_no_digest() {
        for parts in [&[3, 1020, 1, 1][..], &[0, 1024, 0], &[1025], &[7; 400], &[900, 2000, 5]] {
            let bytes: Vec<Vec<u8>> = parts.iter().map(|len| vec![*len as u8; *len]).collect();
            let mut hasher = Sha256Hasher::default();
            bytes.iter().for_each(|bytes| hasher.write(bytes));
            assert_eq!(hasher.digest(), Digest::of_bytes(&bytes.concat()), "{parts:?}");
        }
    }

    #[test]
    fn a_node_hashes_as_its_digest() {
        let inner = Node::new(7u32);
        assert_eq!(Digest::of(&inner), Digest::of(&inner.digest()));
        assert_eq!(inner.digest().short().len(), 12);
    }
}
