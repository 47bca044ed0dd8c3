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

static int event_call(struct call *call)
{
	struct ibv_cq *cq;
	void *context;

	return ibv_get_cq_event(call->channel, &cq, &context) ? -errno : 0;
}

/* Who has a queue pair when the device goes, and waits for what it does, hears that it is gone. */
static void queue_pair_goes_with_device(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	struct call event = { .run = event_call, .channel = peer.pair.b.channel };
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	struct ibv_qp_init_attr init;
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND }, *bad;
	struct ibv_wc wc;
	int error;

	must(!ibv_req_notify_cq(peer.pair.b.cq, 0));
	post_receive(&peer.pair, (uint64_t)peer.local->addr, PAGE, peer.local->lkey);
	make_call(&event);
	start_call(&event);
	wait_in(event.tid, "wchan", "ib_uverbs");
	check_device_ends(NULL);
	check_device_gone();
	at("who waits for a completion");
	if (!ended(&event, PATIENCE_MS))
		fail("%s waits on", where);
	if (event.result != -EIO)
		fail("%s: %s", where, event.result ? strerror(-event.result) : "it has one");
	at("the queue pair");
	error = ibv_query_qp(peer.pair.b.qp, &attr, IBV_QP_STATE, &init);
	if (error != EIO)
		fail("%s: a query: %s", where, error ? strerror(error) : "success");
	error = ibv_modify_qp(peer.pair.b.qp, &attr, IBV_QP_STATE);
	if (error != EIO)
		fail("%s: a change: %s", where, error ? strerror(error) : "success");
	error = ibv_post_send(peer.pair.a.qp, &wr, &bad);
	if (error != EIO)
		fail("%s: a request: %s", where, error ? strerror(error) : "success");
	if (ibv_poll_cq(peer.pair.a.cq, 1, &wc) > 0)
		fail("%s: a request is completed: %s", where, status_name(wc.status));
	make_device();
}

static const struct test tests[] = {
	{ "device_goes_in_prefetch", device_goes_in_prefetch },
	{ "queue_pair_goes_with_device", queue_pair_goes_with_device },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
