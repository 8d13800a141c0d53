//! One good state: what was read, what it compiled to, and the tables that readers use.

use compile::Compiled;
use edge::EdgeView;
use explain::{Entry, World};
use folder::Reading;
use model::{Facts, Snapshot};
use routing::Router;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Serving {
    pub reading: Reading,
    pub compiled: Compiled,
    pub facts: Facts,
    pub view: Arc<EdgeView>,
    pub compile_time: Duration,
}

/// What the pure part makes of a reading, before anything is published.
pub struct Draft {
    pub reading: Reading,
    pub compiled: Compiled,
    pub facts: Facts,
    pub compile_time: Duration,
}

impl Draft {
    pub fn compile(reading: Reading, previous: Option<&Snapshot>) -> Draft {
        let start = Instant::now();
        let compiled = compile::compile(&reading.inputs, previous);
        let facts = compile::facts(&reading.inputs);
        Draft { reading, compiled, facts, compile_time: start.elapsed() }
    }
}

impl Serving {
    pub fn snapshot(&self) -> &Snapshot {
        &self.compiled.snapshot
    }

    pub fn router(&self) -> &Router {
        self.view.router()
    }

    pub fn world<'a>(&'a self, entry: &'a Entry) -> World<'a> {
        World {
            compiled: &self.compiled,
            inputs: &self.reading.inputs,
            facts: &self.facts,
            router: self.router(),
            entry,
        }
    }
}
