/* From the server to the client, or to the owner: where does each answer go. */
#include "relay.h"

#include <stdlib.h>

enum { ER_UNKNOWN_ERROR = 1105, ER_MUST_CHANGE_PASSWORD = 1820 };

static void count_on(struct numbering *n, uint8_t *data, size_t length) {
  for (size_t at = 0; at < length;) {
    if (n->left) {
      size_t skip = n->left < length - at ? n->left : length - at;
      n->left -= (uint32_t)skip;
      at += skip;
    } else if (n->header_seen < 3) {
      n->size |= (uint32_t)data[at++] << 8 * n->header_seen++;
    } else {
      data[at++] += n->shift;
      n->left = n->size;
      n->size = 0;
      n->header_seen = 0;
    }
  }
}

bool relay_write_client(struct relay *r, const uint8_t *data, size_t length) {
  r->answered = true;
  if (!r->numbering.shift) return stream_write(r->client, data, length);
  uint8_t *copy = malloc(length);
  if (!copy) return false;
  memcpy(copy, data, length);
  count_on(&r->numbering, copy, length);
  bool written = stream_write(r->client, copy, length);
  free(copy);
  return written;
}

static bool is_for_owner(struct relay *r) {
  return r->pending_count && relay_pending_at(r, 0)->destination == TO_OWNER;
}

/* Of a binary log the owner gets only how it ends: nothing before the packet at the end of this data, so many bytes of
 * which have come so far. */
static void leave_out_events(struct relay *r, uint64_t bytes, const uint8_t **data, size_t *length) {
  if (bytes > *length) return; /* it has begun before */
  r->overflowed = false;
  input_free(&r->collected);
  *data += *length - bytes;
  *length = (size_t)bytes;
}

/* The owner gets the answer whole, unless it is too long. */
static void collect_answer(struct relay *r, const uint8_t *data, size_t length) {
  if (r->answer.state == RESPONSE_STREAM) leave_out_events(r, r->answer.packet_bytes, &data, &length);
  if (length > r->answer_limit - r->collected.length) r->overflowed = true;
  if (r->overflowed)
    input_free(&r->collected);
  else if (!input_append(&r->collected, data, length))
    relay_end(r, "server", "not enough memory to collect an answer", "ENOMEM");
}

/* Bytes of the current answer go where it is wanted. */
static void write_answer(struct relay *r, const uint8_t *data, size_t length) {
  if (!length || r->ended || (r->pending_count && relay_pending_at(r, 0)->destination == TO_NOBODY)) return;
  if (is_for_owner(r))
    collect_answer(r, data, length);
  else if (!relay_write_client(r, data, length))
    relay_stream_ended(r, r->client, UV_EPIPE);
}

/* The server wants a file in answer to an injected command. Only a client who waits for an answer can send it, so the
 * answer is his; from any other the server gets an empty file, or a later command would pass for one. */
static void take_local_infile(struct relay *r, const uint8_t *data, size_t length) {
  if (!r->waiting || r->answered || !response_expected(relay_waiting_command(r)[PACKET_HEADER_SIZE])) {
    uint8_t no_file[PACKET_HEADER_SIZE];
    store_header(no_file, 0, (uint8_t)(r->answer.framing.sequence + 1));
    r->uploading = r->discarding; /* the file that the owner has asked for still comes */
    collect_answer(r, data, length);
    relay_write_server(r, no_file, sizeof no_file);
    return;
  }
  relay_pending_at(r, 0)->destination = TO_CLIENT_NOTIFY;
  r->ended_at = r->now; /* as far as the owner can know */
  if (relay_tell_local_infile(r, data, length) == OWNER_FAILED)
    relay_end(r, "client", "on_local_infile failed", "ECANCELED");
  struct input begun = r->collected;
  memset(&r->collected, 0, sizeof begun);
  write_answer(r, begun.data, begun.length);
  write_answer(r, data, length);
  input_free(&begun);
}

/* A step of the authentication for an injected COM_CHANGE_USER, whose last bytes these are: only a client who waits for
 * the answer to one of his own can go on with it. */
static void pass_auth_step(struct relay *r, const uint8_t *data, size_t length) {
  const char *problem = "the server asks for authentication data that an injected COM_CHANGE_USER cannot give.";
  bool clients_own = r->waiting && relay_waiting_command(r)[PACKET_HEADER_SIZE] == COM_CHANGE_USER;
  if (r->logging_in || (clients_own && !r->answered && !r->overflowed)) {
    struct input begun = r->collected;
    memset(&r->collected, 0, sizeof begun);
    r->logging_in = true;
    if ((begun.length && !relay_write_client(r, begun.data, begun.length)) || !relay_write_client(r, data, length))
      relay_stream_ended(r, r->client, UV_EPIPE);
    input_free(&begun);
    r->request.sequence = (uint8_t)(r->answer.framing.sequence + r->numbering.shift); /* the next packet counts on */
    return;
  }
  input_free(&r->collected);
  if (r->answer.auth_step == AUTH_STEP_NEWS) return;
  if (r->waiting && !r->answered)
    relay_write_error(r, (uint8_t)(r->request.sequence + 1), ER_UNKNOWN_ERROR, "HY000", problem);
  relay_end(r, "server", problem, "EPROTO");
}

/* The oldest answer due has ended; data: its last bytes, if the owner gets it; more: others are behind them. */
static void end_answer(struct relay *r, const uint8_t *data, size_t length, bool more) {
  struct response outcome = r->answer;
  struct pending done = relay_pending_pop(r);
  r->asked = false;
  if (outcome.error == ER_MUST_CHANGE_PASSWORD) r->doubtful = true; /* MariaDB says so to COM_STMT_SEND_LONG_DATA too */
  if (r->counting && done.destination != TO_NOBODY) counting_answer(r, &done, &outcome);
  if (done.text) free(done.text);
  if (done.destination == TO_CLIENT || done.destination == TO_NOBODY) return;
  bool one_more = r->second_error && done.command == COM_CHANGE_USER && outcome.error;
  if (one_more && !relay_pending_push(r, COM_CHANGE_USER, TO_NOBODY)) {
    relay_end(r, "server", "not enough memory", "ENOMEM");
    return;
  }
  r->barrier = r->logging_in = false;
  r->numbering.shift = 0;
  if (r->sent_at) r->ended_at = r->now;
  r->behind = more && r->pending_count;
  if (r->behind) relay_update_reading(r);
  enum owner_told told = relay_tell_answer(r, done.destination, &outcome, data, length);
  r->behind = false;
  if (told == OWNER_FAILED) relay_end(r, "client", "on_answer failed", "ECANCELED");
}

void relay_read_server(struct relay *r, const uint8_t *data, size_t length) {
  size_t at = 0, sent = 0;
  r->from_server += length;
  if (r->counting || r->sent_at) r->now = r->told_at = round_clock(&r->shared->round);
  if (r->sent_at && !r->first_byte_at) r->first_byte_at = r->now;
  while (at < length && r->pending_count && !r->ended) {
    size_t used = response_feed(&r->answer, data + at, length - at);
    at += used;
    if (r->counting) r->counting->answered += used;
    if (r->answer.local_infile) {
      r->answer.local_infile = false;
      r->uploading = true;
      if (is_for_owner(r)) {
        take_local_infile(r, data + sent, at - sent);
        sent = at;
        continue;
      }
    }
    if (r->answer.auth_step) {
      r->asked = r->answer.auth_step == AUTH_STEP_QUESTION;
      if (relay_pending_at(r, 0)->destination != TO_OWNER) continue;
      pass_auth_step(r, data + sent, at - sent);
      sent = at;
      continue;
    }
    if (r->answer.state == RESPONSE_BROKEN) {
      relay_protocol_error(r, "server", r->answer.problem);
      return;
    }
    if (r->answer.state != RESPONSE_DONE) break;
    const uint8_t *last = data + sent;
    size_t last_length = at - sent;
    if (is_for_owner(r)) {
      if (r->answer.last_packet) leave_out_events(r, r->answer.last_packet, &last, &last_length);
      if (last_length > r->answer_limit - r->collected.length) r->overflowed = true;
      sent = at;
    } else if (relay_pending_at(r, 0)->destination != TO_CLIENT ||
               (r->pending_count > 1 && relay_pending_at(r, 1)->destination != TO_CLIENT)) {
      write_answer(r, last, last_length);
      if (r->ended) return; /* the client is gone */
      sent = at;
    }
    end_answer(r, last, last_length, at < length);
  }
  if (!r->pending_count && at < length) { /* not asked for: a server's last words */
    r->doubtful = true;
    at = length;
  }
  write_answer(r, data + sent, at - sent);
}
