// SPDX-License-Identifier: GPL-2.0

/*
 * Exports the functions of the Rust crate to other modules. The kernel's build has no support for
 * crates that span modules; its own crates and nova-core do it the same way.
 */

#include <linux/export.h>

#include "exports_generated.h"
