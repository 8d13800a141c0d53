//! `cutwater up`: an instance over a folder, until a signal ends it.

use crate::cli::Up;
use crate::{exit, terminal};
use anyhow::Result;
use instance::{AccessLogTo, Config, StartError};
use model::facts::Locality;
use std::net::{IpAddr, Ipv4Addr};

pub fn run(arguments: Up) -> Result<u8> {
    telemetry::start_log();
    let config = Config {
        access_log: match arguments.access_log.as_str() {
            "off" => AccessLogTo::Off,
            "-" => AccessLogTo::Stdout,
            file => AccessLogTo::File(file.into()),
        },
        dir: arguments.dir,
        bind: arguments.bind,
        port_offset: arguments.port_offset,
        advertise: advertised(arguments.advertise, arguments.bind),
        admin: arguments.admin,
        state: arguments.state,
        workers: arguments.workers.map_or_else(processors, usize::from),
        resolver: arguments.resolver,
        here: Locality {
            zone: arguments.zone.map(Into::into),
            node: arguments.node.map(Into::into),
        },
        echo: arguments.echo,
        is_coloured: terminal::stderr_is_coloured(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let result = runtime.block_on(instance::run(config));
    // A thread that waits for somebody else (a pipe that nobody reads) does not keep us.
    runtime.shutdown_background();
    match result {
        Ok(()) => Ok(0),
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("{} {line}", terminal::paint_stderr(terminal::ERROR, "error:"));
            }
            Ok(if matches!(error, StartError::Folder(_)) { exit::NO_INPUT } else { exit::FAILED })
        }
    }
}

/// An entry that is bound to one address is reached there.
fn advertised(given: Vec<IpAddr>, bind: IpAddr) -> Vec<IpAddr> {
    match (given.is_empty(), bind.is_unspecified()) {
        (false, _) => given,
        (true, true) => vec![Ipv4Addr::LOCALHOST.into()],
        (true, false) => vec![bind],
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
