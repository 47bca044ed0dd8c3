// SPDX-License-Identifier: GPL-2.0

/*
 * The tracepoints, each with a function that Rust calls when it is on. Whether it is on, Rust finds
 * out by itself.
 */

#include <linux/errno.h>
#include <linux/export.h>
#include <linux/tracepoint.h>
#include <linux/types.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

/* Code that is compiled into a driver in Rust looks at this one. */
EXPORT_TRACEPOINT_SYMBOL_GPL(odp_request);

#ifdef CONFIG_TRACEPOINTS

static void odp_probe_request(void *data, const struct odp_subject *of, unsigned int what,
			      unsigned long asked_start, unsigned long asked_end)
{
}

int odp_request_probe(bool on)
{
	int ret;

	if (on)
		return register_trace_odp_request(odp_probe_request, NULL);
	ret = unregister_trace_odp_request(odp_probe_request, NULL);
	/* The function may be text of a module that is about to be unloaded. */
	tracepoint_synchronize_unregister();
	return ret;
}

#else

int odp_request_probe(bool on)
{
	return -EOPNOTSUPP;
}

#endif
