/* One endpoint of a conversation on luv's loop: a TCP or unix socket, its write queue, its time-out, and its owner.
 *
 * The owner is a Lua table; what happens to the stream is told to it by calling one of its methods (see owner.h).
 * A stream delivers whole packets to its owner until a relay (relay.c) takes its bytes over. */
#ifndef MYSQL_STREAM_H
#define MYSQL_STREAM_H

#include <lauxlib.h>
#include <lua.h>
#include <uv.h>

#include "owner.h"
#include "packet.h"
#include "recent.h"
#include "round.h"

struct relay;

/* What all streams of a Lua state share. */
struct stream_loop {
  lua_State *L;
  uv_loop_t *loop;
  struct round round;
  uint64_t relayed; /* reads of clients and servers in the command phase */
  bool closing;     /* the Lua state is: no more calls to Lua */
  struct owner_calls calls;
  struct recent recent;
};

/* Bytes that cannot be used up yet. */
struct input {
  uint8_t *data;
  size_t length;
  size_t capacity;
};

bool input_append(struct input *in, const uint8_t *data, size_t length);
void input_consume(struct input *in, size_t length); /* gives the memory back when nothing is left */
void input_free(struct input *in);

struct stream {
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } uv;                       /* first, so that a handle is its stream; luv looks at handle->data, which stays NULL */
  struct stream_loop *shared; /* from here to `closed`: what each read and write needs */
  struct relay *relay;        /* takes the bytes, instead of the owner */
  uint64_t active_at;    /* loop time in ms of the last byte (packet mode: the last packet) read, or byte written */
  size_t queued;         /* bytes that the kernel has not taken yet */
  uv_os_fd_t descriptor; /* while it is connected and open; else -1 */
  uint32_t kept_write;   /* the place, from 1, of what waits for the end of the round, 0: nothing */
  uint8_t open_handles;
  bool reading;
  bool packets;      /* packet mode */
  bool delivering;   /* its owner is being told of packets */
  bool finishing;    /* closes once the queue is empty */
  bool tell_drained; /* its owner waits for on_drain */
  bool overdue;      /* it has been idle for too long, unless something has come meanwhile */
  bool closed;
  bool has_turn;   /* a read of it is to be handled next: no other may overtake that */
  uint32_t in_use; /* it must live, for so many, until they have let go */
  uv_timer_t timer;
  int reference;       /* in the registry: keeps its userdata until its handles are closed */
  struct input input;  /* packet mode: the beginning of a packet */
  uint64_t idle_limit; /* ms, 0 = none */
  size_t unwritten;    /* of the queue, when something was added to it or the timer last looked */
  size_t packet_limit; /* packet mode: the longest payload allowed */
};

/* Writes bytes, or queues what the kernel does not take. False if the stream is closed or broken. */
bool stream_write(struct stream *s, const uint8_t *data, size_t length);
/* Packet mode begins, or goes on after it was left: what has come since is delivered at once. */
bool stream_read_packets(struct stream *s, size_t limit);
void stream_pause(struct stream *s);
bool stream_resume(struct stream *s);
/* Tells the peer that nothing comes after what is queued; reading goes on. */
void stream_end_writing(struct stream *s);
/* Closes once everything queued has been written, or when the peer takes nothing of it for ten seconds. */
void stream_finish(struct stream *s);
void stream_close(struct stream *s);

/* An open stream lives from here to there, also if a method closes it, runs the loop, and forgets it. */
void stream_use(struct stream *s);
void stream_let_go(struct stream *s);

/* For round.c: bytes that have come, bytes to be written at once, and that those which have waited could not be. */
void stream_take(struct stream *s, const uint8_t *data, size_t length);
bool stream_write_now(struct stream *s, const uint8_t *data, size_t length);
void stream_write_failed(struct stream *s);

/* Brings active_at up to date, if the kernel has taken some of what is queued. */
void stream_look_at_queue(struct stream *s);
/* Nothing read (packet mode: no packet) or written for so many ms: on_timeout or relay_timeout. 0: never. Where bytes
 * wait for the peer it may take up to twice as long until that is known. */
void stream_set_timeout(struct stream *s, uint64_t ms);

/* Pushes the stream's own userdata, which must be open. */
void stream_push(lua_State *L, struct stream *s);
struct stream *stream_check(lua_State *L, int index);

/* nil, "ENAME: text", "ENAME", as luv does; returns 3. */
int stream_push_failure(lua_State *L, int status);
/* Calls the owner's method(stream [, message, code]). */
void stream_tell_owner(struct stream *s, enum owner_method method, int status);

#endif
