// SPDX-License-Identifier: GPL-2.0

//! What files of the module that are compiled here use of the `kernel` crate: atomics, as loom has
//! them, so that their orderings count for as much as the C11 model says and no more.

pub mod sync {
    //! As `kernel::sync`.

    pub mod atomic {
        //! As `kernel::sync::atomic`.

        use loom::sync::atomic::{
            AtomicBool,
            AtomicU64,
            AtomicUsize,
            Ordering, //
        };
        use std::sync::OnceLock;

        /// An ordering, which the kernel's atomics take as a type.
        pub trait Order {
            const ORDER: Ordering;
        }

        macro_rules! orders {
            ($($name:ident: $order:ident;)*) => {
                $(
                    #[doc = concat!("`", stringify!($order), "`")]
                    pub struct $name;

                    impl Order for $name {
                        const ORDER: Ordering = Ordering::$order;
                    }
                )*
            };
        }

        orders! {
            Relaxed: Relaxed;
            Acquire: Acquire;
            Release: Release;
            Full: SeqCst;
        }

        /// What an [`Atomic`] may be of.
        pub trait Value: Copy {
            /// Loom's atomic of it.
            type Atomic;
        }

        /// An atomic.
        ///
        /// Loom's are known from when they are made, which cannot be in a constant, so that this
        /// makes its own at the first access. That has to come before any other thread has it.
        pub struct Atomic<T: Value> {
            first: T,
            atomic: OnceLock<T::Atomic>,
        }

        impl<T: Value> Atomic<T> {
            /// Makes one with a value.
            pub const fn new(first: T) -> Self {
                Self {
                    first,
                    atomic: OnceLock::new(),
                }
            }
        }

        macro_rules! values {
            ($($value:ty: $atomic:ident;)*) => {
                $(
                    impl Value for $value {
                        type Atomic = $atomic;
                    }

                    impl Atomic<$value> {
                        fn atomic(&self) -> &$atomic {
                            self.atomic.get_or_init(|| $atomic::new(self.first))
                        }

                        /// Reads it.
                        pub fn load<O: Order>(&self, _order: O) -> $value {
                            self.atomic().load(O::ORDER)
                        }

                        /// Writes it.
                        pub fn store<O: Order>(&self, value: $value, _order: O) {
                            self.atomic().store(value, O::ORDER)
                        }
                    }
                )*
            };
        }

        values! {
            bool: AtomicBool;
            u64: AtomicU64;
            usize: AtomicUsize;
        }

        impl Atomic<usize> {
            /// Adds to it, and returns what it was.
            pub fn fetch_add<O: Order>(&self, value: usize, _order: O) -> usize {
                self.atomic().fetch_add(value, O::ORDER)
            }

            /// Subtracts from it, and returns what it was.
            pub fn fetch_sub<O: Order>(&self, value: usize, _order: O) -> usize {
                self.atomic().fetch_sub(value, O::ORDER)
            }
        }
    }
}
