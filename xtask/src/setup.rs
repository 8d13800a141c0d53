//! Running programs, and installing those that a new machine lacks.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// `cargo` of the toolchain that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs to success, or fails with the command line.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", line(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// True when a program of that name is on the path, or where Debian keeps daemons.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = PathBuf::from("/usr/sbin");
    std::env::split_paths(&path).chain([daemons]).any(|folder| folder.join(program).is_file())
}

/// Debian packages by the program that each brings. What cannot be had is said, and fails in CI.
pub fn debian(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install = || -> Result<()> {
        run(Command::new("apt-get").args(["-qq", "update"]))?;
        run(Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(&missing))
    };
    match install() {
        Ok(()) => Ok(()),
        Err(error) if in_ci() => Err(error),
        Err(error) => {
            eprintln!(
                "skipped: {} could not be installed ({error:#}); tests that need them say so",
                missing.join(", ")
            );
            Ok(())
        }
    }
}

/// A module of Python, by the package that brings it.
pub fn python_module(module: &str, package: &str) -> Result<()> {
    let import = format!("import {module}");
    let has_module = || {
        let imported = Command::new("python3").args(["-c", &import]).output();
        imported.is_ok_and(|output| output.status.success())
    };
    if has_module() {
        return Ok(());
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let installed = run(Command::new("python3").args(pip).arg(package)).or_else(|_| {
        run(Command::new("python3").args(pip).args(["--break-system-packages", package]))
    });
    match installed {
        Ok(()) if has_module() => Ok(()),
        _ => bail!("python3 has no module {module}, and {package} could not be installed"),
    }
}
