// SPDX-License-Identifier: GPL-2.0

//! What the memory of an arena must look like: the shadow that everything is compared with.

use crate::device::Policy;
use std::ops::Range;

pub const PAGE: usize = 4096;

/// How many pages an arena has: as many as a huge page.
pub const PAGES: usize = 512;

/// How many pages the device mirrors around a fault.
pub const WINDOW: usize = 16;

/// How many words of each page are used. The others stay zero.
pub const WORDS: usize = 16;

/// The distance of the words that are used, in words.
pub const STRIDE: usize = PAGE / size_of::<u64>() / WORDS;

/// What a CPU may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Access {
    Unmapped,
    Nothing,
    Load,
    Store,
}

#[derive(Clone, Copy)]
pub struct Page {
    pub access: Access,
    pub words: [u64; WORDS],
}

const UNMAPPED: Page = Page {
    access: Access::Unmapped,
    words: [0; WORDS],
};

/// What the device may have done about a window.
#[derive(Clone, Copy, Default)]
struct Window {
    /// It accessed a page that was mapped, or has a range from beside it.
    touched: bool,
    /// At some time, part of it was mapped and part was not.
    torn: bool,
}

pub struct Model {
    policy: Policy,
    pages: Vec<Page>,
    windows: Vec<Window>,
}

impl Model {
    /// Of an arena in which nothing is mapped.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            pages: vec![UNMAPPED; PAGES],
            windows: vec![Window::default(); PAGES / WINDOW],
        }
    }

    pub fn page(&self, page: usize) -> &Page {
        &self.pages[page]
    }

    pub fn can_load(&self, page: usize) -> bool {
        self.pages[page].access >= Access::Load
    }

    pub fn can_store(&self, page: usize) -> bool {
        self.pages[page].access == Access::Store
    }

    pub fn is_mapped(&self, page: usize) -> bool {
        self.pages[page].access != Access::Unmapped
    }

    pub fn store(&mut self, page: usize, word: usize, value: u64) {
        self.pages[page].words[word] = value;
    }

    /// New memory, whatever was there before.
    pub fn map(&mut self, pages: Range<usize>, access: Access) {
        self.unmap(pages.clone());
        self.protect(pages.clone(), access);
        self.look_for_tears(&pages);
    }

    pub fn unmap(&mut self, pages: Range<usize>) {
        for page in pages.clone() {
            // The range around it is given up.
            if self.policy == Policy::Retire && self.is_mapped(page) {
                self.windows[page / WINDOW].touched = false;
            }
            self.pages[page] = UNMAPPED;
        }
        self.look_for_tears(&pages);
    }

    fn look_for_tears(&mut self, pages: &Range<usize>) {
        for window in pages.start / WINDOW..pages.end.div_ceil(WINDOW) {
            let mapped = self.mapped_in(window);
            self.windows[window].torn |= mapped != 0 && mapped != WINDOW;
        }
    }

    fn mapped_in(&self, window: usize) -> usize {
        let pages = window * WINDOW..(window + 1) * WINDOW;
        pages.filter(|page| self.is_mapped(*page)).count()
    }

    pub fn protect(&mut self, pages: Range<usize>, access: Access) {
        for page in &mut self.pages[pages] {
            page.access = access;
        }
    }

    /// The content is dropped, which anonymous memory answers with zeroes.
    pub fn clear(&mut self, pages: Range<usize>) {
        for page in &mut self.pages[pages] {
            page.words = [0; WORDS];
        }
    }

    /// The pages are moved to `to`; what is left are zeroes, or nothing.
    pub fn relocate(&mut self, from: Range<usize>, to: usize, keep: bool) {
        let moved = self.pages[from.clone()].to_vec();
        let target = to..to + moved.len();
        self.unmap(target.clone());
        self.pages[target.clone()].copy_from_slice(&moved);
        self.look_for_tears(&target);
        if keep {
            self.clear(from);
        } else {
            self.unmap(from);
        }
    }

    /// The device tries to access a page.
    pub fn touch(&mut self, page: usize) {
        if self.is_mapped(page) {
            self.windows[page / WINDOW].touched = true;
        }
    }

    /// A range may have grown to `pages`, where the device has accessed nothing.
    pub fn grow(&mut self, pages: &Range<usize>) {
        if self.policy == Policy::Punch {
            for window in pages.start / WINDOW..pages.end.div_ceil(WINDOW) {
                self.windows[window].touched = true;
            }
        }
    }

    /// How many ranges there may be when nothing is on its way out.
    ///
    /// A window is mirrored as one range. If unmapping retires, that is one since the window was
    /// last touched by that. If it punches, what is unmapped cuts the range in pieces, what is
    /// mapped again there gets others, and pieces may merge and grow, but each has a page that is
    /// mapped. A range may also be as it was, if all of it is mapped again before the worker looks.
    ///
    /// Ranges that merge only become fewer, over windows as well.
    pub fn most_ranges(&self) -> u64 {
        let most = |(number, window): (usize, &Window)| match self.policy {
            _ if !window.touched || self.mapped_in(number) == 0 => 0,
            Policy::Punch if window.torn => self.mapped_in(number) as u64,
            _ => 1,
        };
        self.windows.iter().enumerate().map(most).sum()
    }

    /// How many windows the device may have ranges in.
    pub fn windows(&self) -> u64 {
        let touched = |number: &usize| self.windows[*number].touched && self.mapped_in(*number) > 0;
        (0..self.windows.len()).filter(touched).count() as u64
    }

    /// The longest run of mapped pages at the beginning of `pages`.
    pub fn mapped_run(&self, pages: Range<usize>) -> Range<usize> {
        let end = pages.clone().find(|page| !self.is_mapped(*page));
        pages.start..end.unwrap_or(pages.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_memory_reads_zero() {
        let mut model = Model::new(Policy::Retire);
        model.map(3..5, Access::Store);
        model.store(4, 7, 9);
        assert_eq!(model.page(4).words[7], 9);
        model.map(4..5, Access::Load);
        assert_eq!(model.page(4).words[7], 0);
        assert!(model.can_load(4) && !model.can_store(4) && model.can_store(3));
    }

    #[test]
    fn what_is_moved_takes_its_access_along() {
        let mut model = Model::new(Policy::Retire);
        model.map(0..2, Access::Store);
        model.store(1, 0, 5);
        model.protect(1..2, Access::Load);
        model.relocate(0..2, 8, false);
        assert!(!model.is_mapped(0) && !model.is_mapped(1));
        assert_eq!(model.page(9).words[0], 5);
        assert_eq!(model.page(9).access, Access::Load);
        model.relocate(8..10, 0, true);
        assert_eq!(model.page(1).words[0], 5);
        assert_eq!(model.page(9).words[0], 0);
        assert_eq!(model.page(9).access, Access::Load);
    }

    #[test]
    fn ranges_are_counted_by_window() {
        let most = |policy| {
            let mut model = Model::new(policy);
            let mut most = Vec::new();
            model.map(0..PAGES, Access::Store);
            most.push(model.most_ranges());
            model.touch(0);
            model.touch(WINDOW);
            most.push(model.most_ranges());
            model.unmap(1..2);
            most.push(model.most_ranges());
            // It has been torn, even if it is whole again.
            model.map(1..2, Access::Store);
            model.touch(1);
            most.push(model.most_ranges());
            model.unmap(0..WINDOW);
            most.push(model.most_ranges());
            most
        };
        assert_eq!(most(Policy::Retire), [0, 2, 1, 2, 1]);
        assert_eq!(most(Policy::Punch), [0, 2, 16, 17, 1]);
    }

    #[test]
    fn a_run_ends_where_nothing_is_mapped() {
        let mut model = Model::new(Policy::Retire);
        model.map(0..4, Access::Nothing);
        model.unmap(2..3);
        assert_eq!(model.mapped_run(0..4), 0..2);
        assert_eq!(model.mapped_run(2..4), 2..2);
        assert_eq!(model.mapped_run(3..4), 3..4);
    }
}
