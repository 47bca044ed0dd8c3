// SPDX-License-Identifier: GPL-2.0

//! The core's rules: `struct mmu_notifier_subscriptions` of mm/mmu_notifier.c, function by
//! function.
//!
//! Each function is one step, because the core does it under its spinlock; where the core sleeps
//! the function says until when. Numbers of sequences are as in the core, without their wrapping.
//! The tree is a flag of each notifier. Left out: `hlist` notifiers, two-pass callbacks, and what
//! `mmgrab` is for.

use super::{
    set::Set,
    world::RANGES, //
};

/// `struct mmu_interval_notifier`, without what it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Notifier {
    /// `!RB_EMPTY_NODE()`.
    pub(super) in_tree: bool,
    /// On `deferred_list`, to be inserted if it is not in the tree, to be removed if it is.
    pub(super) deferred: bool,
    /// `invalidate_seq`.
    pub(super) seq: u8,
}

impl Notifier {
    /// Whether events reach it, or are going to.
    pub(super) fn is_registered(&self) -> bool {
        self.in_tree || self.deferred
    }
}

/// `struct mmu_notifier_subscriptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subscriptions {
    /// `invalidate_seq`.
    pub(super) seq: u8,
    /// `active_invalidate_ranges`.
    pub(super) active: u8,
    pub(super) notifiers: [Notifier; RANGES],
}

impl Subscriptions {
    pub(super) fn new() -> Self {
        Self {
            // As __mmu_notifier_register() has it.
            seq: 2,
            active: 0,
            notifiers: Default::default(),
        }
    }

    /// `mn_itree_is_invalidating()`
    pub(super) fn is_invalidating(&self) -> bool {
        self.seq & 1 == 1
    }

    /// `mn_itree_inv_start_range()`, and who is found one after the other: the tree does not change
    /// before the end of the phase.
    pub(super) fn inv_start(&mut self, intersects: impl Fn(usize) -> bool) -> (Set, u8) {
        self.active += 1;
        let mut found = Set::default();
        for id in 0..RANGES {
            if self.notifiers[id].in_tree && intersects(id) {
                found.add(id);
            }
        }
        if !found.is_empty() {
            self.seq |= 1;
        }
        (found, self.seq)
    }

    /// `mn_itree_inv_end()`
    pub(super) fn inv_end(&mut self) {
        self.active -= 1;
        if self.active > 0 || !self.is_invalidating() {
            return;
        }
        self.seq += 1;
        for notifier in &mut self.notifiers {
            if notifier.deferred {
                notifier.deferred = false;
                notifier.in_tree = !notifier.in_tree;
            }
        }
    }

    /// `mmu_interval_read_begin()` up to its sleep: the sequence, and whether to sleep until it is
    /// not that of the subscriptions any more.
    pub(super) fn read_begin(&self, id: usize) -> (u8, bool) {
        let seq = self.notifiers[id].seq;
        (seq, seq == self.seq)
    }

    /// `mmu_interval_read_retry()`
    pub(super) fn read_retry(&self, id: usize, seq: u8) -> bool {
        self.notifiers[id].seq != seq
    }

    /// `mmu_interval_set_seq()`
    pub(super) fn set_seq(&mut self, id: usize, seq: u8) {
        self.notifiers[id].seq = seq;
    }

    /// `__mmu_interval_notifier_insert()`
    pub(super) fn insert(&mut self, id: usize) {
        let mut notifier = Notifier::default();
        if self.active > 0 {
            if self.is_invalidating() {
                notifier.deferred = true;
            } else {
                self.seq |= 1;
                notifier.in_tree = true;
            }
            notifier.seq = self.seq;
        } else {
            notifier.seq = self.seq - 1;
            notifier.in_tree = true;
        }
        self.notifiers[id] = notifier;
    }

    /// `mmu_interval_notifier_remove()` up to its sleep: the sequence to sleep for, if any. And
    /// `mmu_interval_notifier_remove_start()`, which does the same and leaves the sleep to the
    /// other half.
    pub(super) fn remove(&mut self, id: usize) -> Option<u8> {
        let invalidating = self.is_invalidating();
        let notifier = &mut self.notifiers[id];
        if !invalidating {
            notifier.in_tree = false;
            return None;
        }
        if notifier.in_tree {
            notifier.deferred = true;
            return Some(self.seq);
        }
        notifier.deferred = false;
        None
    }

    /// Whether one whose removal has begun has left the tree (`mn_itree_is_gone()`).
    pub(super) fn is_gone(&self, id: usize) -> bool {
        !self.notifiers[id].deferred
    }

    /// Whether a sleep for `seq` is over (`mmu_interval_seq_released()`).
    pub(super) fn is_over(&self, seq: u8) -> bool {
        self.seq != seq
    }
}
