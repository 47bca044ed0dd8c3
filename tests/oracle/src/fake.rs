// SPDX-License-Identifier: GPL-2.0

//! A device in user space, right or wrong in a way of one's choice.
//!
//! It accesses the real memory, but only through pages that it has had a fault for, and it is told
//! what has become of them.

use crate::{
    device::{Change, Device, How, Mirrored, Policy},
    model::{PAGE, WINDOW},
    pagemap::Pagemap,
    pipe::Pipe,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Keeps what was unmapped, and its content.
    StaleAfterUnmap,
    /// Does not use it while nothing is mapped there, but again once something is.
    StaleAfterRemap,
    /// Keeps what was cleared, and its content.
    StaleAfterClear,
    /// Forgets all pages but the last one.
    OnePageShort,
    /// Says that it has stored, now and then, and has not.
    LostStore,
    /// Stores in the word beside it.
    WrongWord,
    /// Does not notice that a page can no longer be stored to.
    IgnoresProtect,
    /// Says that it cannot access what it can.
    RefusesAccess,
    /// Goes by what was possible when it had the last fault.
    GrantsAccess,
    /// Never uses a page twice.
    AlwaysFaults,
    /// Forgets the window when it should forget a page.
    ForgetsTooMuch,
    /// Forgets pages, but no ranges.
    KeepsRanges,
    /// Has a range for each page.
    ManyRanges,
    /// Lists a page at the address of the next.
    ListsWrongly,
    /// Does not return.
    Hangs,
}

struct Entry {
    writable: bool,
    /// What was there when the page should have been forgotten.
    stale: Option<Vec<u64>>,
}

#[derive(Default)]
struct State {
    pages: BTreeMap<usize, Entry>,
    ranges: BTreeSet<usize>,
    stores: u64,
    accesses: u64,
}

pub struct Fake {
    flaw: Flaw,
    policy: Policy,
    pipe: Pipe,
    state: Mutex<State>,
    never: Condvar,
}

const WINDOW_BYTES: usize = WINDOW * PAGE;

fn page_of(address: usize) -> usize {
    address / PAGE * PAGE
}

impl Fake {
    pub fn new(policy: Policy, flaw: Flaw) -> Self {
        Self {
            flaw,
            policy,
            pipe: Pipe::new().expect("a pipe"),
            state: Mutex::default(),
            never: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.accesses += 1;
        if self.flaw == Flaw::Hangs && state.accesses > 100 {
            state = self
                .never
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if self.flaw == Flaw::AlwaysFaults {
            state.pages.clear();
        }
        state
    }

    fn fault(&self, state: &mut State, address: usize, writable: bool) {
        let grain = match self.flaw {
            Flaw::ManyRanges => PAGE,
            _ => WINDOW_BYTES,
        };
        state.ranges.insert(address / grain * grain);
        let page = Entry {
            writable,
            stale: None,
        };
        state.pages.insert(page_of(address), page);
    }

    /// What a device that forgot to forget the page would find there.
    fn content(&self, page: usize) -> Option<Vec<u64>> {
        (page..page + PAGE)
            .step_by(8)
            .map(|address| self.pipe.load(address).ok())
            .collect()
    }
}

fn error<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

impl Device for Fake {
    fn load(&self, address: usize, how: How) -> io::Result<(u64, u64)> {
        let mut state = self.lock();
        if self.flaw == Flaw::RefusesAccess && state.accesses % 1000 == 0 {
            return error(libc::EFAULT);
        }
        if let Some(entry) = state.pages.get(&page_of(address)) {
            match (&entry.stale, self.flaw) {
                (None, _) => return Ok((self.pipe.load(address)?, 0)),
                (Some(content), Flaw::StaleAfterRemap) => {
                    if self.pipe.load(address).is_ok() {
                        return Ok((content[address % PAGE / 8], 0));
                    }
                }
                (Some(content), _) => return Ok((content[address % PAGE / 8], 0)),
            }
        }
        if how == How::Cached {
            return error(libc::ENODATA);
        }
        let value = self.pipe.load(address)?;
        self.fault(&mut state, address, false);
        Ok((value, 1))
    }

    fn store(&self, address: usize, value: u64, how: How) -> io::Result<u64> {
        let mut state = self.lock();
        state.stores += 1;
        if self.flaw == Flaw::LostStore && state.stores % 100 == 0 {
            return self.pipe.load(address).map(|_| 0);
        }
        let address = match self.flaw {
            Flaw::WrongWord if state.stores % 100 == 0 => address ^ 8,
            _ => address,
        };
        let entry = state.pages.get(&page_of(address));
        if let Some(Entry { writable: true, .. }) = entry {
            // SAFETY: Nobody has a reference to what a test has the device access.
            let stored = unsafe { self.pipe.store(address, value) };
            if self.flaw == Flaw::IgnoresProtect {
                return Ok(0);
            }
            return stored.map(|()| 0);
        }
        if how == How::Cached {
            return error(libc::ENODATA);
        }
        // SAFETY: As above.
        let stored = unsafe { self.pipe.store(address, value) };
        if self.flaw == Flaw::GrantsAccess && self.pipe.load(address).is_ok() {
            return Ok(1);
        }
        stored?;
        self.fault(&mut state, address, true);
        Ok(1)
    }

    fn flush(&self, _released: bool) -> io::Result<()> {
        Ok(())
    }

    fn ranges(&self) -> io::Result<u64> {
        Ok(self.lock().ranges.len() as u64)
    }

    fn pages(&self, addresses: Range<usize>) -> io::Result<Vec<Mirrored>> {
        let pagemap = Pagemap::open("self")?;
        let state = self.lock();
        let pages = state.pages.range(addresses);
        let shift = match self.flaw {
            Flaw::ListsWrongly => PAGE,
            _ => 0,
        };
        pages
            .map(|(address, entry)| {
                Ok(Mirrored {
                    address: *address + shift,
                    frame: pagemap.frame(*address)?.unwrap_or(0),
                    writable: entry.writable,
                })
            })
            .collect()
    }

    fn changed(&self, addresses: Range<usize>, change: Change) {
        let mut state = self.lock();
        let mut gone = addresses.clone();
        match (self.flaw, change) {
            (Flaw::IgnoresProtect, Change::Protected) => return,
            (Flaw::OnePageShort, _) => gone.end -= PAGE,
            _ => {}
        }
        let whole = self.policy == Policy::Retire || self.flaw == Flaw::ForgetsTooMuch;
        if change == Change::Unmapped && whole {
            // Windows are given up as a whole, for other reasons than that the pages are gone.
            let windows = addresses.start / WINDOW_BYTES * WINDOW_BYTES
                ..addresses.end.next_multiple_of(WINDOW_BYTES);
            let beside = windows
                .step_by(PAGE)
                .filter(|page| !addresses.contains(page));
            for page in beside {
                state.pages.remove(&page);
            }
        }
        let keeps = matches!(
            (self.flaw, change),
            (Flaw::StaleAfterUnmap, Change::Unmapped)
                | (Flaw::StaleAfterRemap, Change::Unmapped)
                | (Flaw::StaleAfterClear, Change::Cleared)
        );
        let pages: Vec<_> = state.pages.range(gone).map(|(page, _)| *page).collect();
        for page in pages {
            if keeps {
                let content = self.content(page).unwrap_or(vec![0xdead; PAGE / 8]);
                if let Some(entry) = state.pages.get_mut(&page) {
                    entry.stale = Some(content);
                }
            } else {
                state.pages.remove(&page);
            }
        }
        if change == Change::Unmapped && self.flaw != Flaw::KeepsRanges {
            let mapped = |range: &usize| {
                let pages = (*range..range + WINDOW_BYTES).step_by(PAGE);
                self.policy == Policy::Punch
                    && pages.into_iter().any(|page| self.pipe.load(page).is_ok())
            };
            let first = addresses.start / WINDOW_BYTES * WINDOW_BYTES;
            let ranges: Vec<_> = state.ranges.range(first..addresses.end).copied().collect();
            for range in ranges.iter().filter(|range| !mapped(range)) {
                state.ranges.remove(range);
            }
        }
    }
}
