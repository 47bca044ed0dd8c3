// SPDX-License-Identifier: GPL-2.0

//! The device's page table, and what the device does through it.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};
use odp::{
    hmm::{
        Access,
        Page, //
    },
    Span, //
};

/// What the device does with memory.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    LoadByte,
    StoreByte(u8),
    /// An aligned word of 8 bytes.
    Load,
    Store(u64),
}

impl Operation {
    /// What it needs a page for.
    pub(crate) fn access(self) -> Access {
        match self {
            Operation::LoadByte | Operation::Load => Access::Read,
            Operation::StoreByte(_) | Operation::Store(_) => Access::Write,
        }
    }
}

/// The pages that the device can reach, by address. A real one's would have bus addresses in it.
///
/// # Invariants
///
/// It is the table of the user lock. What [`PageTable::install`] put in is taken out by
/// [`PageTable::clear`] in the first callback that names its address, or before there is no range
/// in service any more that would be called back for it: pieces of a range take its entries over.
pub(crate) struct PageTable(RBTree<usize, Page>);

/// Memory for an entry, which must not be allocated with the table locked.
pub(crate) type Reservation = RBTreeNodeReservation<usize, Page>;

impl PageTable {
    pub(crate) fn new() -> Self {
        // INVARIANT: There is nothing in it.
        Self(RBTree::new())
    }

    /// The entry of the page at `addr`.
    pub(crate) fn get(&self, addr: usize) -> Option<Page> {
        self.0.get(&addr).copied()
    }

    /// The entries from `start` on, with their addresses, in order.
    pub(crate) fn from(&self, start: usize) -> impl Iterator<Item = (usize, Page)> + '_ {
        let mut next = Some(start);
        core::iter::from_fn(move || {
            let cursor = self.0.cursor_lower_bound(&next?)?;
            let (addr, page) = cursor.current();
            next = addr.checked_add(PAGE_SIZE);
            Some((*addr, *page))
        })
    }

    /// Lets the device reach the page at `addr`.
    ///
    /// # Safety
    ///
    /// Called in the commit of the section in which `page` was found at `addr`.
    pub(crate) unsafe fn install(&mut self, addr: usize, page: Page, memory: Reservation) {
        // INVARIANT: The library calls us back before the page goes; see `Device`.
        self.0.insert(memory.into_node(addr, page));
    }

    /// Takes the pages in `span` from the device, and says how many there were. Allocates nothing.
    pub(crate) fn clear(&mut self, span: Span) -> u64 {
        let mut cleared = 0u64;
        while let Some(cursor) = self.0.cursor_lower_bound_mut(&span.start()) {
            if !span.contains(*cursor.current().0) {
                break;
            }
            let _ = cursor.remove_current();
            // A real device must have forgotten the page when this returns, TLB included.
            cleared = cleared.wrapping_add(1);
        }
        cleared
    }

    /// The device does something at `addr`, and gets a value if it loads.
    ///
    /// It needs a page that it has, and may write to if it stores: there is none in the answer if
    /// that would be a fault.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a word that is not aligned, `EFAULT` if the kernel has no access to the page.
    pub(crate) fn perform(&mut self, addr: usize, operation: Operation) -> Result<Option<u64>> {
        let offset = addr % PAGE_SIZE;
        // OVERFLOW: The remainder is not greater.
        let Some(page) = self.get(addr - offset) else {
            return Ok(None);
        };
        if operation.access() == Access::Write && !page.writable() {
            return Ok(None);
        }
        // By the type invariants the page was installed by a commit, and no callback has named it
        // since. That is what the following rest on: who has the table has the lock.
        match operation {
            Operation::LoadByte => {
                // SAFETY: By the type invariants it is still installed, and the caller has the
                // lock.
                unsafe { page.load_byte(offset) }.map(u64::from)
            }
            Operation::StoreByte(value) => {
                // SAFETY: By the type invariants it is still installed, and the caller has the
                // lock.
                unsafe { page.store_byte(offset, value) }.map(|()| 0)
            }
            Operation::Load => {
                // SAFETY: By the type invariants it is still installed, and the caller has the
                // lock.
                unsafe { page.load(offset) }
            }
            Operation::Store(value) => {
                // SAFETY: By the type invariants it is still installed, and the caller has the
                // lock.
                unsafe { page.store(offset, value) }.map(|()| 0)
            }
        }
        .map(Some)
    }
}
