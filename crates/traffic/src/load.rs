//! What one worker knows of each endpoint: its own active requests, those of the other workers as of their last sweep,
//! and how long answers take. Not here: who is chosen by it (`balance`).

use crate::endpoint::{Endpoint, Outcome};
use std::num::NonZeroU64;

/// By number of the endpoint.
#[derive(Debug, Default)]
pub(crate) struct Loads(Vec<Load>);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Identity of the endpoint that it is of; None before there was one.
    of: Option<NonZeroU64>,
    active: u32,
    /// What the other workers were told.
    shown: u32,
    /// Active requests of the other workers.
    others: u32,
    latency: Option<Latency>,
    requests: u32,
    successes: u32,
}

/// Moving average, and when it was last moved.
#[derive(Clone, Copy, Debug)]
struct Latency {
    us: f64,
    moved_ms: u64,
}

impl Loads {
    pub fn of(&self, endpoint: &Endpoint) -> Load {
        let load = self.0.get(endpoint.number() as usize);
        let own = load.filter(|load| load.of == Some(endpoint.identity()));
        own.copied().unwrap_or_default()
    }

    /// A number has another endpoint once nobody holds the one before: with it goes what was shown and known of it.
    pub fn of_mut(&mut self, endpoint: &Endpoint) -> &mut Load {
        let at = endpoint.number() as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, Load::default());
        }
        let load = &mut self.0[at];
        let of = Some(endpoint.identity());
        if load.of != of {
            *load = Load { of, ..Load::default() };
        }
        load
    }
}

impl Load {
    pub fn begin(&mut self) {
        self.active += 1;
    }

    pub fn end(&mut self, outcome: Option<Outcome>, latency_us: Option<u64>, now_ms: u64) {
        self.active = self.active.saturating_sub(1);
        self.requests += u32::from(outcome.is_some());
        self.successes += u32::from(outcome == Some(Outcome::Success));
        if let Some(latency_us) = latency_us {
            self.observe(latency_us as f64, now_ms);
        }
    }

    /// Shows the other workers what this one has, and takes in what they showed.
    pub fn exchange(&mut self, endpoint: &Endpoint) {
        let all = endpoint.exchange_active(self.shown, self.active);
        self.shown = self.active;
        self.others = all.wrapping_sub(self.active);
        let (requests, successes) = (self.requests, self.successes);
        (self.requests, self.successes) = (0, 0);
        if requests > 0 {
            endpoint.add_requests(requests, successes);
        }
    }

    pub fn queue(&self) -> f64 {
        f64::from(self.active) + f64::from(self.others) + 1.0
    }

    /// By latency times queue. One of which nothing is known is held for as quick as the other: it gets its share, and
    /// no more while its answers are awaited.
    pub fn is_sooner(&self, other: &Load, now_ms: u64) -> bool {
        match (self.latency_us(now_ms), other.latency_us(now_ms)) {
            (Some(own), Some(others)) => own * self.queue() < others * other.queue(),
            _ => self.queue() < other.queue(),
        }
    }

    /// Less by and by while it is idle, so that it is tried again; while requests wait there, silence is no good sign.
    fn latency_us(&self, now_ms: u64) -> Option<f64> {
        let latency = self.latency.filter(|latency| latency.age_ms(now_ms) < FORGOTTEN_MS)?;
        let weight = if self.active > 0 { 1.0 } else { latency.weight(now_ms) };
        Some(latency.us * weight + 1.0)
    }

    /// Up at once, down slowly: a peak is remembered.
    fn observe(&mut self, us: f64, now_ms: u64) {
        let known =
            self.latency.filter(|known| us < known.us && known.age_ms(now_ms) < FORGOTTEN_MS);
        let us = known.map_or(us, |known| {
            let weight = known.weight(now_ms);
            known.us * weight + us * (1.0 - weight)
        });
        self.latency = Some(Latency { us, moved_ms: now_ms });
    }
}

impl Latency {
    fn age_ms(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.moved_ms)
    }

    fn weight(self, now_ms: u64) -> f64 {
        (-(self.age_ms(now_ms) as f64) / DECAY_MS).exp()
    }
}

/// After this time a third of a peak is left.
const DECAY_MS: f64 = 10_000.0;
/// After this time a latency says nothing any more.
const FORGOTTEN_MS: u64 = 30_000;
