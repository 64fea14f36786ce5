#include "round.h"

#include <stdlib.h>
#include <string.h>

#include "stream.h"

enum { SHORTEST_READ_BUFFER = 64 * 1024 };

struct round_check {
  uv_check_t handle; /* first, so that a handle is its check; luv looks at handle.data, which stays NULL */
  struct round *round;
};

static void on_check(uv_check_t *handle) { round_end(((struct round_check *)handle)->round); }

static void on_closed(uv_handle_t *handle) { free(handle); }

bool round_open(struct round *r) {
  memset(r, 0, sizeof *r);
  r->input = malloc(ROUND_INPUT);
  r->output = malloc(ROUND_OUTPUT);
  if (r->input && r->output) return true;
  free(r->input);
  free(r->output);
  return false;
}

static void close_check(struct round *r) {
  if (r->check) uv_close((uv_handle_t *)&r->check->handle, on_closed);
  r->check = NULL;
}

void round_close(struct round *r) {
  free(r->input);
  free(r->output);
  r->input = r->output = NULL;
  close_check(r);
}

bool round_join(struct round *r, uv_loop_t *loop) {
  if (!r->check) {
    r->check = calloc(1, sizeof *r->check);
    if (!r->check) return false;
    r->check->round = r;
    uv_check_init(loop, &r->check->handle); /* these two cannot fail */
    uv_check_start(&r->check->handle, on_check);
    uv_unref((uv_handle_t *)&r->check->handle);
  }
  r->streams++;
  return true;
}

void round_leave(struct round *r) {
  if (--r->streams == 0) close_check(r);
}

static bool is_input(const struct round *r, const char *buffer) {
  return buffer >= r->input && buffer < r->input + ROUND_INPUT;
}

uv_buf_t round_read_buffer(struct round *r) {
  size_t left = ROUND_INPUT - r->input_length;
  if (left >= SHORTEST_READ_BUFFER) return uv_buf_init(r->input + r->input_length, (unsigned)left);
  char *buffer = malloc(SHORTEST_READ_BUFFER); /* the loop is run deep within itself */
  return uv_buf_init(buffer, buffer ? SHORTEST_READ_BUFFER : 0);
}

size_t round_hold(struct round *r, const char *buffer, size_t length) {
  size_t held = r->held;
  if (is_input(r, buffer)) r->input_length = r->held = (size_t)(buffer - r->input) + length;
  return held;
}

void round_let_go(struct round *r, char *buffer, size_t held) {
  r->held = held;
  if (!is_input(r, buffer))
    free(buffer);
  else if (!r->read_count)
    r->input_length = held;
}

bool round_keep_read(struct round *r, struct stream *s, size_t length) {
  if (length > ROUND_PIECE || r->read_count == ROUND_PIECES ||
      r->input_length + length + SHORTEST_READ_BUFFER > ROUND_INPUT)
    return false;
  r->reads[r->read_count++] = (struct piece){s, r->input_length, length};
  r->input_length += length;
  return true;
}

bool round_keeps(const struct round *r, const uint8_t *data, size_t length) {
  const uint8_t *input = (const uint8_t *)r->input;
  return data >= input && data + length <= input + r->input_length;
}

bool round_flush(struct round *r, struct stream *s) {
  if (!s->kept_write) return true;
  struct piece *p = &r->writes[s->kept_write - 1];
  p->stream = NULL;
  s->kept_write = 0;
  return stream_write_now(s, (const uint8_t *)r->output + p->at, p->length);
}

static void take_turn(struct turn *turn) {
  void (*take)(struct turn *) = turn->take;
  turn->take = NULL;
  if (take) take(turn);
}

void round_end(struct round *r) {
  if (!r->read_count) return;
  bool nested = r->taken > 0; /* a method that is called here runs the loop: the piece at hand is still looked at */
  r->handling = true;
  r->clock = 0;
  while (r->taken < r->read_count) {
    const struct piece *p = &r->reads[r->taken++];
    stream_take(p->stream, (const uint8_t *)r->input + p->at, p->length);
  }
  r->handling = false;
  for (uint32_t i = 0; i < r->write_count; i++) {
    struct stream *s = r->writes[i].stream;
    if (s && !round_flush(r, s)) stream_write_failed(s);
  }
  r->write_count = 0;
  r->output_length = 0;
  if (nested) {
    for (struct turn *turn = r->turns; turn; turn = turn->outer) take_turn(turn);
    return;
  }
  r->read_count = r->taken = 0;
  r->input_length = r->held;
}

void round_end_before(struct round *r, struct turn *turn) {
  turn->outer = r->turns;
  r->turns = turn;
  round_end(r);
  r->turns = turn->outer;
  take_turn(turn);
}

bool round_keep_write(struct round *r, struct stream *s, const uint8_t *data, size_t length) {
  if (!r->handling || !s->relay || s->queued || length > ROUND_PIECE || length > ROUND_OUTPUT - r->output_length)
    return false;
  if (!s->kept_write) {
    if (r->write_count == ROUND_PIECES) return false;
    r->writes[r->write_count++] = (struct piece){s, r->output_length, 0};
    s->kept_write = r->write_count;
  } else if (s->kept_write != r->write_count) {
    return false; /* others have written since */
  }
  memcpy(r->output + r->output_length, data, length);
  r->output_length += length;
  r->writes[s->kept_write - 1].length += length;
  return true;
}
