// SPDX-License-Identifier: GPL-2.0
/* Mappings of buffer objects come and go, with the device of fake.c. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <amdxdna_accel.h>

#include "fake.h"
#include "kselftest_harness.h"

#define DEVICE	"/dev/accel/accel0"
#define UNPLUG	"/sys/module/amdxdna/parameters/unplug"
#define SIZE	(16 * 4096)

/* These return 0 or an error number, or a handle, of which 0 is none. */

static int device(int fd, enum fake_param param, __u32 handle)
{
	struct amdxdna_drm_get_info info = { .param = param, .buffer_size = handle };

	return ioctl(fd, DRM_IOCTL_AMDXDNA_GET_INFO, &info) ? errno : 0;
}

static struct fake_count count(int fd)
{
	struct fake_count count = {};
	struct amdxdna_drm_get_info info = {
		.param = FAKE_COUNT,
		.buffer = (uintptr_t)&count,
	};

	if (ioctl(fd, DRM_IOCTL_AMDXDNA_GET_INFO, &info))
		count.retired = -1;
	return count;
}

static __u32 create(int fd)
{
	struct amdxdna_drm_create_bo bo = { .size = SIZE, .type = AMDXDNA_BO_SHARE };

	return ioctl(fd, DRM_IOCTL_AMDXDNA_CREATE_BO, &bo) ? 0 : bo.handle;
}

static struct amdxdna_drm_get_bo_info object(int fd, __u32 handle)
{
	struct amdxdna_drm_get_bo_info info = { .handle = handle };

	if (ioctl(fd, DRM_IOCTL_AMDXDNA_GET_BO_INFO, &info))
		memset(&info, 0, sizeof(info));
	return info;
}

static char *map(int fd, __u32 handle)
{
	return mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    object(fd, handle).map_offset);
}

static int forget(int fd, __u32 handle)
{
	struct drm_gem_close close = { .handle = handle };

	return ioctl(fd, DRM_IOCTL_GEM_CLOSE, &close) ? errno : 0;
}

/* The object as another one of another file. */
static __u32 import(int from, __u32 handle, int to)
{
	struct drm_prime_handle prime = { .handle = handle, .flags = O_CLOEXEC | O_RDWR };

	if (ioctl(from, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime))
		return 0;
	if (ioctl(to, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime))
		prime.handle = 0;
	close(prime.fd);
	return prime.handle;
}

FIXTURE(device)
{
	int fd;
	__u32 handle;
	char *mem;
};

FIXTURE_SETUP(device)
{
	self->fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	self->handle = create(self->fd);
	ASSERT_NE(0, self->handle);
	self->mem = map(self->fd, self->handle);
	ASSERT_NE(MAP_FAILED, self->mem);
	memset(self->mem, 1, SIZE);
}

/* This ends with what is left to be released. */
FIXTURE_TEARDOWN(device)
{
	EXPECT_EQ(0, close(self->fd));
}

TEST_F(device, what_is_unmapped_is_released)
{
	struct fake_count now;

	EXPECT_EQ((uintptr_t)self->mem, object(self->fd, self->handle).vaddr);
	ASSERT_EQ(0, munmap(self->mem, SIZE));
	EXPECT_EQ(AMDXDNA_INVALID_ADDR, object(self->fd, self->handle).vaddr);
	EXPECT_EQ(1, count(self->fd).retired);
	ASSERT_EQ(0, device(self->fd, FAKE_FLUSH, 0));
	now = count(self->fd);
	EXPECT_EQ(1, now.retired);
	EXPECT_EQ(1, now.removed);
	EXPECT_EQ(1, now.released);
}

TEST_F(device, part_of_it_is_enough_and_once)
{
	ASSERT_EQ(0, munmap(self->mem + SIZE / 2, SIZE / 4));
	ASSERT_EQ(0, munmap(self->mem, SIZE / 4));
	ASSERT_EQ(0, munmap(self->mem, SIZE));
	ASSERT_EQ(0, device(self->fd, FAKE_FLUSH, 0));
	EXPECT_EQ(1, count(self->fd).retired);
	EXPECT_EQ(1, count(self->fd).released);
}

TEST_F(device, what_is_moved_is_released)
{
	char *to = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, to);
	ASSERT_EQ(to, mremap(self->mem, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	ASSERT_EQ(0, device(self->fd, FAKE_FLUSH, 0));
	EXPECT_EQ(1, count(self->fd).released);
	EXPECT_EQ(1, *to);
}

/* Whether or not its notifier is still to be removed. */
TEST_F(device, the_address_is_that_of_now)
{
	char *other = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int round;

	ASSERT_NE(MAP_FAILED, other);
	for (round = 0; round < 100; round++) {
		char *old = self->mem;

		ASSERT_EQ(0, munmap(old, SIZE));
		self->mem = mmap(other, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				 self->fd, object(self->fd, self->handle).map_offset);
		ASSERT_EQ(other, self->mem);
		ASSERT_EQ((uintptr_t)other, object(self->fd, self->handle).vaddr);
		other = mmap(old, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		ASSERT_EQ(old, other);
	}
	ASSERT_EQ(0, device(self->fd, FAKE_FLUSH, 0));
	EXPECT_EQ(100, count(self->fd).released);
}

TEST_F(device, it_needs_no_handle)
{
	ASSERT_EQ(0, forget(self->fd, self->handle));
	EXPECT_EQ(1, self->mem[SIZE - 1]);
	ASSERT_EQ(0, munmap(self->mem, SIZE));
	ASSERT_EQ(0, device(self->fd, FAKE_FLUSH, 0));
	EXPECT_EQ(1, count(self->fd).released);
}

TEST_F(device, a_process_may_end_with_it)
{
	pid_t child = fork();
	int fd, status;

	ASSERT_LE(0, child);
	if (!child) {
		fd = open(DEVICE, O_RDWR);
		_exit(fd < 0 || map(fd, create(fd)) == MAP_FAILED);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	/* The child has had a copy of this one's, without a notifier. */
	EXPECT_EQ(0, count(self->fd).retired);
}

/* Its memory has the file of the buffer, and not that which it was mapped through. */
TEST_F(device, an_imported_one_outlives_its_file)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	__u32 handle = import(self->fd, self->handle, fd);
	char *mem;

	ASSERT_NE(0, handle);
	mem = map(fd, handle);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(1, mem[0]);
	ASSERT_EQ(0, close(fd));
	self->mem[0] = 2;
	EXPECT_EQ(2, mem[0]);
	ASSERT_EQ(0, munmap(mem, SIZE));
	EXPECT_EQ(0, count(self->fd).retired);
}

struct unmap {
	char *mem;
	int result;
};

static void *unmap(void *arg)
{
	struct unmap *unmap = arg;

	unmap->result = munmap(unmap->mem, SIZE);
	return NULL;
}

/* Objects are freed while a callback waits for the device. */
TEST_F(device, nobody_waits_for_a_callback)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	__u32 handle = import(self->fd, self->handle, fd), other = create(fd);
	struct unmap busy = { .mem = self->mem };
	struct fake_count now;
	pthread_t thread;
	char *mem;

	ASSERT_NE(0, handle);
	ASSERT_NE(0, other);
	mem = map(fd, handle);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_NE(MAP_FAILED, map(fd, other));
	ASSERT_EQ(0, device(self->fd, FAKE_START, self->handle));
	ASSERT_EQ(0, pthread_create(&thread, NULL, unmap, &busy));
	/* Until the callback is there. It stays until the command has finished. */
	while (device(self->fd, FAKE_INVALID, self->handle) == EAGAIN)
		sched_yield();
	/* Its object is freed with the handle, but for the mapping. */
	ASSERT_EQ(0, forget(fd, handle));
	ASSERT_EQ(0, forget(fd, other));
	ASSERT_EQ(0, device(self->fd, FAKE_FINISH, 0));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, busy.result);

	ASSERT_EQ(0, munmap(mem, SIZE));
	ASSERT_EQ(0, device(fd, FAKE_FLUSH, 0));
	now = count(fd);
	EXPECT_EQ(1, now.retired);
	EXPECT_EQ(1, now.released);
	EXPECT_EQ(0, close(fd));
}

/* The pages of an imported object are known to HMM, so that it can fault them in. */
TEST_F(device, a_submission_populates_what_is_invalid)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	__u32 handle = import(self->fd, self->handle, fd);
	char *mem;

	ASSERT_NE(0, handle);
	mem = map(fd, handle);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(EAGAIN, device(fd, FAKE_INVALID, handle));
	EXPECT_EQ(0, device(fd, FAKE_POPULATE, handle));
	EXPECT_EQ(0, count(fd).held);

	ASSERT_EQ(0, mprotect(mem, SIZE, PROT_READ));
	EXPECT_EQ(0, device(fd, FAKE_INVALID, handle));
	EXPECT_EQ(0, device(fd, FAKE_POPULATE, handle));
	EXPECT_EQ(EAGAIN, device(fd, FAKE_INVALID, handle));
	EXPECT_EQ(1, count(fd).held);

	/* What is not mapped any more is left alone. */
	ASSERT_EQ(0, munmap(mem, SIZE));
	EXPECT_EQ(0, device(fd, FAKE_INVALID, handle));
	EXPECT_EQ(0, device(fd, FAKE_POPULATE, handle));
	EXPECT_EQ(1, count(fd).held);
	EXPECT_EQ(0, close(fd));
}

struct submit {
	int fd;
	__u32 handle;
	int result;
	atomic_bool enough;
};

static void *submit(void *arg)
{
	struct submit *submit = arg;

	/* What is being unmapped cannot be faulted in. */
	while (!submit->enough && !submit->result) {
		submit->result = device(submit->fd, FAKE_POPULATE, submit->handle);
		if (submit->result == EFAULT || submit->result == ETIME)
			submit->result = 0;
	}
	return NULL;
}

TEST_F(device, submissions_meet_unmaps)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	struct submit submissions = { .fd = fd };
	pthread_t thread;
	char *mem;
	int round;

	submissions.handle = import(self->fd, self->handle, fd);
	ASSERT_NE(0, submissions.handle);
	ASSERT_EQ(0, pthread_create(&thread, NULL, submit, &submissions));
	for (round = 0; round < 1000; round++) {
		mem = map(fd, submissions.handle);
		ASSERT_NE(MAP_FAILED, mem);
		ASSERT_EQ(0, mprotect(mem, SIZE, PROT_READ));
		ASSERT_EQ(0, munmap(mem, SIZE));
	}
	submissions.enough = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, submissions.result);
	ASSERT_EQ(0, device(fd, FAKE_FLUSH, 0));
	EXPECT_EQ(round, count(fd).retired);
	EXPECT_EQ(round, count(fd).removed);
	EXPECT_EQ(round, count(fd).released);
	TH_LOG("%d unmaps, %llu holds", round, count(fd).held);
	EXPECT_EQ(0, close(fd));
}

/* Not among the others: there is no device after that. */
TEST_F(device, unplugged)
{
	int fd = open(UNPLUG, O_WRONLY | O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(1, write(fd, "1", 1));
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(ENODEV, device(self->fd, FAKE_FLUSH, 0));
	EXPECT_EQ(0, munmap(self->mem, SIZE));
}

TEST_HARNESS_MAIN
