//! The instance as the admin address sees it.

use crate::metrics;
use crate::probe::{self, Entrance};
use crate::publisher::Shared;
use explain::{Evidence, Question};
use serde_json::Value;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const NOT_YET: &str = "no snapshot yet: the folder has a mistake, see what `cutwater up` printed";

pub struct Admin(pub Arc<Shared>);

impl console::Subject for Admin {
    fn metrics(&self) -> String {
        metrics::render(&self.0)
    }

    fn ready(&self) -> Result<(), String> {
        if self.0.is_ready() {
            return Ok(());
        }
        if self.0.is_draining() {
            return Err(
                "draining: requests that run are finished, no new ones are taken".to_owned()
            );
        }
        Err(match self.0.serving() {
            None => {
                "no snapshot yet: the folder has a mistake, see the log of `cutwater up`".to_owned()
            }
            Some(_) => "not every worker serves the snapshot yet".to_owned(),
        })
    }

    fn snapshot(&self) -> Result<Value, String> {
        let serving = self.0.serving().ok_or(NOT_YET)?;
        Ok(report::plan::to_json(serving.snapshot(), &serving.draft.compiled.statuses))
    }

    async fn explain(&self, question: Question) -> Result<Value, String> {
        let serving = self.0.serving().ok_or(NOT_YET)?;
        let wanted = explain::wanted(&serving.world(&self.0.entry), &question);
        let evidence: Evidence = probe::gather(&self.entrance(), &wanted).await;
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        Ok(explain::to_json(&explain::explain(
            &serving.world(&self.0.entry),
            &question,
            &evidence,
            now,
        )))
    }
}

impl Admin {
    fn entrance(&self) -> Entrance {
        let shared = &self.0;
        Entrance {
            bind: shared.bind,
            port_offset: shared.entry.port_offset,
            nameserver: shared.nameserver_address(),
            ports: shared.ports(),
            local_ca_pem: shared.local_ca_pem.clone(),
        }
    }
}
