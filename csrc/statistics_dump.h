/* Counters as bytes, for the same counters in another process of this machine (its monotonic clock is the same).
 *
 * A dump is a sequence of records, whose numbers are length-encoded integers:
 *   kind          1 byte: a command, a digest, or what found no room
 *   command: its byte; digest: text, user and schema, each with its length
 *   first seen, last seen (not of a command)
 *   count, errors, rows, bytes from client and server, microseconds
 *   how many were answered, min, max, and how many buckets are not empty, of which each has its number and its count */
#ifndef MYSQL_STATISTICS_DUMP_H
#define MYSQL_STATISTICS_DUMP_H

#include "packet.h"
#include "statistics.h"

enum { STATISTICS_RECORD = 4096 }; /* bytes that a record may have: a digest with all buckets has 2,300 */

/* These write a record, and return its length: 0 if nothing has been counted. Place 0 is what found no room, others are
 * of digests. */
size_t statistics_dump_command(const struct statistics *s, unsigned command, uint8_t *to);
size_t statistics_dump_place(const struct statistics *s, uint32_t place, uint8_t *to);

/* Adds the next record of a dump. False: it is malformed, or there is no memory. */
bool statistics_add(struct statistics *s, struct cursor *c);

#endif
