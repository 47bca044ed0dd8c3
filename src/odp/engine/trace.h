/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The events of the library. What is called an object is one request: a range, or what a driver
 * that owns its notifiers has embedded the request in, whose addresses the library does not know.
 */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM odp

#ifndef ODP_TRACE_TYPES
#define ODP_TRACE_TYPES

#include <linux/types.h>

/* What an event is about. */
struct odp_subject {
	/* The name of the mirror or retirer, as debugfs shows it. */
	const char *name;
	/* The address space, NULL if a retirer has not been told which. */
	const void *mm;
	/* The request, NULL if it is about several. */
	const void *object;
	/* Its addresses, up to the byte before @end; both 0 if they are not known. */
	unsigned long start;
	unsigned long end;
};

/* Has the tracepoint of requests be on, whoever else listens to it, or not any more. */
int odp_request_probe(bool on);

#endif /* ODP_TRACE_TYPES */

#if !defined(_ODP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _ODP_TRACE_H

#include <linux/tracepoint.h>

#define odp_show_asked(what)				\
	__print_symbolic(what,				\
			 { 0, "retire" },		\
			 { 1, "punch" },		\
			 { 2, "resize" },		\
			 { 3, "change" },		\
			 { 4, "merge" })

/* Somebody has asked for something, and it is going to be done. */
TRACE_EVENT(odp_request,
	TP_PROTO(const struct odp_subject *of, unsigned int what, unsigned long asked_start,
		 unsigned long asked_end),
	TP_ARGS(of, what, asked_start, asked_end),
	TP_STRUCT__entry(
		__string(name, of->name)
		__field(const void *, mm)
		__field(const void *, object)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned int, what)
		__field(unsigned long, asked_start)
		__field(unsigned long, asked_end)
	),
	TP_fast_assign(
		__assign_str(name);
		__entry->mm = of->mm;
		__entry->object = of->object;
		__entry->start = of->start;
		__entry->end = of->end;
		__entry->what = what;
		__entry->asked_start = asked_start;
		__entry->asked_end = asked_end;
	),
	TP_printk("%s mm=%p object=%p 0x%lx-0x%lx %s 0x%lx-0x%lx", __get_str(name), __entry->mm,
		  __entry->object, __entry->start, __entry->end, odp_show_asked(__entry->what),
		  __entry->asked_start, __entry->asked_end)
);

/* What has been asked for has been taken, by the worker or by a caller of drain. */
TRACE_EVENT(odp_batch,
	TP_PROTO(const struct odp_subject *of, unsigned long retired, unsigned long changing,
		 unsigned long replaced, bool drained),
	TP_ARGS(of, retired, changing, replaced, drained),
	TP_STRUCT__entry(
		__string(name, of->name)
		__field(const void *, mm)
		__field(unsigned long, retired)
		__field(unsigned long, changing)
		__field(unsigned long, replaced)
		__field(bool, drained)
	),
	TP_fast_assign(
		__assign_str(name);
		__entry->mm = of->mm;
		__entry->retired = retired;
		__entry->changing = changing;
		__entry->replaced = replaced;
		__entry->drained = drained;
	),
	TP_printk("%s mm=%p retired=%lu changing=%lu replaced=%lu%s", __get_str(name), __entry->mm,
		  __entry->retired, __entry->changing, __entry->replaced,
		  __entry->drained ? " drained" : "")
);

DECLARE_EVENT_CLASS(odp_grace,
	TP_PROTO(const struct odp_subject *of),
	TP_ARGS(of),
	TP_STRUCT__entry(
		__string(name, of->name)
		__field(const void *, mm)
	),
	TP_fast_assign(
		__assign_str(name);
		__entry->mm = of->mm;
	),
	TP_printk("%s mm=%p", __get_str(name), __entry->mm)
);

/* A task waits for a grace period. */
DEFINE_EVENT(odp_grace, odp_grace_begin,
	TP_PROTO(const struct odp_subject *of),
	TP_ARGS(of)
);

/* It has ended. */
DEFINE_EVENT(odp_grace, odp_grace_end,
	TP_PROTO(const struct odp_subject *of),
	TP_ARGS(of)
);

DECLARE_EVENT_CLASS(odp_object,
	TP_PROTO(const struct odp_subject *of),
	TP_ARGS(of),
	TP_STRUCT__entry(
		__string(name, of->name)
		__field(const void *, mm)
		__field(const void *, object)
		__field(unsigned long, start)
		__field(unsigned long, end)
	),
	TP_fast_assign(
		__assign_str(name);
		__entry->mm = of->mm;
		__entry->object = of->object;
		__entry->start = of->start;
		__entry->end = of->end;
	),
	TP_printk("%s mm=%p object=%p 0x%lx-0x%lx", __get_str(name), __entry->mm,
		  __entry->object, __entry->start, __entry->end)
);

/* A task removes a notifier. */
DEFINE_EVENT(odp_object, odp_remove_begin,
	TP_PROTO(const struct odp_subject *of),
	TP_ARGS(of)
);

/* It has been removed; @waited says whether that took the end of an invalidation. */
TRACE_EVENT(odp_remove_end,
	TP_PROTO(const struct odp_subject *of, bool waited),
	TP_ARGS(of, waited),
	TP_STRUCT__entry(
		__string(name, of->name)
		__field(const void *, mm)
		__field(const void *, object)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(bool, waited)
	),
	TP_fast_assign(
		__assign_str(name);
		__entry->mm = of->mm;
		__entry->object = of->object;
		__entry->start = of->start;
		__entry->end = of->end;
		__entry->waited = waited;
	),
	TP_printk("%s mm=%p object=%p 0x%lx-0x%lx waited=%d", __get_str(name), __entry->mm,
		  __entry->object, __entry->start, __entry->end, __entry->waited)
);

/* The driver's release is called. */
DEFINE_EVENT(odp_object, odp_release_begin,
	TP_PROTO(const struct odp_subject *of),
	TP_ARGS(of)
);

/* It has returned. Another object may be at the same place by now. */
DEFINE_EVENT(odp_object, odp_release_end,
	TP_PROTO(const struct odp_subject *of),
	TP_ARGS(of)
);

/* Others are in the place of a range, which leaves in a later batch. */
TRACE_EVENT(odp_replace,
	TP_PROTO(const struct odp_subject *of, unsigned long pieces),
	TP_ARGS(of, pieces),
	TP_STRUCT__entry(
		__string(name, of->name)
		__field(const void *, mm)
		__field(const void *, object)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned long, pieces)
	),
	TP_fast_assign(
		__assign_str(name);
		__entry->mm = of->mm;
		__entry->object = of->object;
		__entry->start = of->start;
		__entry->end = of->end;
		__entry->pieces = pieces;
	),
	TP_printk("%s mm=%p object=%p 0x%lx-0x%lx pieces=%lu", __get_str(name), __entry->mm,
		  __entry->object, __entry->start, __entry->end, __entry->pieces)
);

/* One of those; they follow the replacement. */
DEFINE_EVENT(odp_object, odp_piece,
	TP_PROTO(const struct odp_subject *of),
	TP_ARGS(of)
);

#endif /* _ODP_TRACE_H */

/* Beside the file that makes the tracepoints, which has this directory searched. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
