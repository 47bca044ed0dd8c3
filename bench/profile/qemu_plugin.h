/* SPDX-License-Identifier: GPL-2.0 */

/* What count.c uses of QEMU's plugin interface, whose header few distributions package. */

#ifndef ODP_PROFILE_QEMU_PLUGIN_H
#define ODP_PROFILE_QEMU_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

struct qemu_info;
struct qemu_plugin_tb;

typedef void (*tb_trans_cb)(uint64_t id, struct qemu_plugin_tb *tb);
typedef void (*vcpu_cb)(unsigned int vcpu, void *data);

/* Those of a plugin, which QEMU looks for. */
extern int qemu_plugin_version;
int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, tb_trans_cb cb);
/* Flags of 0: no registers are looked at. */
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, vcpu_cb cb, int flags,
					  void *data);

#endif
