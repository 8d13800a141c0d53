//! One good state: what was read, what it compiled to, and the tables that readers use.

use compile::{Compiled, Drafts};
use edge::EdgeView;
use explain::{Entry, World};
use folder::Reading;
use manifest::Object;
use model::{Facts, Kind, Snapshot};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Serving {
    pub draft: Arc<Draft>,
    pub view: Arc<EdgeView>,
}

/// What the pure part makes of a reading.
pub struct Draft {
    pub reading: Arc<Reading>,
    pub compiled: Arc<Compiled>,
    pub facts: Facts,
    pub compile_time: Duration,
}

impl Draft {
    /// Endpoints compile nothing: when they alone changed, the earlier plan stands.
    pub fn compile(reading: Reading, previous: Option<&Serving>, drafts: &mut Drafts) -> Draft {
        let start = Instant::now();
        let compiled = match previous {
            Some(serving) if is_same_plan(&serving.draft.reading, &reading) => {
                Arc::clone(&serving.draft.compiled)
            }
            _ => Arc::new(compile::compile_with(
                &reading.inputs,
                previous.map(Serving::snapshot),
                drafts,
            )),
        };
        let facts = compile::facts(&reading.inputs);
        let reading = Arc::new(reading);
        Draft { reading, compiled, facts, compile_time: start.elapsed() }
    }
}

impl Draft {
    /// The same, with the endpoints that the folder gives.
    pub fn anew(&self) -> Draft {
        Draft {
            reading: Arc::clone(&self.reading),
            compiled: Arc::clone(&self.compiled),
            facts: compile::facts(&self.reading.inputs),
            compile_time: Duration::ZERO,
        }
    }
}

/// True when every object but EndpointSlices is the one that was read before. An object of a file that was read again
/// is another one, so places in diagnostics stay true.
fn is_same_plan(before: &Reading, after: &Reading) -> bool {
    let planned = |reading: &Reading| -> Vec<*const Object> {
        let objects = reading.inputs.iter().filter(|object| object.kind() != Kind::ENDPOINT_SLICE);
        objects.map(Arc::as_ptr).collect()
    };
    planned(before) == planned(after)
}

impl Serving {
    pub fn snapshot(&self) -> &Snapshot {
        &self.draft.compiled.snapshot
    }

    pub fn world<'a>(&'a self, entry: &'a Entry) -> World<'a> {
        let Draft { reading, compiled, facts, .. } = &*self.draft;
        World {
            compiled,
            inputs: &reading.inputs,
            mistakes: &reading.diagnostics,
            facts,
            router: self.view.router(),
            entry,
        }
    }
}
