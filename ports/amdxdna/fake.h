/* SPDX-License-Identifier: GPL-2.0 */
/* What the device without hardware does at DRM_IOCTL_AMDXDNA_GET_INFO; @param says which. */

#ifndef _AMDXDNA_FAKE_H
#define _AMDXDNA_FAKE_H

#include <linux/types.h>

enum fake_param {
	FAKE_POPULATE,	/* as a submission does, for the object whose handle @buffer_size is */
	FAKE_INVALID,	/* an error unless a submission would have to do that, for this object */
	FAKE_START,	/* a command that uses this object; there is one at a time */
	FAKE_FINISH,	/* that command */
	FAKE_FLUSH,	/* until what has been unmapped of this file is released */
	FAKE_COUNT,	/* of this file's mappings, into the struct at @buffer */
};

struct fake_count {
	__u64 retired;
	__u64 removed;
	__u64 released;
	__u64 held;
};

#endif /* _AMDXDNA_FAKE_H */
