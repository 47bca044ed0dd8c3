// SPDX-License-Identifier: GPL-2.0

//! What a thread did lately, for who has to find out what went wrong.

use crate::op::Op;
use std::collections::VecDeque;

/// How many operations are remembered, and how many of a page are told.
const REMEMBERED: usize = 100_000;
const TOLD: usize = 20;

#[derive(Default)]
pub struct History(VecDeque<(u64, Op)>);

impl History {
    pub fn push(&mut self, number: u64, op: Op) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((number, op));
    }

    /// The last operations that had to do with a page, oldest first; with any, if none is given.
    pub fn of(&self, page: Option<usize>) -> Vec<String> {
        let concerned = |(_, op): &&(u64, Op)| page.is_none_or(|page| op.concerns(page));
        let mut last: Vec<_> = self.0.iter().rev().filter(concerned).take(TOLD).collect();
        last.reverse();
        last.iter()
            .map(|(number, op)| format!("{number}: {op:?}"))
            .collect()
    }
}
