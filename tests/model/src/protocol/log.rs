// SPDX-License-Identifier: GPL-2.0

//! What a step is, in words: written down where it is taken, and only for those who read it.

/// Keeps what is said, or does not listen.
pub(super) struct Log(Option<String>);

impl Log {
    pub(super) fn deaf() -> Self {
        Self(None)
    }

    pub(super) fn listening() -> Self {
        Self(Some(String::new()))
    }

    pub(super) fn add(&mut self, text: std::fmt::Arguments<'_>) {
        use std::fmt::Write;
        if let Some(said) = &mut self.0 {
            let separator = if said.is_empty() { "" } else { ", " };
            write!(said, "{separator}{text}").expect("a string takes everything");
        }
    }

    pub(super) fn text(self) -> String {
        self.0.unwrap_or_default()
    }
}

macro_rules! say {
    ($log:expr, $($what:tt)+) => {
        $log.add(format_args!($($what)+))
    };
}
pub(super) use say;
