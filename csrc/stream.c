/* A stream's life on the loop: reading, writing, waiting, closing. stream_module.c is its face to Lua. */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "relay.h"

/* How long a peer may read nothing of what was written for it before the end, and then, when the kernel has it all, how
 * long it may take to close. */
enum { LAST_WORDS_TIMEOUT_MS = 10000, FINISH_TIMEOUT_MS = 2000 };
enum { INPUT_MINIMUM = 512, MOST_READS = 32 };

/* --- bytes that wait --------------------------------------------------------------------------------------- */

bool input_append(struct input *in, const uint8_t *data, size_t length) {
  if (length > in->capacity - in->length) {
    size_t capacity = in->capacity ? in->capacity : INPUT_MINIMUM;
    while (capacity - in->length < length) {
      if (capacity > SIZE_MAX / 2) return false;
      capacity *= 2;
    }
    uint8_t *grown = realloc(in->data, capacity);
    if (!grown) return false;
    in->data = grown;
    in->capacity = capacity;
  }
  if (length) memcpy(in->data + in->length, data, length);
  in->length += length;
  return true;
}

void input_free(struct input *in) {
  free(in->data);
  memset(in, 0, sizeof *in);
}

void input_consume(struct input *in, size_t length) {
  in->length -= length;
  if (in->length)
    memmove(in->data, in->data + length, in->length);
  else
    input_free(in);
}

/* --- calls up to Lua --------------------------------------------------------------------------------------- */

void stream_push(lua_State *L, struct stream *s) { push_reference(L, s->reference); }

/* nil, "ENAME: text", "ENAME", as luv does. */
int stream_push_failure(lua_State *L, int status) {
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", uv_err_name(status), uv_strerror(status));
  lua_pushstring(L, uv_err_name(status));
  return 3;
}

struct status_event {
  struct owner_event event;
  int status;
};

static int push_status(lua_State *L, struct owner_event *event) {
  int status = ((struct status_event *)event)->status;
  stream_push(L, event->stream);
  if (status == 0) return 1;
  stream_push_failure(L, status);
  lua_remove(L, -3);
  return 3;
}

/* Tells the owner by its method(stream [, message, code]). */
void stream_tell_owner(struct stream *s, enum owner_method method, int status) {
  struct status_event e = {{.method = method, .push = push_status, .keeps = s->reference}, status};
  owner_tell(s, &e.event);
}

/* --- life and death ---------------------------------------------------------------------------------------- */

static void forget_if_over(struct stream *s) {
  if (!s->open_handles && !s->in_use) luaL_unref(s->shared->L, LUA_REGISTRYINDEX, s->reference);
}

void stream_use(struct stream *s) { s->in_use++; }

void stream_let_go(struct stream *s) {
  s->in_use--;
  forget_if_over(s);
}

static void on_handle_closed(uv_handle_t *handle, struct stream *s) {
  (void)handle;
  if (--s->open_handles) return;
  round_end(&s->shared->round); /* nothing of it may wait there any more */
  round_leave(&s->shared->round);
  forget_if_over(s);
}

static void on_socket_closed(uv_handle_t *handle) { on_handle_closed(handle, (struct stream *)handle); }

static void on_timer_closed(uv_handle_t *handle) {
  on_handle_closed(handle, (struct stream *)((char *)handle - offsetof(struct stream, timer)));
}

void stream_close(struct stream *s) {
  if (s->closed) return;
  round_flush(&s->shared->round, s); /* as far as the kernel takes it */
  s->closed = true;
  s->reading = s->packets = false;
  s->descriptor = -1; /* its number may be another's soon */
  input_free(&s->input);
  if (s->relay) relay_forget(s->relay, s);
  uv_close(&s->uv.handle, on_socket_closed);
  uv_close((uv_handle_t *)&s->timer, on_timer_closed);
}

/* The stream ended by itself: whoever takes its bytes is told. */
static void stream_ended(struct stream *s, int status) {
  if (s->finishing && status == 0 && s->queued) return; /* it has nothing more to say, but may listen */
  if (s->finishing || s->closed) {
    stream_close(s);
  } else if (s->relay) {
    relay_stream_ended(s->relay, s, status);
  } else {
    s->packets = false;
    stream_pause(s);
    stream_tell_owner(s, ON_END, status);
    stream_close(s);
  }
}

void stream_write_failed(struct stream *s) {
  if (s->relay)
    relay_write_failed(s->relay, s);
  else
    stream_ended(s, UV_EPIPE);
}

/* Of a long piece in the queue libuv says only when the kernel has taken all. */
void stream_look_at_queue(struct stream *s) {
  size_t unwritten = uv_stream_get_write_queue_size(&s->uv.stream);
  if (unwritten < s->unwritten) s->active_at = uv_now(s->shared->loop);
  s->unwritten = unwritten;
}

static void on_timer(uv_timer_t *timer) {
  struct stream *s = (struct stream *)((char *)timer - offsetof(struct stream, timer));
  stream_look_at_queue(s);
  uint64_t idle = uv_now(s->shared->loop) - s->active_at;
  bool overdue = s->overdue;
  s->overdue = idle >= s->idle_limit && !overdue;
  if (idle < s->idle_limit || !overdue) { /* what has come while the loop was held up is looked at first */
    uv_timer_start(timer, on_timer, s->overdue ? 1 : s->idle_limit - idle, 0);
    return;
  }
  uv_timer_start(timer, on_timer, s->idle_limit, 0);
  if (s->finishing)
    stream_close(s);
  else if (s->relay)
    relay_timeout(s->relay, s);
  else
    stream_tell_owner(s, ON_TIMEOUT, 0);
}

void stream_set_timeout(struct stream *s, uint64_t ms) {
  uv_update_time(s->shared->loop); /* which may have been held up, by a hook for example */
  s->idle_limit = ms;
  s->overdue = false;
  stream_look_at_queue(s);
  s->active_at = uv_now(s->shared->loop);
  if (ms)
    uv_timer_start(&s->timer, on_timer, ms, 0);
  else
    uv_timer_stop(&s->timer);
}

static void on_shutdown(uv_shutdown_t *request, int status) {
  struct stream *s = (struct stream *)request->handle;
  free(request);
  if (s->closed) return;
  stream_use(s);
  round_end(&s->shared->round);
  if (status < 0 && !s->relay) stream_close(s); /* a relay reads on, and comes to what the matter is */
  stream_let_go(s);
}

/* Tells the peer that no more will be written than what is queued. Reading goes on. */
void stream_end_writing(struct stream *s) {
  if (s->closed) return;
  round_flush(&s->shared->round, s);
  uv_shutdown_t *request = malloc(sizeof *request);
  int status = request ? uv_shutdown(request, &s->uv.stream, on_shutdown) : UV_ENOMEM;
  if (status == 0) return;
  free(request);
  if (s->relay)
    relay_stream_ended(s->relay, s, status);
  else
    stream_close(s);
}

/* Reads on until the peer has closed too, so that no unread byte of its makes the kernel throw our last words away. */
void stream_finish(struct stream *s) {
  if (s->closed || s->finishing) return;
  s->finishing = true;
  s->packets = false;
  input_free(&s->input);
  if (s->relay) relay_forget(s->relay, s);
  round_flush(&s->shared->round, s);
  stream_set_timeout(s, s->queued ? LAST_WORDS_TIMEOUT_MS : FINISH_TIMEOUT_MS);
  stream_end_writing(s);
  if (!s->closed && !stream_resume(s)) stream_close(s);
}

/* --- reading ----------------------------------------------------------------------------------------------- */

enum chain { CHAIN_INCOMPLETE, CHAIN_COMPLETE, CHAIN_TOO_LONG };

/* The chain of packets at the beginning of the input: its bytes on the wire and its payload length. */
static enum chain measure_chain(const struct stream *s, size_t *bytes, size_t *payload) {
  struct cursor c = cursor_over(s->input.data, s->input.length);
  size_t total = 0;
  for (;;) {
    uint32_t length = (uint32_t)cursor_uint(&c, 3);
    cursor_uint(&c, 1);
    if (c.failed) return CHAIN_INCOMPLETE;
    total += length;
    if (total > s->packet_limit) return CHAIN_TOO_LONG;
    if (!cursor_bytes(&c, length)) return CHAIN_INCOMPLETE;
    if (length == PACKET_MAX_PAYLOAD) continue;
    *bytes = s->input.length - cursor_left(&c);
    *payload = total;
    return CHAIN_COMPLETE;
  }
}

static void push_chain(lua_State *L, const uint8_t *data, size_t bytes) {
  struct cursor c = cursor_over(data, bytes);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  while (cursor_left(&c)) {
    uint32_t length = (uint32_t)cursor_uint(&c, 3);
    cursor_uint(&c, 1);
    const uint8_t *part = cursor_bytes(&c, length);
    if (part) luaL_addlstring(&b, (const char *)part, length);
  }
  luaL_pushresult(&b);
}

struct packet_event {
  struct owner_event event;
  size_t bytes, payload; /* of the chain at the beginning of the input */
};

static int push_packet(lua_State *L, struct owner_event *event) {
  struct packet_event *e = (struct packet_event *)event;
  struct stream *s = event->stream;
  stream_push(L, s);
  if (e->bytes == e->payload + PACKET_HEADER_SIZE)
    lua_pushlstring(L, (const char *)s->input.data + PACKET_HEADER_SIZE, e->payload);
  else
    push_chain(L, s->input.data, e->bytes);
  lua_pushinteger(L, s->input.data[e->bytes - e->payload % PACKET_MAX_PAYLOAD - 1]); /* the sequence number */
  input_consume(&s->input, e->bytes);
  return 3;
}

static void deliver(struct stream *s) {
  while (s->packets && s->input.length) {
    struct packet_event e = {.event = {.method = ON_PACKET, .push = push_packet}};
    enum chain found = measure_chain(s, &e.bytes, &e.payload);
    if (found == CHAIN_INCOMPLETE) return;
    if (found == CHAIN_TOO_LONG) {
      stream_ended(s, UV_EMSGSIZE);
      return;
    }
    s->active_at = uv_now(s->shared->loop); /* not for each byte: who sends them one by one gets no more time */
    if (owner_tell(s, &e.event) != OWNER_TOLD) {
      stream_ended(s, UV_ECANCELED);
      return;
    }
  }
}

static void deliver_packets(struct stream *s) {
  if (s->delivering) return; /* it goes on there */
  s->delivering = true;
  stream_use(s);
  deliver(s);
  s->delivering = false;
  stream_let_go(s);
}

bool stream_read_packets(struct stream *s, size_t limit) {
  s->packet_limit = limit;
  s->packets = !s->closed && !s->finishing;
  if (!stream_resume(s)) return false;
  deliver_packets(s);
  return true;
}

void stream_take(struct stream *s, const uint8_t *data, size_t length) {
  if (s->closed || s->finishing) return;
  if (s->relay) {
    s->active_at = uv_now(s->shared->loop);
    relay_read(s->relay, s, data, length);
  } else if (!input_append(&s->input, data, length)) {
    stream_ended(s, UV_ENOMEM);
  } else if (s->packets) {
    deliver_packets(s);
  } else if (s->input.length > s->packet_limit) {
    stream_pause(s);
  }
}

/* count: of bytes, or a negative error (UV_EOF: the end). */
struct read {
  struct turn turn;
  const char *data;
  ssize_t count;
};

static void take_read(struct turn *turn) {
  const struct read *read = (struct read *)turn;
  struct stream *s = turn->stream;
  s->has_turn = false;
  if (read->count > 0)
    stream_take(s, (const uint8_t *)read->data, (size_t)read->count);
  else if (!s->closed)
    stream_ended(s, read->count == UV_EOF ? 0 : (int)read->count);
}

/* count: 0 if there were no bytes. */
static void handle_read(struct stream *s, char *data, ssize_t count) {
  struct round *round = &s->shared->round;
  if (count < 0) stream_pause(s);
  if (count > 0 && s->relay && round_keep_read(round, s, (size_t)count)) return;
  size_t held = round_hold(round, data, count > 0 ? (size_t)count : 0);
  if (count != 0) {
    struct read read = {{.take = take_read, .stream = s}, data, count};
    s->has_turn = true;
    round_end_before(round, &read.turn);
  }
  round_let_go(round, data, held);
}

/* Not the end of a socket: libuv says when it is ready. */
static bool comes_back(int error) { return error == EAGAIN || error == EINTR || error == ENOBUFS; }

/* libuv is given no buffer, so that it says only that there is something to read, by UV_ENOBUFS (uv_alloc_cb in its
 * manual): recv() is a shorter way into the kernel than its read(). As libuv does, more is read while a buffer is
 * filled, but not for ever. */
static void give_no_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
  (void)handle;
  (void)suggested;
  *buffer = uv_buf_init(NULL, 0);
}

/* False: there is no more for now. */
static bool read_once(struct stream *s) {
  uv_buf_t buffer = round_read_buffer(&s->shared->round);
  ssize_t count = recv(s->descriptor, buffer.base, buffer.len, 0);
  if (count < 0)
    count = comes_back(errno) ? 0 : -errno;
  else if (count == 0)
    count = buffer.base ? UV_EOF : UV_ENOMEM;
  handle_read(s, buffer.base, count);
  return count == (ssize_t)buffer.len && s->reading && !s->closed;
}

static void on_readable(uv_stream_t *handle, ssize_t enobufs, const uv_buf_t *empty) {
  struct stream *s = (struct stream *)handle;
  int left = MOST_READS;
  (void)enobufs;
  (void)empty;
  if (s->has_turn) return; /* a method runs the loop: this comes again */
  stream_use(s);
  while (read_once(s) && --left) {
  }
  stream_let_go(s);
}

void stream_pause(struct stream *s) {
  if (s->reading && !s->closed) uv_read_stop(&s->uv.stream);
  s->reading = false;
}

bool stream_resume(struct stream *s) {
  if (s->closed) return false;
  if (s->reading) return true;
  s->reading = uv_read_start(&s->uv.stream, give_no_buffer, on_readable) == 0;
  return s->reading;
}

/* --- writing ----------------------------------------------------------------------------------------------- */

struct write_request {
  uv_write_t request;
  size_t length;
  char data[];
};

struct written {
  struct turn turn;
  int status;
};

static void take_written(struct turn *turn) {
  struct stream *s = turn->stream;
  int status = ((struct written *)turn)->status;
  if (s->closed) return;
  s->active_at = uv_now(s->shared->loop);
  if (status < 0)
    stream_ended(s, status);
  else if (s->queued == 0 && s->relay)
    relay_drained(s->relay, s);
  else if (s->queued == 0 && s->finishing && s->reading)
    stream_set_timeout(s, FINISH_TIMEOUT_MS);
  else if (s->queued == 0 && s->finishing)
    stream_close(s); /* the peer has closed already */
  else if (s->queued == 0 && s->tell_drained) {
    s->tell_drained = false;
    stream_tell_owner(s, ON_DRAIN, 0);
  }
}

static void on_written(uv_write_t *request, int status) {
  struct write_request *w = (struct write_request *)request;
  struct stream *s = (struct stream *)request->handle;
  struct written written = {{.take = take_written, .stream = s}, status};
  s->queued -= w->length;
  free(w);
  if (s->closed) return;
  stream_use(s);
  round_end_before(&s->shared->round, &written.turn);
  stream_let_go(s);
}

bool stream_write(struct stream *s, const uint8_t *data, size_t length) {
  if (s->closed || s->finishing) return false;
  if (length == 0 || round_keep_write(&s->shared->round, s, data, length)) return true;
  return round_flush(&s->shared->round, s) && stream_write_now(s, data, length);
}

/* send() is a shorter way into the kernel than uv_try_write(), and without five lines of memory that nothing else here
 * needs. */
bool stream_write_now(struct stream *s, const uint8_t *data, size_t length) {
  if (s->queued == 0 && s->descriptor >= 0) {
    ssize_t written = send(s->descriptor, data, length, MSG_NOSIGNAL);
    if (written < 0 && !comes_back(errno)) return false;
    if (written > 0) {
      s->active_at = uv_now(s->shared->loop);
      if ((size_t)written == length) return true;
      data += written;
      length -= (size_t)written;
    }
  }
  struct write_request *w = malloc(sizeof *w + length);
  if (!w) return false;
  w->length = length;
  memcpy(w->data, data, length);
  uv_buf_t buffer = uv_buf_init(w->data, (unsigned)length);
  if (uv_write(&w->request, &s->uv.stream, &buffer, 1, on_written) != 0) {
    free(w);
    return false;
  }
  s->queued += length;
  s->unwritten = uv_stream_get_write_queue_size(&s->uv.stream);
  return true;
}
