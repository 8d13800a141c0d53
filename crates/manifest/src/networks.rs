//! Lists of networks in ConfigMaps: one a line, `#` begins a comment. A mistake in a list that a policy names is one of
//! reading: nobody knows who was meant to be let in, so the last good state serves on.

use crate::codes;
use crate::inputs::Inputs;
use crate::kinds::edge_policy::EdgePolicy;
use crate::kinds::edge_policy_entry::{AddressesSection, ListReference};
use crate::kinds::kubernetes::ConfigMap;
use model::network::{BadNetwork, Network};
use model::{Diagnostic, Kind, ObjectId, Place, Text};
use std::collections::BTreeSet;

/// Mistakes of one list that are told; the others wait until these are mended.
const TOLD: usize = 20;

/// A line that is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine<'a> {
    /// From 1.
    pub number: usize,
    pub text: &'a str,
    pub fault: BadNetwork,
}

/// Networks line by line.
pub fn parse_list(list: &str) -> impl Iterator<Item = Result<Network, BadLine<'_>>> {
    (1..).zip(list.lines()).filter_map(|(number, line)| {
        let text = line.split('#').next().unwrap_or_default().trim();
        (!text.is_empty())
            .then(|| Network::parse(text).map_err(|fault| BadLine { number, text, fault }))
    })
}

impl EdgePolicy {
    /// Sections that name addresses, with their keys.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, &AddressesSection)> {
        let sections = [("peers", &self.peers), ("sources", &self.sources)];
        sections.into_iter().filter_map(|(key, section)| Some((key, &section.as_ref()?.0)))
    }
}

impl ListReference {
    /// The entries that are meant.
    pub fn entries<'a>(&'a self, map: &'a ConfigMap) -> impl Iterator<Item = (&'a Text, &'a Text)> {
        let wanted = self.key.as_ref();
        map.texts.iter().filter(move |(key, _)| wanted.is_none_or(|wanted| wanted == *key))
    }
}

/// What is wrong with the lists that policies name.
pub(crate) fn check(inputs: &Inputs) -> Vec<Diagnostic> {
    let mut checker = Checker { inputs, seen: BTreeSet::new(), found: Vec::new() };
    for (object, policy) in inputs.edge_policies() {
        for (key, section) in policy.addresses() {
            for (field, list) in section.lists() {
                checker.reference(&object.id, &format!("spec.{key}.{field}"), list);
            }
        }
    }
    checker.found
}

struct Checker<'a> {
    inputs: &'a Inputs,
    /// A list that several policies name is told of once.
    seen: BTreeSet<(&'a ObjectId, &'a Text)>,
    found: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    fn reference(&mut self, policy: &ObjectId, field: &str, list: &'a ListReference) {
        let Some((object, map)) = self.inputs.config_map(&policy.namespace, &list.config_map)
        else {
            return self.absent(policy, field, list);
        };
        if let Some(key) = list.key.as_ref().filter(|key| !map.texts.contains_key(*key)) {
            let message = format!("{} has no entry `{key}` under `data`", object.id);
            let keys = map.texts.keys().map(|key| &**key);
            let help = crate::suggest::did_you_mean(key, keys);
            return self.add(policy, &format!("{field}.key"), message, help);
        }
        for (key, text) in list.entries(map) {
            if self.seen.insert((&object.id, key)) {
                self.lines(&object.id, key, text);
            }
        }
    }

    fn absent(&mut self, policy: &ObjectId, field: &str, list: &ListReference) {
        let id = ObjectId::new(Kind::CONFIG_MAP, policy.namespace.clone(), list.config_map.clone());
        let maps = self.inputs.of(Kind::CONFIG_MAP);
        let near = maps.filter(|object| object.id.namespace == id.namespace);
        let help = match crate::suggest::nearest(&id.name, near.map(|object| &*object.id.name)) {
            Some(near) => format!("did you mean {near}?"),
            None => "write the ConfigMap, in the policy's own namespace".to_owned(),
        };
        self.add(policy, &format!("{field}.configMap"), format!("{id} does not exist"), help);
    }

    fn lines(&mut self, map: &ObjectId, key: &str, list: &str) {
        for bad in parse_list(list).filter_map(Result::err).take(TOLD) {
            let BadLine { number, text, fault } = &bad;
            let message = format!("line {number} of `{key}`: `{text}` is no network: {fault}");
            let help = "write one network a line, like 192.0.2.0/24; `#` begins a comment";
            self.add(map, "data", message, help.to_owned());
            let place = self.place_of(map, text);
            if let (Some(last), Some(place)) = (self.found.last_mut(), place) {
                last.place = Some(place);
            }
        }
    }

    /// The line as the file has it, where it stands there as it is meant.
    fn place_of(&self, map: &ObjectId, text: &str) -> Option<Place> {
        let origins = &self.inputs.origins;
        let data = origins.place(map, "data")?;
        let source = origins.source(&data.file)?;
        let behind = source.text.get(data.start as usize..)?;
        let mut start = data.start as usize;
        for line in behind.split_inclusive('\n') {
            if line.split('#').next().unwrap_or_default().trim() == text {
                let at = start + line.find(text)?;
                return Some(source.place(at as u32, (at + text.len()) as u32));
            }
            start += line.len();
        }
        None
    }

    fn add(&mut self, object: &ObjectId, field: &str, message: String, help: String) {
        let place = self.inputs.origins.place(object, field);
        let diagnostic = Diagnostic::new(&codes::BAD_ADDRESS_LIST, message).at(object, field);
        self.found.push(diagnostic.place(place).help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_comments_and_mistakes() {
        let text = "# edge\n192.0.2.0/24 # one\n\n  2001:db8::/32\r\n10.0.0.0/33\nnonsense\n";
        let shown: Vec<String> = parse_list(text)
            .map(|line| match line {
                Ok(network) => network.to_string(),
                Err(bad) => format!("{}: {}", bad.number, bad.text),
            })
            .collect();
        assert_eq!(shown, ["192.0.2.0/24", "2001:db8::/32", "5: 10.0.0.0/33", "6: nonsense"]);
    }
}
