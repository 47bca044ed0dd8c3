// SPDX-License-Identifier: GPL-2.0

//! What a thread does, one thing at a time.

use crate::{
    device::{How, Reshape},
    model::Access,
};
use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    DeviceLoad {
        page: usize,
        word: usize,
        how: How,
    },
    DeviceStore {
        page: usize,
        word: usize,
        how: How,
    },
    CpuLoad {
        page: usize,
        word: usize,
    },
    CpuStore {
        page: usize,
        word: usize,
    },
    /// Where something may be mapped already.
    Map {
        pages: Range<usize>,
        access: Access,
        warm: usize,
    },
    Unmap {
        pages: Range<usize>,
        warm: usize,
    },
    Protect {
        pages: Range<usize>,
        access: Access,
        warm: usize,
    },
    /// `MADV_DONTNEED`: the content is dropped.
    Clear {
        pages: Range<usize>,
        warm: usize,
    },
    /// An advice that leaves the content as it is.
    Advise {
        pages: Range<usize>,
        advice: Advice,
    },
    /// `mremap()`. With `keep`, the addresses stay mapped (`MREMAP_DONTUNMAP`).
    Relocate {
        from: Range<usize>,
        to: usize,
        keep: bool,
        warm: usize,
    },
    /// `mremap()` in place, to fewer pages.
    Shrink {
        pages: Range<usize>,
        left: usize,
        warm: usize,
    },
    /// `mremap()` in place, to more pages.
    Grow {
        pages: Range<usize>,
        more: usize,
    },
    Fork {
        plan: ForkPlan,
    },
    /// The memory of another thread, whose content that does not change.
    Disturb {
        thread: usize,
        pages: Range<usize>,
        how: Disturbance,
    },
    Flush {
        released: bool,
    },
    /// The device's range at `page`, within `pages`.
    Reshape {
        page: usize,
        pages: Range<usize>,
        how: Reshape,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Cold,
    PageOut,
    /// For KSM.
    Mergeable,
    HugePage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    Cold,
    PageOut,
    Migrate,
}

/// What happens while there is a child: each entry is a page and a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkPlan {
    /// The CPU of the parent stores here, before the child looks.
    pub by_parent: (usize, usize),
    /// The parent's device does.
    pub by_device: (usize, usize),
    /// The child stores here.
    pub by_child: (usize, usize),
    /// What the child compares.
    pub compared: Range<usize>,
}

impl Op {
    pub fn name(&self) -> &'static str {
        match self {
            Op::DeviceLoad { .. } => "device load",
            Op::DeviceStore { .. } => "device store",
            Op::CpuLoad { .. } => "CPU load",
            Op::CpuStore { .. } => "CPU store",
            Op::Map { .. } => "mmap",
            Op::Unmap { .. } => "munmap",
            Op::Protect { .. } => "mprotect",
            Op::Clear { .. } => "madvise(DONTNEED)",
            Op::Advise { .. } => "madvise",
            Op::Relocate { keep: false, .. } => "mremap",
            Op::Relocate { keep: true, .. } => "mremap(DONTUNMAP)",
            Op::Shrink { .. } => "mremap, smaller",
            Op::Grow { .. } => "mremap, larger",
            Op::Fork { .. } => "fork",
            Op::Disturb { .. } => "another's madvise",
            Op::Flush { .. } => "flush",
            Op::Reshape {
                how: Reshape::Merge,
                ..
            } => "merge",
            Op::Reshape {
                how: Reshape::Grow, ..
            } => "growth",
        }
    }

    /// Has it to do with a page of its thread's?
    pub fn concerns(&self, page: usize) -> bool {
        match self {
            Op::DeviceLoad { page: this, .. }
            | Op::DeviceStore { page: this, .. }
            | Op::CpuLoad { page: this, .. }
            | Op::CpuStore { page: this, .. } => *this == page,
            Op::Map { pages, .. }
            | Op::Unmap { pages, .. }
            | Op::Protect { pages, .. }
            | Op::Clear { pages, .. }
            | Op::Advise { pages, .. }
            | Op::Shrink { pages, .. }
            | Op::Reshape { pages, .. } => pages.contains(&page),
            Op::Grow { pages, more } => (pages.start..pages.end + more).contains(&page),
            Op::Relocate { from, to, .. } => {
                from.contains(&page) || (*to..to + from.len()).contains(&page)
            }
            Op::Fork { plan } => {
                [plan.by_parent.0, plan.by_device.0, plan.by_child.0].contains(&page)
                    || plan.compared.contains(&page)
            }
            Op::Disturb { .. } | Op::Flush { .. } => false,
        }
    }
}
