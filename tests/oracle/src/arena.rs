// SPDX-License-Identifier: GPL-2.0

//! The real memory: addresses that one thread maps, unmaps and accesses.

use crate::model::{Access, PAGE, PAGES, STRIDE};
use std::{io, ops::Range, ptr};

/// Far below what the kernel gives away by itself, so that a hole stays one until we map it.
const FIRST: usize = 0x1000_0000_0000;

/// Between the arenas of two threads. They share no page table, and neither a huge page.
const APART: usize = 1 << 30;

/// Of <linux/mempolicy.h>.
const MPOL_MF_MOVE: i32 = 2;

/// Which arena an address would be in, and where.
pub fn place(address: usize) -> (usize, usize) {
    let offset = address.wrapping_sub(FIRST);
    (offset / APART, offset % APART)
}

/// The addresses of a thread. Nobody has a reference to anything in them.
#[derive(Clone, Copy)]
pub struct Arena {
    start: usize,
}

impl Arena {
    /// Those of thread `number`.
    pub fn new(number: usize) -> Self {
        Self {
            start: FIRST + number * APART,
        }
    }

    pub fn page_address(&self, page: usize) -> usize {
        self.start + page * PAGE
    }

    pub fn address(&self, page: usize, word: usize) -> usize {
        self.page_address(page) + word * STRIDE * size_of::<u64>()
    }

    pub fn addresses(&self, pages: &Range<usize>) -> Range<usize> {
        self.page_address(pages.start)..self.page_address(pages.end)
    }

    pub fn all(&self) -> Range<usize> {
        self.addresses(&(0..PAGES))
    }

    pub fn map(&self, pages: &Range<usize>, access: Access) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let (start, len) = self.at(pages);
        // SAFETY: Nobody has a reference to what is there.
        let mapped = unsafe { libc::mmap(start, len, protection(access), flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    pub fn unmap(&self, pages: &Range<usize>) -> io::Result<()> {
        let (start, len) = self.at(pages);
        // SAFETY: As above.
        checked(unsafe { libc::munmap(start, len) })
    }

    pub fn protect(&self, pages: &Range<usize>, access: Access) -> io::Result<()> {
        let (start, len) = self.at(pages);
        // SAFETY: As above.
        checked(unsafe { libc::mprotect(start, len, protection(access)) })
    }

    pub fn advise(&self, pages: &Range<usize>, advice: i32) -> io::Result<()> {
        let (start, len) = self.at(pages);
        // SAFETY: As above.
        checked(unsafe { libc::madvise(start, len, advice) })
    }

    /// Moves, shrinks or grows what is mapped at `from`, to be at `to`.
    pub fn remap(&self, from: &Range<usize>, to: &Range<usize>, flags: i32) -> io::Result<()> {
        let (start, len) = self.at(from);
        let (new_start, new_len) = self.at(to);
        // SAFETY: As above; without MREMAP_MAYMOVE it stays in place.
        let mapped = unsafe { libc::mremap(start, len, new_len, flags, new_start) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Moves the page to a node. It need not exist, nor may there be another node.
    pub fn migrate(&self, page: usize, node: i32) {
        let pages = [self.page_address(page)];
        let (nodes, mut status) = ([node], [0i32]);
        // SAFETY: The arrays have one element each, as it says.
        unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0,
                pages.len(),
                pages.as_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                MPOL_MF_MOVE,
            )
        };
    }

    /// The CPU loads a word of a page that it can load from.
    pub fn load(&self, page: usize, word: usize) -> u64 {
        // SAFETY: The caller's model says that it is mapped; if it is not, a signal tells.
        unsafe { ptr::read_volatile(self.address(page, word) as *const u64) }
    }

    pub fn store(&self, page: usize, word: usize, value: u64) {
        // SAFETY: As above. Nothing but words of tests is there.
        unsafe { ptr::write_volatile(self.address(page, word) as *mut u64, value) }
    }

    /// The word at an offset that is a multiple of 8, in a page that the CPU can load from.
    pub fn load_any(&self, page: usize, index: usize) -> u64 {
        let address = self.page_address(page) + index * size_of::<u64>();
        // SAFETY: As above.
        unsafe { ptr::read_volatile(address as *const u64) }
    }

    fn at(&self, pages: &Range<usize>) -> (*mut libc::c_void, usize) {
        (self.page_address(pages.start) as *mut _, pages.len() * PAGE)
    }
}

fn protection(access: Access) -> i32 {
    match access {
        Access::Unmapped | Access::Nothing => libc::PROT_NONE,
        Access::Load => libc::PROT_READ,
        Access::Store => libc::PROT_READ | libc::PROT_WRITE,
    }
}

fn checked(status: i32) -> io::Result<()> {
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
