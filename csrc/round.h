/* One round of the loop for the streams that relays have: first all that has come is read, then each relay looks at
 * what is for it, then all that has been written meanwhile goes to the kernel. So each of the three, the kernel's way
 * in, this program, the kernel's way out, runs for many sessions in a row, while the processor has its code and data at
 * hand; and what is written to a stream in pieces goes in one. Only short pieces wait so: who moves more gains nothing.
 */
#ifndef MYSQL_ROUND_H
#define MYSQL_ROUND_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct stream;

enum {
  ROUND_PIECE = 4096, /* the longest that waits */
  ROUND_PIECES = 64,  /* of each, reads and streams that are written to */
  ROUND_INPUT = 256 * 1024,
  ROUND_OUTPUT = 64 * 1024
};

/* Bytes of a stream, in the round's input or output. */
struct piece {
  struct stream *stream; /* NULL: it has been written */
  size_t at, length;
};

/* What waits for the end of a round on the C stack. */
struct turn {
  void (*take)(struct turn *turn); /* NULL: it has had its turn */
  struct stream *stream;
  struct turn *outer; /* what waits for the end of a round that has run the loop */
};

struct round {
  struct round_check *check; /* ends the round; there while there are streams, as a program may look at all handles */
  uint32_t streams;
  char *input, *output;
  size_t input_length, output_length;
  size_t held; /* so much of the input is in use by what runs the loop in the middle of a round */
  struct piece reads[ROUND_PIECES], writes[ROUND_PIECES];
  uint32_t read_count, write_count;
  uint32_t taken;     /* reads: so many have been handled, or are being */
  struct turn *turns; /* the innermost of what waits */
  bool handling;      /* what has been read */
  uint64_t clock;     /* ns: uv_hrtime() as it was when it was last looked at in handling that; 0: look again */
  uint32_t calls;     /* of Lua that are being made in that, one within the other */
};

/* uv_hrtime(), which is one look for all that is handled one after the other, without a call of Lua between. A round of
 * many is late by a fraction of a millisecond then. Lua, which may take long or run the loop, has a look each time. */
static inline uint64_t round_clock(struct round *r) {
  if (!r->handling || r->calls) return uv_hrtime();
  if (!r->clock) r->clock = uv_hrtime();
  return r->clock;
}

/* False: there is not enough memory. */
bool round_open(struct round *r);
void round_close(struct round *r);
/* A stream more, or less. False: there is not enough memory. */
bool round_join(struct round *r, uv_loop_t *loop);
void round_leave(struct round *r);

/* Where the next read goes; NULL: there is not enough memory. */
uv_buf_t round_read_buffer(struct round *r);
/* What a read has brought there waits for the end of the round. False: it is too long for that, or too many
 * wait; then it must follow round_end(), which may close the stream. */
bool round_keep_read(struct round *r, struct stream *s, size_t length);
/* The bytes of any other read stay as they are from here to round_let_go(), whoever runs the loop meanwhile. The result
 * is for that. */
size_t round_hold(struct round *r, const char *buffer, size_t length);
void round_let_go(struct round *r, char *buffer, size_t held);
/* Whether these bytes lie where they stay while they are handled. */
bool round_keeps(const struct round *r, const uint8_t *data, size_t length);
/* To be called before anything else is done about a stream, too. */
void round_end(struct round *r);
/* The same, and then it is this one's turn; or before, if a method runs the loop, as it may wait for that. */
void round_end_before(struct round *r, struct turn *turn);

/* Bytes for a stream wait for the end of the round. False: that they cannot, and must follow round_flush(). */
bool round_keep_write(struct round *r, struct stream *s, const uint8_t *data, size_t length);
/* What waits for this stream is written. False if it is broken. */
bool round_flush(struct round *r, struct stream *s);

#endif
