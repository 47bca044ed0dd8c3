// SPDX-License-Identifier: GPL-2.0

//! What must be true when the threads have stopped.

use crate::{
    arena::Arena,
    choice::FLOOR,
    device::{Device, How, Policy},
    mismatch::{Kind, Mismatch},
    model::{Access, Model, PAGE, PAGES, STRIDE, WORDS},
    pagemap::Pagemap,
    player::{call, Player, Result},
    tally::Tally,
};

/// How often a page is looked at that seems to be elsewhere: the kernel may move it at any time.
const LOOKS: usize = 3;

/// The least share of pages, in percent, that survive the unmapping of what is beside them, if that
/// punches. One is loaded right before and right after, so only what another thread or the kernel
/// does in between may take it away, which is one in a hundred operations if it hits; and what cuts
/// a huge page, for all of that is taken away at once. There is one of those for ten such calls at
/// most, for it takes a mapping of everything to get one. So it is nine of ten, or none if all is
/// given up.
const KEPT_FLOOR: u64 = 50;

/// While the memory is still there.
pub fn of_the_living(players: &mut [Player<'_>], device: &dyn Device, tally: &mut Tally) -> Result {
    bounded(players, device, tally)?;
    for player in &mut *players {
        listed(&player.arena, &player.model, device).map_err(|mismatch| player.sign(mismatch))?;
        whole(player)?;
    }
    // The device has touched everything now.
    bounded(players, device, tally)
}

fn bounded(players: &[Player<'_>], device: &dyn Device, tally: &mut Tally) -> Result {
    call("flush", device.flush(true))?;
    let most = players
        .iter()
        .map(|player| player.model.most_ranges())
        .sum();
    let ranges = call("stats", device.ranges())?;
    tally.ranges = ranges;
    tally.windows = players.iter().map(|player| player.model.windows()).sum();
    if ranges > most {
        let what = format!("{ranges} ranges, and reason for {most}");
        return Err(Mismatch::new(Kind::Ranges, None, what));
    }
    Ok(())
}

/// After everything has been unmapped.
pub fn of_the_dead(players: &mut [Player<'_>], device: &dyn Device) -> Result {
    for player in &mut *players {
        call("munmap", player.arena.unmap(&(0..PAGES)))?;
        player.model.unmap(0..PAGES);
        device.changed(player.arena.all(), crate::device::Change::Unmapped);
        for page in 0..PAGES {
            player.device_load(page, 0, How::Cached)?;
        }
    }
    call("flush", device.flush(true))?;
    for player in players {
        listed(&player.arena, &player.model, device)?;
    }
    match call("stats", device.ranges())? {
        0 => Ok(()),
        ranges => {
            let what = format!("{ranges} ranges, and nothing is mapped");
            Err(Mismatch::new(Kind::Ranges, None, what))
        }
    }
}

/// Was the mirror used, and not just filled anew each time?
pub fn of_the_share(policy: Policy, tally: &Tally) -> Result {
    let wrong = |what| Err(Mismatch::new(Kind::Share, None, what));
    // A few say nothing.
    if tally.accesses >= 1000 && tally.share() < FLOOR {
        return wrong(format!(
            "{} % of the accesses took no fault, and at least {FLOOR} % should",
            tally.share()
        ));
    }
    if policy == Policy::Punch && tally.beside >= 20 && tally.kept_share() < KEPT_FLOOR {
        return wrong(format!(
            "{} % of the pages beside what was unmapped stayed, and at least {KEPT_FLOOR} % should",
            tally.kept_share()
        ));
    }
    Ok(())
}

/// Is everything that the device has what the process has?
fn listed(arena: &Arena, model: &Model, device: &dyn Device) -> Result {
    let mut looks = 1;
    while let Err(mismatch) = look(arena, model, device) {
        if looks == LOOKS {
            return Err(mismatch);
        }
        looks += 1;
    }
    Ok(())
}

fn look(arena: &Arena, model: &Model, device: &dyn Device) -> Result {
    let pagemap = call("pagemap", Pagemap::open("self"))?;
    let listed = call("PAGES", device.pages(arena.all()))?;
    for mirrored in listed {
        let page = (mirrored.address - arena.page_address(0)) / PAGE;
        let wrong = |what| Err(Mismatch::new(Kind::Listed, Some(page), what));
        let access = model.page(page).access;
        let needed = if mirrored.writable {
            Access::Store
        } else {
            Access::Load
        };
        if access < needed {
            return wrong(format!(
                "the device has {mirrored:x?}, and access is {access:?}"
            ));
        }
        let frame = call("pagemap", pagemap.frame(mirrored.address))?;
        if frame != Some(mirrored.frame) {
            return wrong(format!(
                "the device has {mirrored:x?}, the process {frame:x?}"
            ));
        }
    }
    Ok(())
}

/// Compares all words with the model, and those in use also through the device.
fn whole(player: &mut Player<'_>) -> Result {
    for page in 0..PAGES {
        for word in 0..WORDS {
            player
                .device_load(page, word, How::Fault)
                .map_err(|mismatch| player.sign(mismatch))?;
        }
        if !player.model.can_load(page) {
            continue;
        }
        for index in 0..WORDS * STRIDE {
            let expected = match index % STRIDE {
                0 => player.model.page(page).words[index / STRIDE],
                _ => 0,
            };
            let got = player.arena.load_any(page, index);
            if got != expected {
                let what = format!("word {index} is {got:#x}, and was {expected:#x}");
                return Err(player.sign(Mismatch::new(Kind::Cpu, Some(page), what)));
            }
        }
    }
    Ok(())
}
