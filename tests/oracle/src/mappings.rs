// SPDX-License-Identifier: GPL-2.0

//! Where a process has something mapped.

use std::{fs, io, ops::Range};

/// In order of address, and none touches the next.
pub struct Mappings(Vec<Range<usize>>);

impl Mappings {
    pub fn of(pid: i32) -> io::Result<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/maps"))?)
            .ok_or_else(|| io::Error::other("/proc/*/maps has a line that is not understood"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut mappings: Vec<Range<usize>> = Vec::new();
        for line in text.lines() {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            match mappings.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => mappings.push(start..end),
            }
        }
        Some(Self(mappings))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Range<usize>> {
        self.0.iter()
    }

    /// Is something of that mapped?
    pub fn overlap(&self, addresses: &Range<usize>) -> bool {
        let next = self.0.partition_point(|one| one.end <= addresses.start);
        self.0
            .get(next)
            .is_some_and(|one| one.start < addresses.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one() {
        let text = "1000-2000 rw-p 0 00:00 0\n2000-3000 r--p 0 00:00 0 [heap]\n5000-6000 r-xp 0 8:1 7 /x y\n";
        let mappings = Mappings::parse(text).expect("is understood");
        assert_eq!(mappings.0, [0x1000..0x3000, 0x5000..0x6000]);
        assert!(mappings.overlap(&(0x2fff..0x4000)) && mappings.overlap(&(0..0x1001)));
        assert!(!mappings.overlap(&(0x3000..0x5000)) && !mappings.overlap(&(0x6000..0x9000)));
        assert!(Mappings::parse("nonsense").is_none());
    }
}
