// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is persistent, of an emulated NVDIMM: files of a file system with DAX, and a device
 * of which all is persistent memory. rdma/tests/run has them made.
 *
 * usage: dax [TEST...]
 */

#include <linux/falloc.h>

#include "harness.h"
#include "implicit.h"

#define FILE_NAME "/tmp/dax/file"
#define DEVICE_NAME "/dev/dax1.0"
/* So that the kernel maps it with huge pages where it can, which is all that the device allows. */
#define HUGE (512 * PAGE)
#define SIZE (2 * HUGE)

/* What a file or a device has, mapped so that it is not the page cache's. */
static uint8_t *map_dax(int fd)
{
	void *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd,
			    0);

	if (memory == MAP_FAILED)
		broken("no DAX: %s", strerror(errno));
	return memory;
}

static uint8_t *map_dax_file(int *fd)
{
	*fd = open(FILE_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	must(*fd >= 0);
	must(!ftruncate(*fd, SIZE));
	return map_dax(*fd);
}

static uint8_t *map_dax_device(void)
{
	int fd = open(DEVICE_NAME, O_RDWR | O_CLOEXEC);

	must(fd >= 0);
	return map_dax(fd);
}

/* A peer writes, and that is in the file as well. */
static void write_to_file(struct peer *peer, uint8_t *memory, int fd, size_t offset, size_t length)
{
	uint8_t found[8 * PAGE];
	ssize_t wrong;

	check_write(peer, memory + offset, length);
	must(length <= sizeof(found));
	must(pread(fd, found, length, offset) == (ssize_t)length);
	wrong = difference(found, peer->local->addr, length);
	if (wrong >= 0)
		fail("%s: byte %zd is not in the file", where, wrong);
}

static void flush(struct peer *peer, uint8_t *memory, size_t length)
{
	int status = run_flush(&peer->pair, peer->rkey, (uint64_t)memory, length,
			       IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE);

	if (status)
		fail("%s: it cannot be flushed: %s", where, status_name(status));
}

/* What a file goes through does not wait for an MR that does not pin it, and the MR has what is so. */
static void use_file(struct ibv_mr *mr, uint8_t *memory, int fd, bool flushes)
{
	struct peer peer = make_peer(mr->rkey, IBV_MTU_4096);
	static const uint8_t zeros[2 * PAGE];
	uint8_t before[PAGE], behind[PAGE];

	at("a write");
	write_to_file(&peer, memory, fd, 0, 4 * PAGE);
	if (flushes)
		flush(&peer, memory, 4 * PAGE);

	at("a hole");
	memcpy(before, memory, PAGE);
	memcpy(behind, memory + 3 * PAGE, PAGE);
	must(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, 2 * PAGE));
	check_read(&peer, memory + PAGE, zeros, 2 * PAGE);
	check_read(&peer, memory, before, PAGE);
	check_read(&peer, memory + 3 * PAGE, behind, PAGE);

	at("a write into the hole");
	write_to_file(&peer, memory, fd, 2 * PAGE - 100, 200);
	if (flushes)
		flush(&peer, memory + 2 * PAGE - 100, 200);

	at("a write across a huge page's end");
	write_to_file(&peer, memory, fd, HUGE - PAGE - 1, 2 * PAGE);

	at("the file's end");
	must(!ftruncate(fd, HUGE));
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory + HUGE);
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory + HUGE);
	at("the file's new end");
	must(!ftruncate(fd, SIZE));
	check_read(&peer, memory + HUGE, zeros, 2 * PAGE);
	write_to_file(&peer, memory, fd, HUGE, PAGE);
	if (flushes)
		flush(&peer, memory + HUGE, PAGE);
	must(!ibv_dereg_mr(mr));
}

static void explicit_file(void)
{
	int fd;
	uint8_t *memory = map_dax_file(&fd);

	use_file(reg(memory, SIZE, ODP | FLUSHABLE), memory, fd, true);
}

/* Such an MR promises nobody that what is written is persistent: that is the process's to see to. */
static void implicit_file(void)
{
	int fd;
	uint8_t *memory = map_dax_file(&fd);

	use_file(implicit(REMOTE), memory, fd, false);
	check_all_gone();
}

/* The kernel pins no file's memory that may have to move. */
static void pinned_file(void)
{
	int fd;
	uint8_t *memory = map_dax_file(&fd);

	at("the registration");
	if (ibv_reg_mr(pd, memory, SIZE, REMOTE | FLUSHABLE))
		fail("a file's memory is pinned");
	if (errno != EOPNOTSUPP)
		fail("%s: %s", where, strerror(errno));
	/* ... and there is nothing left that would keep the file. */
	must(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE));
}

static void use_device(int access)
{
	uint8_t *memory = map_dax_device();
	struct ibv_mr *mr = reg(memory, SIZE, access | FLUSHABLE);
	struct peer peer = make_peer(mr->rkey, IBV_MTU_4096);

	at("a write");
	check_write(&peer, memory + HUGE - PAGE - 1, 2 * PAGE);
	at("a flush of what was written");
	flush(&peer, memory + HUGE - PAGE - 1, 2 * PAGE);
	at("a flush of all");
	if (run_flush(&peer.pair, mr->rkey, 0, 0, IBV_FLUSH_PERSISTENT, IBV_FLUSH_MR))
		fail("%s fails", where);
	must(!ibv_dereg_mr(mr));
}

static void explicit_device(void)
{
	use_device(ODP);
}

static void pinned_device(void)
{
	use_device(REMOTE);
}

/* What the kernel pages to and from that memory has no part of it. */
static void not_persistent(void)
{
	int fd, status;
	uint8_t *memory = map_file(&fd, SIZE);
	struct ibv_mr *mr;
	struct peer peer;

	at("a pinned MR");
	if (ibv_reg_mr(pd, memory, PAGE, REMOTE | FLUSHABLE))
		fail("%s is said to be persistent", where);
	if (errno != EINVAL)
		fail("%s: %s", where, strerror(errno));

	at("an explicit MR");
	mr = reg(memory, SIZE, ODP | FLUSHABLE);
	peer = make_peer(mr->rkey, IBV_MTU_4096);
	check_write(&peer, memory, PAGE);
	status = run_flush(&peer.pair, mr->rkey, (uint64_t)memory, PAGE, IBV_FLUSH_PERSISTENT,
			   IBV_FLUSH_RANGE);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("%s is said to be persistent: %s", where, status_name(status));
}

static const struct test tests[] = {
	{ "explicit_file", explicit_file },
	{ "implicit_file", implicit_file },
	{ "pinned_file", pinned_file },
	{ "explicit_device", explicit_device },
	{ "pinned_device", pinned_device },
	{ "not_persistent", not_persistent },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
