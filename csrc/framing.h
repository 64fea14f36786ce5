/* Follows the packets in a byte stream, however it is cut into reads, without keeping their payload.
 *
 * Source: "MySQL Packets" of the protocol documentation. A payload of 0xffffff bytes or more is a chain of packets;
 * for the layers above, a chain is one packet with one head. */
#ifndef MYSQL_FRAMING_H
#define MYSQL_FRAMING_H

#include "packet.h"

#define FRAMING_HEAD 32 /* the longest prefix that a recogniser looks at is an OK packet's 23 bytes */

struct framing {
  uint32_t left;          /* payload bytes of this wire packet that have not come yet */
  uint32_t length;        /* payload length of the chain's first wire packet: 0xffffff if there are more */
  uint8_t header_seen;    /* bytes of the wire packet's header that have come: 0 to 4 */
  uint8_t head_seen;      /* bytes in head */
  uint8_t sequence;       /* of the last wire packet whose header is complete */
  uint8_t first_sequence; /* of the first wire packet of its chain */
  bool continued;         /* this wire packet continues a chain */
  uint8_t header[PACKET_HEADER_SIZE];
  uint8_t head[FRAMING_HEAD];
};

/* No byte of the next packet has come. */
static inline bool framing_at_boundary(const struct framing *f) { return f->header_seen == 0 && !f->continued; }

/* Takes bytes up to the end of one chain. Returns how many; *complete tells that the chain ends there, and then
 * `length`, `sequence` and `head` describe it until the next call. */
size_t framing_feed(struct framing *f, const uint8_t *data, size_t length, bool *complete);

#endif
