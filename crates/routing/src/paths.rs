//! A tree of paths by path element. A walk down a request's path meets every prefix entry and every exact entry that
//! takes it; each step is one hash lookup. One tree serves all layers of a listener, each with a root of its own.

use crate::index::{Index, hash, position};
use memchr::memchr;
use std::ops::Range;

pub(crate) struct PathTree {
    nodes: Box<[Node]>,
    /// Positions of entries, sorted within each node's ranges.
    lists: Box<[u32]>,
    segments: Box<[u8]>,
    children: Index,
}

struct Node {
    parent: u32,
    /// The path element that leads here from the parent.
    segment: Range<u32>,
    /// Into `lists`: prefix entries, then exact entries.
    prefix_start: u32,
    exact_start: u32,
    end: u32,
}

impl PathTree {
    /// Calls `visit` with the entries of each node on the way down, and how many bytes of the path they take.
    pub(crate) fn walk<'t>(
        &'t self,
        root: u32,
        path: &[u8],
        mut visit: impl FnMut(&'t [u32], usize),
    ) {
        let (mut id, mut taken) = (root, 0);
        loop {
            let Some(node) = self.nodes.get(id as usize) else { return };
            visit(self.list(node.prefix_start..node.exact_start), taken);
            if taken == path.len() {
                return visit(self.list(node.exact_start..node.end), taken);
            }
            let Some(segment) = next_segment(path, taken) else { return };
            let Some(child) = find_child(&self.children, &self.nodes, &self.segments, id, segment)
            else {
                return;
            };
            id = child;
            taken += 1 + segment.len();
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.nodes)
            + size_of_val(&*self.lists)
            + self.segments.len()
            + self.children.bytes()
    }

    fn list(&self, range: Range<u32>) -> &[u32] {
        self.lists.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

#[derive(Default)]
pub(crate) struct PathTreeBuilder {
    nodes: Vec<Node>,
    segments: Vec<u8>,
    children: Index,
    placed: Vec<Placed>,
}

/// An entry at its node; ordered as the lists are.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    node: u32,
    exact: bool,
    position: u32,
}

impl PathTreeBuilder {
    pub(crate) fn root(&mut self) -> u32 {
        self.push(u32::MAX, b"")
    }

    /// Takes `path` and everything below it, by path element.
    pub(crate) fn add_prefix(&mut self, root: u32, path: &str, position: u32) {
        self.add(root, path, position, false);
    }

    pub(crate) fn add_exact(&mut self, root: u32, path: &str, position: u32) {
        self.add(root, path, position, true);
    }

    pub(crate) fn finish(mut self) -> PathTree {
        self.placed.sort_unstable();
        let mut placed = self.placed.iter().peekable();
        let mut count = |id, exact| {
            let here = |at: &&Placed| at.node == id && at.exact == exact;
            position(std::iter::from_fn(|| placed.next_if(here)).count())
        };
        let mut start = 0;
        for (id, node) in (0..).zip(&mut self.nodes) {
            node.prefix_start = start;
            node.exact_start = node.prefix_start + count(id, false);
            node.end = node.exact_start + count(id, true);
            start = node.end;
        }
        PathTree {
            nodes: self.nodes.into(),
            lists: self.placed.iter().map(|placed| placed.position).collect(),
            segments: self.segments.into(),
            children: self.children,
        }
    }

    /// A path that does not begin with a slash takes no request, and has no place in the tree.
    fn add(&mut self, root: u32, path: &str, position: u32, exact: bool) {
        let (mut node, mut taken) = (root, 0);
        while let Some(segment) = next_segment(path.as_bytes(), taken) {
            node = self.child(node, segment);
            taken += 1 + segment.len();
        }
        if taken == path.len() {
            self.placed.push(Placed { node, exact, position });
        }
    }

    fn child(&mut self, parent: u32, segment: &[u8]) -> u32 {
        if let Some(id) = find_child(&self.children, &self.nodes, &self.segments, parent, segment) {
            return id;
        }
        let id = self.push(parent, segment);
        self.children.insert(hash(parent, segment), id);
        id
    }

    fn push(&mut self, parent: u32, segment: &[u8]) -> u32 {
        let start = position(self.segments.len());
        self.segments.extend_from_slice(segment);
        let segment = start..position(self.segments.len());
        self.nodes.push(Node { parent, segment, prefix_start: 0, exact_start: 0, end: 0 });
        position(self.nodes.len() - 1)
    }
}

fn find_child(
    children: &Index,
    nodes: &[Node],
    segments: &[u8],
    parent: u32,
    segment: &[u8],
) -> Option<u32> {
    children.find(hash(parent, segment), |id| {
        nodes.get(id as usize).is_some_and(|node| {
            let range = node.segment.start as usize..node.segment.end as usize;
            node.parent == parent && segments.get(range) == Some(segment)
        })
    })
}

/// The element after the slash at `from`; none at the end of the path, or where no slash is.
fn next_segment(path: &[u8], from: usize) -> Option<&[u8]> {
    let rest = path.get(from..)?.strip_prefix(b"/")?;
    let end = memchr(b'/', rest).unwrap_or(rest.len());
    rest.get(..end)
}
