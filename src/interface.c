// SPDX-License-Identifier: GPL-2.0

/*
 * Exports the functions of include/odp.h, which are written in Rust, and sees to it that both
 * languages mean the same by its structs.
 */

#include <linux/export.h>
#include <linux/stddef.h>

#include <odp.h>

MODULE_VERSION("0.2");

#define ODP_EXPORT EXPORT_SYMBOL_GPL

ODP_EXPORT(odp_retirer_create);
ODP_EXPORT(odp_retirer_shutdown);
ODP_EXPORT(odp_request_init);
ODP_EXPORT(odp_request_init_building);
ODP_EXPORT(odp_publish);
ODP_EXPORT(odp_retire);
ODP_EXPORT(odp_remove_notifier);
ODP_EXPORT(odp_request_live);
ODP_EXPORT(odp_hold);
ODP_EXPORT(odp_put);
ODP_EXPORT(odp_read_lock);
ODP_EXPORT(odp_read_unlock);
ODP_EXPORT(odp_drain);
ODP_EXPORT(odp_flush);
ODP_EXPORT(odp_wait_removed);
ODP_EXPORT(odp_retirer_stats);

ODP_EXPORT(odp_mirror_create);
ODP_EXPORT(odp_mirror_shutdown);
ODP_EXPORT(odp_range_insert);
ODP_EXPORT(odp_range_lookup);
ODP_EXPORT(odp_range_first);
ODP_EXPORT(odp_range_next);
ODP_EXPORT(odp_range_put);
ODP_EXPORT(odp_range_start);
ODP_EXPORT(odp_range_end);
ODP_EXPORT(odp_range_shared);
ODP_EXPORT(odp_range_live);
ODP_EXPORT(odp_range_retire);
ODP_EXPORT(odp_range_punch);
ODP_EXPORT(odp_range_punch_unmapped);
ODP_EXPORT(odp_range_resize);
ODP_EXPORT(odp_range_grow);
ODP_EXPORT(odp_range_merge);
ODP_EXPORT(odp_range_remove);
ODP_EXPORT(odp_range_fault);
ODP_EXPORT(odp_read_begin);
ODP_EXPORT(odp_range_notifier);
ODP_EXPORT(odp_section_adopt);
ODP_EXPORT(odp_section_abandon);
ODP_EXPORT(odp_commit_begin);
ODP_EXPORT(odp_commit_end);
ODP_EXPORT(odp_access_begin);
ODP_EXPORT(odp_access_end);
ODP_EXPORT(odp_mirror_drain);
ODP_EXPORT(odp_mirror_flush);
ODP_EXPORT(odp_mirror_retire_all);
ODP_EXPORT(odp_mirror_stats);

/*
 * Each of these refers to a symbol with a number in its name, where the number is what the C
 * compiler has worked out. src/odp/ffi/ defines symbols with the numbers of the Rust compiler. If
 * the two differ, modpost ends the build, naming the struct and the member in an undefined symbol.
 * The section is discarded when the module is linked.
 */
#define ODP_LAYOUT(name, number)						\
	({									\
		asm volatile(".pushsection .discard.odp_layout\n\t"		\
			     ".long odp_layout." name ".%c0\n\t"		\
			     ".popsection" : : "i" (number));			\
	})
#define ODP_SIZE(type)		ODP_LAYOUT(#type, sizeof(struct type))
#define ODP_MEMBER(type, member) \
	ODP_LAYOUT(#type "." #member, offsetof(struct type, member))

static void __used odp_layout(void)
{
	ODP_SIZE(odp_request);
	ODP_LAYOUT("odp_request.lock.size", sizeof(spinlock_t));
	ODP_MEMBER(odp_request, link);
	ODP_MEMBER(odp_request, link.next);
	ODP_MEMBER(odp_request, link.tickets.removed);
	ODP_MEMBER(odp_request, link.tickets.released);
	ODP_MEMBER(odp_request, link.has_waited);
	ODP_MEMBER(odp_request, link.since);

	ODP_SIZE(odp_retirer_ops);
	ODP_MEMBER(odp_retirer_ops, owner);
	ODP_MEMBER(odp_retirer_ops, unpublish);
	ODP_MEMBER(odp_retirer_ops, remove);
	ODP_MEMBER(odp_retirer_ops, release);

	ODP_SIZE(odp_retirer_config);
	ODP_MEMBER(odp_retirer_config, mm);
	ODP_MEMBER(odp_retirer_config, wakeup_delay_us);
	ODP_MEMBER(odp_retirer_config, expedited);

	ODP_SIZE(odp_mirror_ops);
	ODP_MEMBER(odp_mirror_ops, owner);
	ODP_MEMBER(odp_mirror_ops, lock);
	ODP_MEMBER(odp_mirror_ops, trylock);
	ODP_MEMBER(odp_mirror_ops, unlock);
	ODP_MEMBER(odp_mirror_ops, zap);
	ODP_MEMBER(odp_mirror_ops, zap_dead);
	ODP_MEMBER(odp_mirror_ops, zapped);
	ODP_MEMBER(odp_mirror_ops, replaced);
	ODP_MEMBER(odp_mirror_ops, released);
	ODP_MEMBER(odp_mirror_ops, get);
	ODP_MEMBER(odp_mirror_ops, put);
	ODP_MEMBER(odp_mirror_ops, zap_sleeps);

	ODP_SIZE(odp_mirror_config);
	ODP_MEMBER(odp_mirror_config, max_ranges);
	ODP_MEMBER(odp_mirror_config, grain);
	ODP_MEMBER(odp_mirror_config, owner);
	ODP_MEMBER(odp_mirror_config, wakeup_delay_us);
	ODP_MEMBER(odp_mirror_config, expedited);

	ODP_SIZE(odp_span);
	ODP_MEMBER(odp_span, start);
	ODP_MEMBER(odp_span, end);

	ODP_SIZE(odp_section);

	ODP_SIZE(odp_stats);
#define ODP_COUNTER(name) ODP_MEMBER(odp_stats, name)
#include "counters_generated.h"
}
