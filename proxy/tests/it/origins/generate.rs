//! The requests of a run, in an order that follows from its seed alone.

use proxy_common::fixture::fuzz::{Corpus, Dice};

use super::{
    draft::Draft,
    parts::{FOLLOWER, SMUGGLED, TOO_LARGE},
};

/// What a client sends over one connection, before its sentinel.
pub(super) enum Case {
    /// Bytes over HTTP/1.
    Bytes { made: Made, bytes: Vec<u8>, cuts: Vec<usize>, waits_at: Option<usize> },
    /// A request over HTTP/2.
    Http2(Draft),
}

/// How bytes were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// They are a request that must be served, or several.
    Meant,
    /// Some of them were changed.
    Mutated,
    /// They are an attempt at smuggling, or too large, and must be refused.
    Smuggled,
}

/// Makes cases for one host.
pub(super) struct Generator {
    host: String,
    dice: Dice,
    corpus: Corpus,
    /// What is sent once, before anything is left to chance; the last first.
    once: Vec<(Made, Vec<u8>)>,
}

impl Generator {
    pub(super) fn new(host: &str, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let short = |dice: &mut Dice| loop {
            let (bytes, _) = Draft::new(dice).render(host, dice);
            if bytes.len() < 2_000 {
                return bytes;
            }
        };
        let mut seeds: Vec<_> = (0..MEANT_SEEDS).map(|_| short(&mut dice)).collect();
        seeds.extend(SMUGGLED.map(|text| smuggled(text, host)));
        let parts = Draft::of_each_part();
        let meant = parts.iter().map(|draft| (Made::Meant, draft.render(host, &mut dice).0));
        let mut once: Vec<_> = meant.collect();
        once.extend(SMUGGLED.map(|text| (Made::Smuggled, smuggled(text, host))));
        let large = |text: &str| {
            text.replace("MANY", &"m".repeat(40_000)).replace("FIELDS", &"X-F: 1\r\n".repeat(300))
        };
        once.extend(TOO_LARGE.map(|text| (Made::Smuggled, smuggled(&large(text), host))));
        Self { host: host.to_owned(), corpus: Corpus::of("requests to origins", seeds), dice, once }
    }

    pub(super) fn next(&mut self) -> Case {
        if let Some((made, bytes)) = self.once.pop() {
            return self.bytes(made, bytes, None);
        }
        let dice = &mut self.dice;
        match dice.below(20) {
            0..8 => {
                let bytes = self.corpus.mutated(dice);
                self.bytes(Made::Mutated, bytes, None)
            }
            8..10 => loop {
                let draft = Draft::new(&mut self.dice);
                if !draft.is_of_http1_alone() {
                    return Case::Http2(draft);
                }
            },
            10 => {
                let count = 2 + dice.below(3);
                let pipelined =
                    (0..count).flat_map(|_| Draft::new(dice).render(&self.host, dice).0).collect();
                self.bytes(Made::Meant, pipelined, None)
            }
            _ => {
                let (bytes, waits_at) = Draft::new(dice).render(&self.host, dice);
                self.bytes(Made::Meant, bytes, waits_at)
            }
        }
    }

    fn bytes(&mut self, made: Made, bytes: Vec<u8>, waits_at: Option<usize>) -> Case {
        let count = if self.dice.below(4) == 0 { 1 + self.dice.below(4) } else { 0 };
        let mut cuts: Vec<_> = (0..count).map(|_| self.dice.below(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        Case::Bytes { made, bytes, cuts, waits_at }
    }
}

fn smuggled(text: &str, host: &str) -> Vec<u8> {
    format!("{text}{FOLLOWER}").replace("HERE", host).into_bytes()
}

const MEANT_SEEDS: usize = 80;
