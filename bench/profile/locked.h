/* SPDX-License-Identifier: GPL-2.0 */

/* Which instructions of x86-64 lock what they change in memory. */

#ifndef ODP_PROFILE_LOCKED_H
#define ODP_PROFILE_LOCKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether the first of these bytes' instructions has the prefix for it, or is an xchg of memory. */
static inline bool is_locked(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i + 1 < size; i++) {
		switch (bytes[i]) {
		case 0xf0: /* lock */
			return true;
		case 0x26: /* other prefixes, of segments and sizes, and rep */
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0x64:
		case 0x65:
		case 0x66:
		case 0x67:
		case 0xf2:
		case 0xf3:
		case 0x40 ... 0x4f: /* rex */
			continue;
		case 0x86: /* xchg, of a register and of memory, or of two registers */
		case 0x87:
			return bytes[i + 1] < 0xc0;
		default:
			return false;
		}
	}
	return false;
}

#endif
