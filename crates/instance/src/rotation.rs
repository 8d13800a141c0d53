//! Rotation of the access log: SIGUSR1 says that its file was renamed, and its path is opened anew.

use telemetry::log_file::LogFile;
use tokio::signal::unix::Signal;

/// For as long as the process lives, while it drains too. Without a file the signal does nothing: by default it would end
/// the process.
pub async fn follow(mut signal: Signal, file: Option<LogFile>) {
    while signal.recv().await.is_some() {
        let Some(file) = file.clone() else { continue };
        // In a thread of its own: the disk may be slow.
        let opened = tokio::task::spawn_blocking(move || file.reopen().map_err(|e| (file, e)));
        if let Ok(Err((file, error))) = opened.await {
            eprintln!(
                "error: the access log {} cannot be opened anew: {error}; lines go on to the file that is open",
                file.path().display()
            );
        }
    }
}
