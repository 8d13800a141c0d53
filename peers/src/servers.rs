//! nginx and HAProxy in the foreground, with one worker and no log: what is the same in every configuration.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command;

/// `http` is what stands in its section of that name. It writes below the folder only.
pub fn nginx(folder: &Path, http: &str) -> Result<Command> {
    let file = folder.join("nginx.conf");
    let within = folder.display();
    let text = format!(
        "daemon off;
worker_processes 1;
pid {within}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {within}/body;
    proxy_temp_path {within}/proxy;
    fastcgi_temp_path {within}/fastcgi;
    uwsgi_temp_path {within}/uwsgi;
    scgi_temp_path {within}/scgi;
{http}}}
"
    );
    fs::write(&file, text)?;
    let mut command = command("nginx")?;
    command.arg("-p").arg(folder).arg("-c").arg(file).args(["-e", "stderr"]);
    Ok(command)
}

/// `sections` are those behind `global`.
pub fn haproxy(folder: &Path, sections: &str) -> Result<Command> {
    let file = folder.join("haproxy.cfg");
    fs::write(&file, format!("global\n    nbthread 1\n    maxconn 8192\n{sections}"))?;
    let mut command = command("haproxy")?;
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

/// As nginx reads them, `chain.pem` and `key.pem`, and as HAProxy does, `both.pem`.
pub fn write_certificate(folder: &Path, chain_pem: &str, key_pem: &str) -> io::Result<()> {
    fs::write(folder.join("chain.pem"), chain_pem)?;
    fs::write(folder.join("key.pem"), key_pem)?;
    fs::write(folder.join("both.pem"), format!("{chain_pem}{key_pem}"))
}
