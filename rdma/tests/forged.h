/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A peer that is no device but this program: it has the other end of the wire of a device, on which
 * it puts what packets it likes, and reads what comes back. There is a TAP device named WIRE, with
 * rxe1 on it; see run.
 */

#ifndef _FORGED_H
#define _FORGED_H

#include <arpa/inet.h>
#include <endian.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include "implicit.h"

#define WIRE "wire0"
/* the address of rxe1, and that of the forger */
#define THEIRS "10.9.0.1"
#define OURS "10.9.0.2"
#define ROCE_PORT 4791
#define OUR_QPN 0x00abcd
#define MTU 1024

enum opcode {
	SEND_ONLY = 0x04,
	WRITE_FIRST = 0x06, WRITE_MIDDLE, WRITE_LAST, WRITE_LAST_IMM, WRITE_ONLY, WRITE_ONLY_IMM,
	READ_REQUEST, READ_FIRST, READ_MIDDLE, READ_LAST, READ_ONLY, ACKNOWLEDGE, ATOMIC_ACKNOWLEDGE,
	COMPARE_SWAP, FETCH_ADD,
	FLUSH = 0x1c, ATOMIC_WRITE,
};

/* What a NAK says. */
enum { NAK_SEQUENCE = 0x60, NAK_INVALID, NAK_ACCESS, NAK_OPERATION };

#pragma pack(push, 1)
struct bth {
	uint8_t opcode, flags;
	uint16_t pkey;
	uint32_t qpn, psn;
};

struct reth {
	uint64_t va;
	uint32_t rkey, length;
};

struct atmeth {
	uint64_t va;
	uint32_t rkey;
	uint64_t swap_add, compare;
};
#pragma pack(pop)

/* What is asked for, in the order of the processor. */
struct packet {
	enum opcode opcode;
	uint32_t psn;
	uint64_t va;
	uint32_t rkey;
	/* of the operation, as the header says; the packet has this many bytes of it */
	uint32_t length, payload;
	const uint8_t *data;
	/* of a flush: who is to see it, and how much of the MR */
	uint8_t type, level;
};

/* What came back for some packets. */
struct answer {
	/* with bytes of memory, all that they have, and how many there are */
	uint8_t data[32 * PAGE];
	uint32_t length;
	int packets;
	/* the NAK, which stops the other end; or 0 */
	uint8_t nak;
};

struct forger {
	int wire;
	/* the end of the connection that is not forged */
	struct end end;
	/* the next one that the other end expects */
	uint32_t psn;
	/* its own memory, for a write that shows how far it has come */
	struct ibv_mr *mark;
	struct answer answer;
};

/* Returns when the wire is up: until then, what is sent is lost. */
static inline int open_wire(void)
{
	struct ifreq ifr = { .ifr_name = WIRE, .ifr_flags = IFF_TAP | IFF_NO_PI };
	uint64_t deadline = now_ms() + PATIENCE_MS;
	char state[16] = "";
	int wire = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), file;

	must(wire >= 0);
	must(!ioctl(wire, TUNSETIFF, &ifr));
	while (strncmp(state, "up", 2)) {
		if (now_ms() > deadline)
			broken("the wire is %s", state);
		file = open("/sys/class/net/" WIRE "/operstate", O_RDONLY);
		must(file >= 0);
		must(read(file, state, sizeof(state) - 1) > 0);
		close(file);
	}
	return wire;
}

/* For the other end to begin again, as it has to after a NAK. */
static inline void connect_forger_for(struct forger *forger, int timeout)
{
	union ibv_gid ours = { .raw = { [10] = 0xff, [11] = 0xff } };

	must(inet_pton(AF_INET, OURS, ours.raw + 12) == 1);
	make_end(&forger->end);
	connect_end_to(&forger->end, &ours, OUR_QPN, IBV_MTU_1024, timeout);
	forger->psn = 0;
	forger->answer.nak = 0;
}

static inline void connect_forger(struct forger *forger)
{
	connect_forger_for(forger, 0);
}

static inline void reconnect_forger(struct forger *forger)
{
	destroy_end(&forger->end);
	connect_forger(forger);
}

static inline void make_forger(struct forger *forger)
{
	forger->wire = open_wire();
	forger->mark = pinned(PAGE);
	connect_forger(forger);
}

static inline uint32_t crc32_of(uint32_t crc, const void *data, size_t length)
{
	const uint8_t *byte = data;
	int bit;

	while (length--) {
		crc ^= *byte++;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return crc;
}

/* Of a packet from its IP header on; what routers may change, and what is not there, is all ones. */
static inline uint32_t icrc(const uint8_t *packet, size_t length)
{
	uint8_t head[sizeof(struct iphdr) + sizeof(struct udphdr) + sizeof(struct bth)];
	struct iphdr *ip = (struct iphdr *)head;
	struct udphdr *udp = (struct udphdr *)(ip + 1);
	struct bth *bth = (struct bth *)(udp + 1);
	uint64_t ones = ~0ULL;
	uint32_t crc;

	memcpy(head, packet, sizeof(head));
	ip->tos = 0xff;
	ip->ttl = 0xff;
	ip->check = 0xffff;
	udp->check = 0xffff;
	bth->qpn |= htonl(0xff000000);
	crc = crc32_of(~0U, &ones, sizeof(ones));
	crc = crc32_of(crc, head, sizeof(head));
	return ~crc32_of(crc, packet + sizeof(head), length - sizeof(head));
}

static inline uint16_t ip_checksum(const struct iphdr *ip)
{
	const uint16_t *word = (const uint16_t *)ip;
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < sizeof(*ip) / 2; i++)
		sum += word[i];
	sum = (sum >> 16) + (sum & 0xffff);
	return ~(sum + (sum >> 16));
}

static inline void *append(uint8_t **end, size_t length)
{
	void *here = *end;

	memset(here, 0, length);
	*end += length;
	return here;
}

/*
 * rxe used to count the headers of a flush twice. So it is sent with either CRC, and dropped with
 * one of them, unless a test is about that.
 */
static bool only_right_icrc;

/* Sends it, with the headers that its opcode has, and what they say about each other right. */
static inline void forge(struct forger *forger, const struct packet *packet)
{
	uint8_t frame[2 * PAGE], *end = frame;
	struct ethhdr *eth = append(&end, sizeof(*eth));
	struct iphdr *ip = append(&end, sizeof(*ip));
	struct udphdr *udp = append(&end, sizeof(*udp));
	struct bth *bth = append(&end, sizeof(*bth));
	uint8_t pad = -packet->payload & 3;
	static uint16_t id;
	uint32_t crc;

	bth->opcode = packet->opcode;
	bth->flags = pad << 4;
	bth->pkey = 0xffff;
	bth->qpn = htonl(forger->end.qp->qp_num);
	/* An answer is asked for. */
	bth->psn = htonl(packet->psn | 1U << 31);
	if (packet->opcode == FLUSH)
		*(uint32_t *)append(&end, 4) = htonl(packet->level << 4 | packet->type);
	switch (packet->opcode) {
	case WRITE_FIRST:
	case WRITE_ONLY:
	case WRITE_ONLY_IMM:
	case READ_REQUEST:
	case FLUSH:
	case ATOMIC_WRITE:
		*(struct reth *)append(&end, sizeof(struct reth)) = (struct reth) {
			htobe64(packet->va), htonl(packet->rkey), htonl(packet->length)
		};
		break;
	case COMPARE_SWAP:
	case FETCH_ADD:
		*(struct atmeth *)append(&end, sizeof(struct atmeth)) = (struct atmeth) {
			htobe64(packet->va), htonl(packet->rkey), htobe64(1), 0
		};
		break;
	default:
		break;
	}
	if (packet->opcode == WRITE_LAST_IMM || packet->opcode == WRITE_ONLY_IMM)
		append(&end, 4);
	memcpy(append(&end, packet->payload + pad), packet->data, packet->payload);

	memset(eth->h_dest, 0xff, ETH_ALEN);
	eth->h_source[0] = 2;
	eth->h_proto = htons(ETH_P_IP);
	udp->source = htons(0xc000);
	udp->dest = htons(ROCE_PORT);
	udp->len = htons(end + 4 - (uint8_t *)udp);
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(end + 4 - (uint8_t *)ip);
	ip->id = ++id;
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->saddr = inet_addr(OURS);
	ip->daddr = inet_addr(THEIRS);
	ip->check = ip_checksum(ip);
	crc = htole32(icrc((uint8_t *)ip, end - (uint8_t *)ip));
	memcpy(append(&end, 4), &crc, 4);
	must(write(forger->wire, frame, end - frame) == end - frame);
	if (packet->opcode != FLUSH || only_right_icrc)
		return;
	end -= 4;
	crc = htole32(~crc32_of(~le32toh(crc), bth, end - (uint8_t *)bth));
	memcpy(append(&end, 4), &crc, 4);
	must(write(forger->wire, frame, end - frame) == end - frame);
}

/* Longer than any frame. */
#define FRAME (2 * PAGE)

/* The next frame that there is by DEADLINE: how long it is, or 0. Not all are for the forger. */
static inline size_t next_frame(struct forger *forger, uint8_t *frame, uint64_t deadline)
{
	struct pollfd readable = { .fd = forger->wire, .events = POLLIN };
	ssize_t got;
	uint64_t now;

	while ((got = read(forger->wire, frame, FRAME)) < 0) {
		must(errno == EAGAIN);
		now = now_ms();
		if (now >= deadline || poll(&readable, 1, deadline - now) != 1)
			return 0;
	}
	return got;
}

/*
 * The next packet that the device sends to the forger, from its BTH on and without the CRC. Returns
 * how long it is.
 */
static inline size_t next_packet(struct forger *forger, uint8_t *packet, uint64_t deadline)
{
	const size_t skip = sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr);
	uint8_t frame[FRAME];
	size_t got;

	for (;;) {
		const struct ethhdr *eth = (const struct ethhdr *)frame;
		const struct udphdr *udp = (const struct udphdr *)(frame + skip) - 1;
		const struct bth *bth = (const struct bth *)(frame + skip);

		got = next_frame(forger, frame, deadline);
		if (!got)
			fail("%s: nothing is sent", where);
		if (got < skip + sizeof(*bth) + 4 || eth->h_proto != htons(ETH_P_IP) ||
		    udp->dest != htons(ROCE_PORT) || bth->qpn != htonl(OUR_QPN))
			continue;
		got -= skip + 4;
		memcpy(packet, bth, got);
		return got;
	}
}

/* ... with that opcode. */
static inline size_t next_request(struct forger *forger, enum opcode opcode, uint8_t *packet)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;
	size_t length;

	do
		length = next_packet(forger, packet, deadline);
	while (((const struct bth *)packet)->opcode != opcode);
	return length;
}

/* Notes what a frame has for the forger; returns whether it is an acknowledgment of PSN. */
static inline bool note_frame(struct answer *answer, const uint8_t *frame, size_t length,
			      uint32_t psn)
{
	const struct ethhdr *eth = (const struct ethhdr *)frame;
	const struct iphdr *ip = (const struct iphdr *)(eth + 1);
	const struct udphdr *udp = (const struct udphdr *)(ip + 1);
	const struct bth *bth = (const struct bth *)(udp + 1);
	const uint8_t *data = (const uint8_t *)(bth + 1), *end = frame + length - 4;
	uint8_t syndrome = 0;

	if (length < sizeof(*eth) + sizeof(*ip) + sizeof(*udp) + sizeof(*bth) + 4 ||
	    eth->h_proto != htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP ||
	    udp->dest != htons(ROCE_PORT) || bth->qpn != htonl(OUR_QPN))
		return false;
	if (bth->opcode != READ_MIDDLE) {
		syndrome = *data;
		data += 4;
	}
	if (bth->opcode == ACKNOWLEDGE && (syndrome & 0xe0) == NAK_SEQUENCE)
		answer->nak = syndrome;
	if ((bth->opcode >= READ_FIRST && bth->opcode <= READ_ONLY) ||
	    bth->opcode == ATOMIC_ACKNOWLEDGE) {
		size_t n = end - data - (bth->flags >> 4 & 3);

		must(answer->length + n <= sizeof(answer->data));
		memcpy(answer->data + answer->length, data, n);
		answer->length += n;
		answer->packets++;
	}
	return bth->opcode == ACKNOWLEDGE && !(syndrome & 0xe0) &&
	       (ntohl(bth->psn) & 0xffffff) == psn;
}

/*
 * What has come back for all that was sent since the last time: what comes before the answer to a
 * write to memory that nobody is interested in, or to an end that has been stopped.
 */
static inline struct answer *answers(struct forger *forger)
{
	struct answer *answer = &forger->answer;
	uint64_t deadline = now_ms() + PATIENCE_MS;
	uint8_t frame[FRAME];
	uint32_t psn = forger->psn++;
	size_t got;

	answer->length = 0;
	answer->packets = 0;
	forge(forger, &(struct packet) {
		.opcode = WRITE_ONLY, .psn = psn, .va = (uint64_t)forger->mark->addr,
		.rkey = forger->mark->rkey, .length = 8, .payload = 8, .data = frame,
	});
	for (;;) {
		got = next_frame(forger, frame, deadline);
		if (!got)
			fail("%s: no answer", where);
		if (note_frame(answer, frame, got, psn) || answer->nak)
			return answer;
	}
}

#endif
