//! The instance as the admin address sees it.

use crate::checks;
use crate::external::{self, Names};
use crate::metrics;
use crate::probe::{self, Entrance};
use crate::publisher::Shared;
use crate::serving::Draft;
use crate::upgrade::Asker;
use explain::{Evidence, Nowhere, Probed, Question};
use model::Text;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const NOT_YET: &str = "no snapshot yet: the folder has a mistake, see what `cutwater up` printed";

pub struct Admin {
    pub shared: Arc<Shared>,
    pub asker: Arc<Asker>,
    pub names: Names,
}

impl console::Subject for Admin {
    fn metrics(&self) -> String {
        metrics::render(&self.shared)
    }

    fn ready(&self) -> Result<(), String> {
        if self.shared.is_ready() {
            return Ok(());
        }
        if self.shared.is_draining() {
            return Err(
                "draining: requests that run are finished, no new ones are taken".to_owned()
            );
        }
        Err(match self.shared.serving() {
            None => {
                "no snapshot yet: the folder has a mistake, see the log of `cutwater up`".to_owned()
            }
            Some(_) => "not every worker serves the snapshot yet".to_owned(),
        })
    }

    fn snapshot(&self) -> Result<Value, String> {
        let serving = self.shared.serving().ok_or(NOT_YET)?;
        Ok(report::plan::to_json(serving.snapshot(), &serving.draft.compiled.statuses))
    }

    async fn upgrade(&self) -> Result<Value, String> {
        let upgraded = self.asker.ask().await?;
        Ok(json!({
            "oldPid": upgraded.old_process,
            "newPid": upgraded.new_process,
            "oldVersion": env!("CARGO_PKG_VERSION"),
            "newVersion": upgraded.new_version,
            "milliseconds": upgraded.elapsed.as_millis() as u64,
        }))
    }

    async fn explain(&self, question: Question) -> Result<Value, String> {
        let serving = self.shared.serving().ok_or(NOT_YET)?;
        let wanted = explain::wanted(&serving.world(&self.shared.entry), &question);
        let mut evidence: Evidence = probe::gather(&self.entrance(), &wanted).await;
        evidence.names = Probed::Seen(self.faults_of(&wanted.names, &serving.draft));
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        Ok(explain::to_json(&explain::explain(
            &serving.world(&self.shared.entry),
            &question,
            &evidence,
            now,
        )))
    }
}

impl Admin {
    fn faults_of(&self, names: &[Text], draft: &Draft) -> BTreeMap<Text, Nowhere> {
        let servers = external::api_servers(&draft.reading.inputs, &draft.facts);
        names.iter().map(|name| (name.clone(), self.names.fault(name, &servers))).collect()
    }

    fn entrance(&self) -> Entrance<'_> {
        let shared = &self.shared;
        Entrance {
            registry: &shared.registry,
            bind: shared.bind,
            port_offset: shared.entry.port_offset,
            nameserver: shared.nameserver_address(),
            ports: shared.ports(),
            local_ca_pem: shared.local_ca_pem.clone(),
            out: checks::out(&shared.registry.live),
            failing: checks::failing(&shared.registry.live),
        }
    }
}
