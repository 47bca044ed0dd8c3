// SPDX-License-Identifier: GPL-2.0
/*
 * The device goes while a process has things of it, an implicit MR among them, and waits for them.
 *
 * usage: removal [TEST...]
 */

#include "harness.h"
#include "implicit.h"
#include "stalled.h"

/* Who waits for a prefetch of a page that does not come waits only while the device is there. */
static void device_goes_in_prefetch(void)
{
	struct faults faults = stall_faults(PAGE);

	check_device_ends_in_prefetch(&faults, implicit(REMOTE));
	check_ranges(0);
}

static const struct test tests[] = {
	{ "device_goes_in_prefetch", device_goes_in_prefetch },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
