#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The retire level of deferred removal, by a driver in C.

cd "$(dirname "$0")" || exit 1
. ./with_module.sh
with_module odp_retire_sample ./test_retire
