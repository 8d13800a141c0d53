//! The nine links between a name and a ready pod. Exit codes, diagnostics and explanations count by them.

use std::fmt;

/// One link of the chain; its number is part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    Name = 1,
    Resolution,
    Routing,
    Tls,
    Policy,
    LoadBalancer,
    Gateway,
    Service,
    Pod,
}

impl Link {
    pub const ALL: [Link; 9] = [
        Link::Name,
        Link::Resolution,
        Link::Routing,
        Link::Tls,
        Link::Policy,
        Link::LoadBalancer,
        Link::Gateway,
        Link::Service,
        Link::Pod,
    ];

    pub const fn number(self) -> u8 {
        self as u8
    }

    pub const fn name(self) -> &'static str {
        match self {
            Link::Name => "name",
            Link::Resolution => "resolution",
            Link::Routing => "routing",
            Link::Tls => "tls",
            Link::Policy => "policy",
            Link::LoadBalancer => "load balancer",
            Link::Gateway => "gateway",
            Link::Service => "service",
            Link::Pod => "pod",
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_from_one_to_nine() {
        let numbers: Vec<u8> = Link::ALL.iter().map(|l| l.number()).collect();
        assert_eq!(numbers, (1..=9).collect::<Vec<u8>>());
    }
}
