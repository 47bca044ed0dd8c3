// SPDX-License-Identifier: GPL-2.0

//! What was not as it must be.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A load saw something else than what was stored last.
    Value,
    /// An access was possible, or not, where it must be the other way round.
    Permission,
    /// The device still reaches a page that is gone.
    Reaches,
    /// The CPU does not see what the model says, so the model or the kernel is wrong.
    Cpu,
    /// A child saw what was none of its business.
    Child,
    /// There are more ranges than there is reason for.
    Ranges,
    /// The device lists a page that the process does not have there.
    Listed,
    /// Too few accesses were served from the mirror.
    Share,
    /// A system call failed that must not.
    Call,
}

#[derive(Debug)]
pub struct Mismatch {
    pub kind: Kind,
    pub what: String,
    /// Which page it is about.
    pub page: Option<usize>,
    pub thread: Option<usize>,
    pub number: u64,
    pub history: Vec<String>,
}

impl Mismatch {
    pub fn new(kind: Kind, page: Option<usize>, what: String) -> Self {
        Self {
            kind,
            what,
            page,
            thread: None,
            number: 0,
            history: Vec::new(),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(thread) = self.thread {
            write!(out, "thread {thread}, operation {}: ", self.number)?;
        }
        write!(out, "{:?}: {}", self.kind, self.what)?;
        if let Some(page) = self.page {
            write!(out, " (page {page})")?;
        }
        for line in &self.history {
            write!(out, "\n  {line}")?;
        }
        Ok(())
    }
}
