//! Every command and flag, declared once: parsing, help, manual page and completions come from here.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub const DEFAULT_ADMIN: &str = "127.0.0.1:9180";

/// The whole production request path in front of Kubernetes services: DNS, certificates, routing and proxying, from a
/// folder of manifests.
#[derive(Debug, Parser)]
#[command(
    name = "cutwater",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "\
Examples:
  cutwater up examples/shop --echo       serve a folder, with an echo origin behind it
  cutwater explain shop.example.test     why a name works, or which link is broken
  cutwater check examples/broken         every mistake of a folder")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Up(Up),
    Check(Check),
    Explain(Explain),
    Origin(Origin),
    Snapshot(Snapshot),
    Upgrade(Upgrade),
    /// Print a shell's completion script
    #[command(
        after_help = "Examples:\n  cutwater completions bash > /etc/bash_completion.d/cutwater"
    )]
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Examples:\n  cutwater man > cutwater.1 && man ./cutwater.1")]
    Man,
}

/// Serve a folder of manifests
///
/// Reads every *.yaml, *.yml and *.json below DIR, answers DNS, terminates TLS and proxies. A change of a file is live
/// in milliseconds; a mistake is printed with its place, and the last good state serves on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater up examples/shop --echo
  cutwater up /etc/cutwater --bind 0.0.0.0 --port-offset 0 --advertise 203.0.113.7 --state /var/lib/cutwater

Signals: SIGTERM drains and exits with 0, a second one exits at once; SIGHUP reads the folder again; SIGUSR1
opens the file of the access log anew; SIGUSR2 upgrades as `cutwater upgrade` does.
Exit codes: 0 stopped, 1 could not start, 64 usage, 66 the folder cannot be read.")]
pub struct Up {
    /// Folder of manifests
    pub dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Added to every port of the manifests: 80 listens on 8080, DNS on 8053; 0 on a server
    #[arg(long, default_value_t = 8000, value_name = "N")]
    pub port_offset: u16,
    /// Address that DNS answers for served names; may be given more than once [default: the address of
    /// --bind, or 127.0.0.1 where that is a wildcard]
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Vec<IpAddr>,
    /// Address of health, metrics, snapshot and explain
    #[arg(long, default_value = DEFAULT_ADMIN, value_name = "ADDRESS:PORT")]
    pub admin: SocketAddr,
    /// Folder for the local CA, its certificates and SOA serials
    #[arg(long, default_value = "./.cutwater", value_name = "DIR")]
    pub state: PathBuf,
    /// Threads that serve requests; one for each processor by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Zone that this instance runs in (the node's label topology.kubernetes.io/zone); endpoints of it come
    /// first where a Service asks for that by `trafficDistribution`
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub zone: Option<String>,
    /// Node that this instance runs on, for Services with `trafficDistribution: PreferSameNode`
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub node: Option<String>,
    /// Nameserver to ask for the names of ExternalName Services that a policy allows; may be given more than
    /// once [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub resolver: Vec<SocketAddr>,
    /// Access log as JSON lines: a file, `-` for standard output, or `off`
    #[arg(long, default_value = "off", value_name = "FILE|-|off")]
    pub access_log: String,
    /// Answer, with the built-in origin, on every loopback endpoint of the folder where nothing listens
    #[arg(long)]
    pub echo: bool,
}

/// Report every mistake of a folder
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater check examples/broken
  cutwater check . --format sarif > cutwater.sarif

Exit codes: 0 no error, 1 errors, 2 the folder cannot be read, 64 usage.")]
pub struct Check {
    /// Folder of manifests
    pub dir: PathBuf,
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    pub format: CheckFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CheckFormat {
    Text,
    Json,
    Sarif,
}

/// Say why a name works, or which of its nine links is broken, and whose it is
///
/// Judges one request: GET https://HOST/ (http where no HTTPS listener serves it), or the URL given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutwater explain shop.example.test
  cutwater explain https://shop.example.test/api/cart --method POST --format json
  cutwater explain shop.example.test --from 203.0.113.9       is this client let in?
  cutwater explain shop.example.test --dir examples/shop      without an instance: nothing is probed

Exit codes: 0 whole, 1 to 9 the lowest broken link, 10 none is broken but one is unknown, 64 usage,
66 the folder cannot be read, 69 no instance to ask.")]
pub struct Explain {
    /// Hostname or URL
    #[arg(value_name = "HOST|URL")]
    pub host: String,
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// The client's address: whether address lists let it in
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    #[command(flatten)]
    pub source: Source,
    #[arg(long, value_enum, default_value_t = ExplainFormat::Text)]
    pub format: ExplainFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ExplainFormat {
    Text,
    Json,
}

/// Whom to ask: an instance, or a folder.
#[derive(Debug, Args)]
pub struct Source {
    /// Read a folder instead of asking an instance
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    pub dir: Option<PathBuf>,
    /// Admin address of the instance to ask
    #[arg(long, default_value = DEFAULT_ADMIN, value_name = "ADDRESS:PORT")]
    pub admin: SocketAddr,
}

/// Run an echo origin: it answers with a description of what it received
///
/// Paths: /status/N, /delay/MS, /bytes/N, /drip/N/MS, /stream, /close, and /ws for a WebSocket echo. HTTP/1.1 and h2c.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cutwater origin --listen 127.0.0.1:9000 --name blue\n  curl http://127.0.0.1:9000/status/503"
)]
pub struct Origin {
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Name in every answer
    #[arg(long, default_value = "origin")]
    pub name: String,
}

/// Print the compiled plan as JSON; there is never a key in it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cutwater snapshot --dir examples/shop\n  cutwater snapshot --admin 127.0.0.1:9180\n\nExit codes: 0 printed, 1 printed of a folder with mistakes, 64 usage, 66 the folder cannot be read, 69 no instance to ask."
)]
pub struct Snapshot {
    #[command(flatten)]
    pub source: Source,
}

/// Replace a running instance by a new process, without a lost connection
///
/// The instance starts its program anew, from the path and with the arguments that it was started with itself, and hands
/// every socket over. When the new process serves, the old one finishes what runs and ends; if it cannot serve, the old
/// one serves on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  install cutwater /usr/local/bin/cutwater && cutwater upgrade

Exit codes: 0 the new process serves, 1 it could not and the old one serves on, 64 usage, 69 no instance to ask.")]
pub struct Upgrade {
    /// Admin address of the instance, on this machine
    #[arg(long, default_value = DEFAULT_ADMIN, value_name = "ADDRESS:PORT")]
    pub admin: SocketAddr,
}
