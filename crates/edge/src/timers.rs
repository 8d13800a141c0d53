//! Waits of workers, kept by one thread of the edge. A worker's own runtime has no timer: its `epoll_wait` then has no
//! time limit, which the kernel would set and lift, and nothing is computed about time whenever it goes to sleep.

use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior, Sleep};

/// The thread ends when the last of these is gone.
#[derive(Clone)]
pub(crate) struct Timers {
    runtime: Handle,
    _thread: std::sync::Arc<oneshot::Sender<()>>,
}

impl Timers {
    pub fn start() -> io::Result<Timers> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (held, all_gone) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("timers".to_owned());
        thread.spawn(move || {
            // An error is how the end is told.
            let _ = runtime.block_on(all_gone);
        })?;
        Ok(Timers { runtime: handle, _thread: std::sync::Arc::new(held) })
    }

    pub fn sleep(&self, time: Duration) -> Sleep {
        let _entered = self.runtime.enter();
        tokio::time::sleep(time)
    }

    /// Ticks at once, then at least this far apart.
    pub fn interval(&self, time: Duration) -> Interval {
        let _entered = self.runtime.enter();
        let mut ticks = tokio::time::interval(time);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_without_timers_waits_by_them() {
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
        let timers = Timers::start().expect("a thread");
        let start = std::time::Instant::now();
        runtime.block_on(async {
            let mut ticks = timers.interval(Duration::from_millis(5));
            ticks.tick().await;
            ticks.tick().await;
            timers.sleep(Duration::from_millis(5)).await;
        });
        assert!(start.elapsed() >= Duration::from_millis(10));
    }
}
