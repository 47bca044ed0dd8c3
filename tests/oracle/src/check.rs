// SPDX-License-Identifier: GPL-2.0

//! Looks at processes that have a mirror, from outside: does the device have what the process has?
//!
//! Nobody knows what a foreign program has done, but while it is stopped, two things can be said.
//! Each page that the device has is one that the process has at that address. And each range is
//! where something is mapped: all ranges are found by looking there. That is stricter than a bound
//! on their number, which would have to allow for each window that anything is mapped in.

use crate::{
    device::{Device, Mirrored},
    mappings::Mappings,
    mirror::Mirror,
    model::{PAGE, WINDOW},
    pagemap::Pagemap,
    process::Process,
};
use std::{collections::BTreeSet, io, ops::Range, time::Duration};

#[derive(clap::Args)]
pub struct Options {
    /// Look at all processes, again and again, until this one ends.
    #[arg(long, value_name = "PID")]
    until_end_of: i32,

    /// How long to leave them alone in between, in milliseconds.
    #[arg(long, default_value_t = 200)]
    pause: u64,
}

/// How often something is looked at that seems wrong: the kernel may move a page at any time, and
/// what is given up is released a little later.
const LOOKS: usize = 3;

/// User space.
const ALL: Range<usize> = 0..0x7fff_ffff_f000;

#[derive(Default)]
struct Seen {
    looks: u64,
    /// In how many of them all ranges were found.
    counted: u64,
    pages: usize,
    ranges: u64,
    most_pages: usize,
    inserted: u64,
    split: u64,
    wrong: Vec<String>,
}

/// Returns whether everything was as it must be.
pub fn main(options: &Options) -> bool {
    let mut seen = Seen::default();
    // If it is gone, there is nothing to be seen.
    if let Ok(first) = Process::open(options.until_end_of) {
        while !first.ends_within(Duration::from_millis(options.pause)) {
            for process in Process::mirrored().unwrap_or_default() {
                look_at(&process, &mut seen);
            }
        }
    }
    println!(
        "# {} looks, {} found all ranges; {} pages, {} at most at once; {} ranges; {} inserted, {} split or shrunk",
        seen.looks, seen.counted, seen.pages, seen.most_pages, seen.ranges, seen.inserted, seen.split
    );
    for wrong in &seen.wrong {
        println!("# {wrong}");
    }
    seen.wrong.is_empty()
}

fn look_at(process: &Process, seen: &mut Seen) {
    let mut wrong = Ok(Vec::new());
    // Whatever fails because it has ended is no news.
    let Ok(_stopped) = process.stop() else {
        return;
    };
    for _ in 0..LOOKS {
        wrong = look(process, seen);
        if matches!(&wrong, Ok(found) if found.is_empty()) {
            seen.looks += 1;
            return;
        }
    }
    match wrong {
        Ok(found) => seen.wrong.extend(
            found
                .iter()
                .map(|what| format!("process {}: {what}", process.pid)),
        ),
        Err(error) if is_gone(process, &error) => {}
        Err(error) => seen.wrong.push(format!("process {}: {error}", process.pid)),
    }
}

/// It has ended, or is about to, or has closed its file.
fn is_gone(process: &Process, error: &io::Error) -> bool {
    process.ends_within(Duration::ZERO)
        || error.kind() == io::ErrorKind::NotFound
        || [Some(libc::ESRCH), Some(libc::EBADF)].contains(&error.raw_os_error())
}

fn look(process: &Process, seen: &mut Seen) -> io::Result<Vec<String>> {
    let mirror = process.mirror()?;
    mirror.flush(false)?;
    let pages = mirror.pages(ALL)?;
    let pagemap = Pagemap::open(&process.pid.to_string())?;
    let mappings = Mappings::of(process.pid)?;
    let mut wrong = Vec::new();
    for page in &pages {
        let frame = pagemap.frame(page.address)?;
        if !mappings.overlap(&(page.address..page.address + PAGE)) {
            wrong.push(format!("the device has {page:x?}, and nothing is mapped"));
        } else if frame != Some(page.frame) {
            wrong.push(format!("the device has {page:x?}, the process {frame:x?}"));
        }
    }
    let stats = mirror.stats()?;
    let found = count_ranges(&mirror, &pages, &mappings, stats.ranges)?;
    match found {
        Some(found) if found < stats.ranges => wrong.push(format!(
            "{} ranges, and only {found} of them where something is mapped",
            stats.ranges
        )),
        Some(_) => seen.counted += 1,
        None => {}
    }
    if wrong.is_empty() {
        seen.pages += pages.len();
        seen.most_pages = seen.most_pages.max(pages.len());
        seen.ranges += stats.ranges;
        seen.inserted = seen.inserted.max(stats.inserted);
        seen.split = seen.split.max(stats.replaced);
    }
    Ok(wrong)
}

/// In how many places a range is looked for: the process is stopped meanwhile.
const PLACES: usize = 200_000;

/// How many ranges there are where something is mapped; it is enough to find `most`. Nothing if
/// there are too many places to look for them.
fn count_ranges(
    mirror: &Mirror,
    pages: &[Mirrored],
    mappings: &Mappings,
    most: u64,
) -> io::Result<Option<u64>> {
    let mut found = BTreeSet::new();
    // Most ranges have a page, so they are found soon.
    let first = pages.iter().map(|page| page.address);
    let begin = |mapping: &Range<usize>| mapping.start / PAGE;
    let windows = mappings
        .iter()
        .flat_map(|mapping| (begin(mapping)..mapping.end / PAGE).step_by(WINDOW));
    let all = mappings
        .iter()
        .flat_map(|mapping| begin(mapping)..mapping.end / PAGE);
    let places = first.chain(windows.chain(all).map(|page| page * PAGE));
    let mut known = 0..0;
    for (number, place) in places.enumerate() {
        if found.len() as u64 >= most {
            break;
        }
        if number == PLACES {
            return Ok(None);
        }
        if known.contains(&place) {
            continue;
        }
        if let Some(range) = mirror.range(place)? {
            if mappings.overlap(&range) {
                found.insert(range.start);
            }
            known = range;
        }
    }
    Ok(Some(found.len() as u64))
}
