// SPDX-License-Identifier: GPL-2.0

//! What has been measured so far, a line for each repetition, so that a run that was interrupted can
//! go on.
//!
//! The first line says what the run is; a journal of another run is not continued.

use crate::{plan::Cell, subject::Answer};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Error, Write},
    path::Path,
};

/// What makes two runs the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Run {
    pub kernel_release: String,
    pub kernel_config: String,
    pub accelerator: String,
    pub cpus: usize,
    pub icount: bool,
    pub seed: u64,
    pub cells: Vec<Cell>,
}

/// One repetition of a row.
#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    row: usize,
    round: usize,
    answer: Answer,
}

/// The journal of a run.
pub struct Journal<W: Write> {
    file: W,
    /// By row and round.
    done: BTreeMap<(usize, usize), Answer>,
}

impl<W: Write> Journal<W> {
    /// Begins a journal in `file`, with what there is in `before` if that is of the same run but for the
    /// seed, which is taken over.
    pub fn begin(mut file: W, run: &mut Run, before: Option<impl BufRead>) -> io::Result<Self> {
        let mut done = BTreeMap::new();
        if let Some(before) = before {
            let mut lines = before.lines();
            let head = lines.next().transpose()?.unwrap_or_default();
            let head = serde_json::from_str::<Run>(&head);
            if let Ok(head) = head {
                let seed = head.seed;
                if (Run {
                    seed,
                    ..run.clone()
                }) == head
                {
                    run.seed = seed;
                    for line in lines {
                        // The last one may have been cut off.
                        let Ok(entry) = serde_json::from_str::<Entry>(&line?) else {
                            break;
                        };
                        done.insert((entry.row, entry.round), entry.answer);
                    }
                }
            }
        }
        writeln!(file, "{}", serde_json::to_string(run)?)?;
        for (&(row, round), answer) in &done {
            let answer = answer.clone();
            write_entry(&mut file, Entry { row, round, answer })?;
        }
        Ok(Self { file, done })
    }

    /// What is known of a repetition.
    pub fn get(&self, row: usize, round: usize) -> Option<&Answer> {
        self.done.get(&(row, round))
    }

    /// How many repetitions are known.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Notes a repetition.
    pub fn note(&mut self, row: usize, round: usize, answer: Answer) -> io::Result<()> {
        write_entry(
            &mut self.file,
            Entry {
                row,
                round,
                answer: answer.clone(),
            },
        )?;
        self.done.insert((row, round), answer);
        Ok(())
    }
}

fn write_entry(file: &mut impl Write, entry: Entry) -> io::Result<()> {
    let mut line = serde_json::to_string(&entry)?;
    line.push('\n');
    // In one go, so that an interruption leaves no more than one line unfinished.
    file.write_all(line.as_bytes())
}

/// Opens a journal that may not be there.
pub fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(
            error.kind(),
            format!("{}: {error}", path.display()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Extent};

    fn run(seed: u64) -> Run {
        Run {
            kernel_release: "7.3.4".into(),
            kernel_config: "plain".into(),
            accelerator: "tcg".into(),
            cpus: 2,
            icount: false,
            seed,
            cells: plan::cells(Extent::Short, false, |_| true),
        }
    }

    fn answer(value: u64) -> Answer {
        Answer::from([("munmap".to_string(), vec![value])])
    }

    fn interrupted() -> Vec<u8> {
        let mut file = Vec::new();
        let none = None::<&[u8]>;
        let mut journal = Journal::begin(&mut file, &mut run(7), none).unwrap();
        journal.note(0, 0, answer(1)).unwrap();
        journal.note(1, 0, answer(2)).unwrap();
        file
    }

    #[test]
    fn a_run_goes_on_where_it_was_interrupted() {
        let before = interrupted();
        let mut after = Vec::new();
        let mut again = run(8);
        let mut journal = Journal::begin(&mut after, &mut again, Some(&*before)).unwrap();
        assert_eq!(again.seed, 7);
        assert_eq!(journal.get(1, 0), Some(&answer(2)));
        assert_eq!(journal.get(2, 0), None);
        journal.note(2, 0, answer(3)).unwrap();
        assert_eq!(journal.len(), 3);

        let mut last = Vec::new();
        let journal = Journal::begin(&mut last, &mut run(9), Some(&*after)).unwrap();
        assert_eq!(journal.len(), 3);
        assert_eq!(last, after);
    }

    #[test]
    fn a_line_that_was_cut_off_is_measured_again() {
        let mut before = interrupted();
        before.truncate(before.len() - 5);
        let mut after = Vec::new();
        let journal = Journal::begin(&mut after, &mut run(7), Some(&*before)).unwrap();
        assert_eq!(journal.len(), 1);
        assert!(after.ends_with(b"\n"));
    }

    #[test]
    fn another_run_is_not_continued() {
        let before = interrupted();
        let mut other = run(8);
        other.accelerator = "kvm".into();
        let mut after = Vec::new();
        let journal = Journal::begin(&mut after, &mut other, Some(&*before)).unwrap();
        assert_eq!(journal.len(), 0);
        assert_eq!(other.seed, 8);
        for nonsense in [&b""[..], b"\n", b"{}\n", b"\xff\xfe"] {
            let mut after = Vec::new();
            let before = Some(nonsense);
            let journal = Journal::begin(&mut after, &mut run(8), before);
            assert!(journal.map_or(true, |journal| journal.len() == 0));
        }
    }
}
