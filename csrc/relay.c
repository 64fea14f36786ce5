/* How the bytes move: see relay.h. relay_owner.c tells the owner of it; relay_module.c is the relay's face to Lua. */
#include "relay.h"

#include <stdio.h>
#include <stdlib.h>

enum { HIGH_WATER = 64 * 1024 }; /* more than this not taken by one side: the other is not read */
enum { PENDING_LIMIT = 64 };     /* answers due before a pipelining client has to wait */
enum { STATUS_AUTOCOMMIT = 2 };
enum {
  CR_SERVER_LOST = 2013,
  ER_UNKNOWN_ERROR = 1105,
  ER_NET_PACKET_TOO_LARGE = 1153,
  ER_NET_PACKETS_OUT_OF_ORDER = 1156
};

/* --- pending commands -------------------------------------------------------------------------------------- */

static bool pending_grow(struct relay *r) {
  struct pending *grown = malloc(r->pending_capacity * 2 * sizeof *grown);
  if (!grown) return false;
  for (uint32_t i = 0; i < r->pending_count; i++) grown[i] = *relay_pending_at(r, i);
  if (r->pending != r->pending_inline) free(r->pending);
  r->pending = grown;
  r->pending_first = 0;
  r->pending_capacity *= 2;
  return true;
}

bool relay_pending_push(struct relay *r, uint8_t command, enum destination destination) {
  r->commands++;
  if (!response_expected(command)) return true;
  if (r->pending_count == r->pending_capacity && !pending_grow(r)) return false;
  r->pending_count++;
  *relay_pending_at(r, r->pending_count - 1) =
      (struct pending){.command = command,
                       .destination = (uint8_t)destination,
                       .sent_at = r->counting ? round_clock(&r->shared->round) : 0};
  if (r->pending_count == 1) response_begin(&r->answer, command, r->capabilities);
  return true;
}

static struct pending pending_pop(struct relay *r) {
  struct pending done = *relay_pending_at(r, 0);
  r->pending_first = (r->pending_first + 1) % r->pending_capacity;
  r->pending_count--;
  if (r->pending_count) {
    response_begin(&r->answer, relay_pending_at(r, 0)->command, r->capabilities);
    return done;
  }
  r->pending_first = 0; /* the next is where this one was, which is in the cache */
  if (r->pending != r->pending_inline) {
    free(r->pending);
    r->pending = r->pending_inline;
    r->pending_capacity = PENDING_INLINE;
  }
  return done;
}

void relay_pending_drop(struct relay *r) {
  for (uint32_t i = 0; i < r->pending_count; i++) free(relay_pending_at(r, i)->text);
  if (r->pending != r->pending_inline) free(r->pending);
  r->pending = r->pending_inline;
  r->pending_capacity = PENDING_INLINE;
  r->pending_first = r->pending_count = 0;
}

static bool pending_is(struct relay *r, uint8_t state) { return r->pending_count && r->answer.state == state; }

/* --- the end ----------------------------------------------------------------------------------------------- */

void relay_forget(struct relay *r, struct stream *s) {
  bool by_itself = !r->ended;
  s->relay = NULL;
  r->ended = true;
  if (by_itself && r->counting) counting_lose(r, false);
  if (r->client == s) r->client = NULL;
  if (r->server == s) r->server = NULL;
  struct stream *other = r->client ? r->client : r->server;
  if (other && by_itself) stream_close(other); /* its owner closed one side: nobody is left for the other */
  if (other) return;
  input_free(&r->held);
  input_free(&r->collected);
  relay_pending_drop(r);
  counting_free(r->counting);
  r->counting = NULL;
  if (r->script.caller) luaL_unref(r->shared->L, LUA_REGISTRYINDEX, r->script.caller);
  memset(&r->script, 0, sizeof r->script);
  luaL_unref(r->shared->L, LUA_REGISTRYINDEX, r->reference);
}

/* Both streams go: the client after what was written for it, the server at once, unless it has not got all that a
 * client sent before it left. */
static void end_relay(struct relay *r, const char *side, const char *message, const char *code) {
  if (r->ended) return;
  r->ended = true;
  if (r->counting) counting_lose(r, side[0] == 's');
  relay_tell_end(r, side, message, code);
  struct stream *client = r->client, *server = r->server; /* the owner may have closed either, or detached that */
  if (client) round_flush(&r->shared->round, client);     /* what does not fit is queued then */
  bool client_left = strcmp(side, "client") == 0 && !message;
  if (server && client_left && (server->queued || !r->pending_count))
    stream_finish(server);
  else if (server)
    stream_close(server);
  if (client && client_left && !client->queued)
    stream_close(client);
  else if (client)
    stream_finish(client);
}

static void write_error(struct relay *r, uint8_t sequence, uint16_t code, const char *sqlstate, const char *text) {
  uint8_t packet[128];
  size_t length = strlen(text);
  uint8_t *at = store_header(packet, (uint32_t)(9 + length), sequence);
  *at++ = 0xff;
  at = store_uint(at, code, 2);
  *at++ = '#';
  memcpy(at, sqlstate, 5);
  memcpy(at + 5, text, length);
  stream_write(r->client, packet, PACKET_HEADER_SIZE + 9 + length);
}

/* The server is gone. An ERR packet may stand wherever a packet of the answer could begin, and for the whole answer. */
static void tell_server_lost(struct relay *r) {
  uint8_t last = r->request.sequence;
  if (!r->waiting || r->answered) {
    if (!r->pending_count || relay_pending_at(r, 0)->destination >= TO_OWNER || r->answer.state == RESPONSE_TUNNEL)
      return;
    if (!framing_at_boundary(&r->answer.framing)) return;
    uint8_t sequence = r->answer.framing.sequence; /* 0: nothing yet */
    if (!r->uploading && sequence) last = (uint8_t)(sequence + r->numbering.shift);
  }
  write_error(r, (uint8_t)(last + 1), CR_SERVER_LOST, "HY000", "Lost connection to MySQL server during query");
}

void relay_ended(struct relay *r, struct stream *s, int status) {
  if (r->ended) return;
  /* A client that has closed its side of the connection gets its answers still, as it would from the server; but what
   * the owner only thinks about is given up. */
  bool asked = r->pending_count || (r->command && !r->waiting); /* more may be behind a command that is done */
  if (s == r->client && status == 0 && asked && !pending_is(r, RESPONSE_STREAM) && !pending_is(r, RESPONSE_TUNNEL)) {
    r->client_done = true;
    relay_settle(r);
    return;
  }
  if (s == r->server) tell_server_lost(r);
  end_relay(r, s == r->client ? "client" : "server", status ? uv_strerror(status) : NULL,
            status ? uv_err_name(status) : NULL);
}

void relay_write_failed(struct relay *r, struct stream *s) {
  if (s == r->client) {
    relay_ended(r, s, UV_EPIPE);
  } else {
    r->deaf = true;
    relay_update_reading(r);
  }
}

void relay_timeout(struct relay *r, struct stream *s) {
  if (r->server) stream_look_at_queue(r->server);
  uint64_t active_at = r->client->active_at;
  if (r->server && r->server->active_at > active_at) active_at = r->server->active_at;
  uint64_t limit = r->client->queued || (r->server && r->server->queued) ? r->write_limit : r->read_limit;
  uint64_t idle = uv_now(s->shared->loop) - active_at;
  if (limit && idle >= limit) end_relay(r, "timeout", "nothing was read or written for too long", "ETIMEDOUT");
}

static void protocol_error(struct relay *r, const char *side, const char *problem) {
  if (side[0] == 'c' && !r->pending_count)
    write_error(r, (uint8_t)(r->request.sequence + 1), ER_NET_PACKETS_OUT_OF_ORDER, "08S01", problem);
  end_relay(r, side, problem, "EPROTO");
}

/* --- who is read ------------------------------------------------------------------------------------------- */

static void set_reading(struct stream *s, bool wanted) {
  if (s->reading == wanted) return;
  if (wanted)
    stream_resume(s);
  else
    stream_pause(s);
}

void relay_update_reading(struct relay *r) {
  if (r->ended) return;
  bool his_login = pending_is(r, RESPONSE_AUTH) && (r->logging_in || relay_pending_at(r, 0)->destination < TO_OWNER);
  bool clients_turn = r->uploading || his_login;
  /* While the owner thinks about a command its client is read a little further, to see whether he is still there. */
  bool held_enough = r->held.length > r->command_length + HIGH_WATER;
  bool waiting = (r->waiting || r->command) && held_enough;
  bool hold_client = r->client_done || r->deaf;
  hold_client |= clients_turn ? held_enough : waiting || r->blocked || r->barrier || r->pending_count > PENDING_LIMIT;
  set_reading(r->client, !hold_client && (!r->server || r->server->queued <= HIGH_WATER));
  if (r->server) set_reading(r->server, r->client->queued <= HIGH_WATER && !r->behind);
}

static bool is_idle(const struct relay *r) {
  return !r->pending_count && !r->waiting && !r->uploading && !r->held.length && !r->begun &&
         framing_at_boundary(&r->request) && !r->client->queued;
}

void relay_close_if_idle(struct relay *r) {
  if ((r->close_when_idle || r->close_after_answer) && !r->ended && is_idle(r)) end_relay(r, "idle", NULL, NULL);
}

/* --- client to server -------------------------------------------------------------------------------------- */

void relay_write_server(struct relay *r, const uint8_t *data, size_t length) {
  if (length && !r->deaf && (!r->server || !stream_write(r->server, data, length))) r->deaf = true;
}

/* The server waits for what the client says next, whatever the owner still thinks about. */
static bool is_clients_turn(struct relay *r) {
  if (r->uploading || r->logging_in) return true;
  return (pending_is(r, RESPONSE_AUTH) || pending_is(r, RESPONSE_STREAM)) &&
         relay_pending_at(r, 0)->destination < TO_OWNER;
}

/* In an authentication conversation the client's packets go on counting; a command begins at 0 again. */
static bool is_conversation(struct relay *r, uint8_t sequence) {
  return pending_is(r, RESPONSE_STREAM) || (pending_is(r, RESPONSE_AUTH) && sequence != 0);
}

/* Whether a command begins with this packet, or may: its number may not be there yet. */
static bool may_be_command(struct relay *r, const uint8_t *packet, size_t length) {
  return !r->uploading && !(length >= PACKET_HEADER_SIZE && is_conversation(r, packet[3]));
}

static void out_of_sync(struct relay *r) {
  char problem[64];
  unsigned expected = r->waiting ? (uint8_t)(r->answer.framing.sequence + r->numbering.shift + 1) : 0;
  snprintf(problem, sizeof problem, "received packet-id %u, but expected %u ... out of sync.",
           (unsigned)r->request.first_sequence, expected);
  protocol_error(r, "client", problem);
}

/* The head of a client's packet has come. */
static void begin_packet(struct relay *r) {
  if (r->uploading || is_conversation(r, r->request.first_sequence)) return;
  if (r->counting) r->counting->open = true;
  if (r->request.first_sequence != 0 || r->waiting)
    out_of_sync(r);
  else if (r->request.head_seen == 0)
    protocol_error(r, "client", "received an empty packet instead of a command");
  else if (!relay_pending_push(r, r->request.head[0], TO_CLIENT))
    end_relay(r, "client", "not enough memory for another pipelined command", "ENOMEM");
}

/* The file that the owner has asked for, as if he were the server, is there. */
static void thank_for_file(struct relay *r) {
  uint8_t ok[PACKET_HEADER_SIZE + 7] = {7, 0, 0, (uint8_t)(r->request.sequence + 1), 0, 0, 0, STATUS_AUTOCOMMIT};
  r->discarding = false;
  stream_write(r->client, ok, sizeof ok);
}

static void end_packet(struct relay *r) {
  r->asked = false;
  if (!r->uploading || r->request.length) return;
  r->uploading = false;
  if (r->discarding) thank_for_file(r);
}

/* The wire length of the chain of packets at the beginning of `data`, 0 if it is not all there. */
static size_t whole_chain(const uint8_t *data, size_t length) {
  struct cursor c = cursor_over(data, length);
  for (;;) {
    uint32_t payload = (uint32_t)cursor_uint(&c, 3);
    cursor_uint(&c, 1);
    cursor_bytes(&c, payload);
    if (c.failed) return 0;
    if (payload < PACKET_MAX_PAYLOAD) return length - cursor_left(&c);
  }
}

/* Shows a watched command, a whole chain of packets, to the owner. False if he has not decided yet. */
static bool offer_command(struct relay *r, const uint8_t *data, size_t length) {
  bool malformed;
  enum owner_told told = relay_tell_command(r, data, length, &malformed);
  if (told == OWNER_HAS_NO_METHOD)
    end_relay(r, "client", "a command is watched, but there is no on_command", "EINVAL");
  else if (told == OWNER_FAILED)
    end_relay(r, "client", "on_command failed", "ECANCELED");
  else if (malformed)
    protocol_error(r, "client", "received malformed query attributes");
  return told == OWNER_TOLD && !malformed && !r->waiting;
}

/* So many packets these bytes of a command are, which are whole ones and perhaps a part of one. */
static size_t packets_in(size_t length) { return length / (PACKET_HEADER_SIZE + PACKET_MAX_PAYLOAD) + 1; }

/* The owner would get the command whole: there has to be an end to it. */
static bool is_too_long(struct relay *r, size_t length) {
  return length - packets_in(length) * PACKET_HEADER_SIZE > r->command_limit;
}

static void refuse_command(struct relay *r, size_t length) {
  const char *problem = "Got a packet bigger than the proxy's limit (--proxy-command-limit)";
  write_error(r, (uint8_t)packets_in(length), ER_NET_PACKET_TOO_LARGE, "08S01", problem);
  end_relay(r, "client", problem, "EPROTO");
}

enum next { NEXT_PACKET, NEXT_HOLD, NEXT_PASSED };

/* At a command's first byte: must Lua see it, and can it? Adds to *at what the owner has dealt with. */
static enum next next_command(struct relay *r, const uint8_t *data, size_t length, size_t *at, size_t *sent) {
  const uint8_t *packet = data + *at;
  size_t left = length - *at;
  if (r->close_after_answer) {
    relay_write_server(r, data + *sent, *at - *sent);
    *at = *sent = length;
    return NEXT_PASSED;
  }
  if (r->barrier) return NEXT_HOLD;
  if (left >= PACKET_HEADER_SIZE && (packet[3] != 0 || memcmp(packet, "\0\0", 3) == 0)) return NEXT_PACKET;
  if (left <= PACKET_HEADER_SIZE) return NEXT_HOLD;
  uint8_t command = packet[PACKET_HEADER_SIZE];
  if (!(r->watched[command / 8] >> (command % 8) & 1)) return NEXT_PACKET;
  size_t whole = whole_chain(packet, left);
  bool too_long = is_too_long(r, whole ? whole : left);
  relay_write_server(r, data + *sent, *at - *sent);
  *sent = *at;
  if (!whole && !too_long) return NEXT_HOLD;
  r->blocked = r->pending_count > 0; /* first the answers that are due */
  if (!r->blocked && too_long) refuse_command(r, whole ? whole : left);
  if (r->blocked || r->ended || !offer_command(r, packet, whole)) return NEXT_HOLD;
  *at += whole;
  *sent = *at;
  return NEXT_PASSED;
}

/* Returns how many of the bytes have been dealt with; the others must be held. */
static size_t take_client_bytes(struct relay *r, const uint8_t *data, size_t length) {
  size_t at = 0, sent = 0;
  while (at < length && !r->ended) {
    if (pending_is(r, RESPONSE_TUNNEL)) {
      at = length;
      break;
    }
    if ((r->waiting || r->command) && framing_at_boundary(&r->request)) {
      if (!is_clients_turn(r) || (!r->waiting && may_be_command(r, data + at, length - at))) break;
    } else if ((r->watching || r->barrier || r->close_after_answer) && framing_at_boundary(&r->request) &&
               may_be_command(r, data + at, length - at)) {
      enum next next = next_command(r, data, length, &at, &sent);
      if (next == NEXT_HOLD) break;
      if (next == NEXT_PASSED) continue;
    }
    bool complete, discarded = r->discarding;
    size_t before = at, header = (size_t)(PACKET_HEADER_SIZE - r->request.header_seen);
    at += framing_feed(&r->request, data + at, length - at, &complete);
    if (discarded) sent = at;
    if (!r->begun && (complete || (r->request.header_seen == PACKET_HEADER_SIZE && r->request.head_seen))) {
      r->begun = true;
      begin_packet(r);
    }
    if (r->counting && !discarded) counting_pass(r, data + before, at - before, header, complete);
    if (complete) {
      r->begun = false;
      end_packet(r);
    }
  }
  if (!r->ended) relay_write_server(r, data + sent, at - sent);
  return r->ended ? length : at;
}

static void hold(struct relay *r, const uint8_t *data, size_t length) {
  if (length && !input_append(&r->held, data, length))
    end_relay(r, "client", "not enough memory to hold a command", "ENOMEM");
}

/* What is left of some bytes comes before what has come since, while a method of the owner's ran the loop. */
static void hold_rest(struct relay *r, const uint8_t *data, size_t length) {
  struct input since = r->held;
  if (!length) return;
  memset(&r->held, 0, sizeof r->held);
  hold(r, data, length);
  hold(r, since.data, since.length);
  input_free(&since);
}

/* Goes on with what was held, and has come meanwhile, as far as it may. */
static void take_held_bytes(struct relay *r) {
  for (bool more = true; more && !r->ended && r->held.length && !r->waiting && !r->command;) {
    r->blocked = false;
    struct input held = r->held;
    memset(&r->held, 0, sizeof r->held);
    size_t used = take_client_bytes(r, held.data, held.length);
    more = r->held.length > 0;
    if (used == 0 && !more && !r->ended) {
      r->held = held;
      return;
    }
    hold_rest(r, held.data + used, held.length - used);
    input_free(&held);
  }
}

/* While the owner is told of a command there may be more behind it, which has not been looked at. */
static void read_client(struct relay *r, const uint8_t *data, size_t length) {
  size_t waiting = r->command ? 0 : r->command_length; /* so much of what is held is the command that waits */
  r->from_client += length;
  if ((r->waiting || r->command) && r->held.length == waiting && is_clients_turn(r)) {
    size_t used = take_client_bytes(r, data, length);
    hold(r, data + used, length - used);
  } else if (r->held.length || r->command) {
    hold(r, data, length);
    take_held_bytes(r);
  } else {
    size_t used = take_client_bytes(r, data, length);
    hold_rest(r, data + used, length - used);
  }
}

/* --- server to client -------------------------------------------------------------------------------------- */

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

/* The owner gets the answer whole, unless it is too long. */
static void collect_answer(struct relay *r, const uint8_t *data, size_t length) {
  if (length > r->answer_limit - r->collected.length) r->overflowed = true;
  if (r->overflowed)
    input_free(&r->collected);
  else if (!input_append(&r->collected, data, length))
    end_relay(r, "server", "not enough memory to collect an answer", "ENOMEM");
}

/* Bytes of the current answer go where it is wanted. */
static void write_answer(struct relay *r, const uint8_t *data, size_t length) {
  if (!length || r->ended || (r->pending_count && relay_pending_at(r, 0)->destination == TO_NOBODY)) return;
  if (is_for_owner(r))
    collect_answer(r, data, length);
  else if (!relay_write_client(r, data, length))
    relay_ended(r, r->client, UV_EPIPE);
}

/* The server wants a file in answer to an injected command. Only a client who waits for an answer can send it, so the
 * answer is his; from any other the server gets an empty file, or a later command would pass for one. */
static void take_local_infile(struct relay *r, const uint8_t *data, size_t length) {
  if (!r->waiting || r->answered || !response_expected(relay_waiting_command(r)[PACKET_HEADER_SIZE])) {
    uint8_t no_file[PACKET_HEADER_SIZE];
    store_header(no_file, 0, (uint8_t)(r->answer.framing.sequence + 1));
    r->uploading = false;
    collect_answer(r, data, length);
    relay_write_server(r, no_file, sizeof no_file);
    return;
  }
  relay_pending_at(r, 0)->destination = TO_CLIENT_NOTIFY;
  r->ended_at = r->now; /* as far as the owner can know */
  if (relay_tell_local_infile(r, data, length) == OWNER_FAILED)
    end_relay(r, "client", "on_local_infile failed", "ECANCELED");
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
      relay_ended(r, r->client, UV_EPIPE);
    input_free(&begun);
    r->request.sequence = (uint8_t)(r->answer.framing.sequence + r->numbering.shift); /* the next packet counts on */
    return;
  }
  input_free(&r->collected);
  if (r->answer.auth_step == AUTH_STEP_NEWS) return;
  if (r->waiting && !r->answered)
    write_error(r, (uint8_t)(r->request.sequence + 1), ER_UNKNOWN_ERROR, "HY000", problem);
  end_relay(r, "server", problem, "EPROTO");
}

/* The oldest answer due has ended; data: its last bytes, if the owner gets it; more: others are behind them. */
static void end_answer(struct relay *r, const uint8_t *data, size_t length, bool more) {
  struct response outcome = r->answer;
  struct pending done = pending_pop(r);
  r->asked = false;
  if (r->counting && done.destination != TO_NOBODY) counting_answer(r, &done, &outcome);
  if (done.text) free(done.text);
  if (done.destination == TO_CLIENT || done.destination == TO_NOBODY) return;
  bool one_more = r->second_error && done.command == COM_CHANGE_USER && outcome.error;
  if (one_more && !relay_pending_push(r, COM_CHANGE_USER, TO_NOBODY)) {
    end_relay(r, "server", "not enough memory", "ENOMEM");
    return;
  }
  r->barrier = r->logging_in = false;
  r->numbering.shift = 0;
  if (r->sent_at) r->ended_at = r->now;
  r->behind = more && r->pending_count;
  if (r->behind) relay_update_reading(r);
  enum owner_told told = relay_tell_answer(r, done.destination, &outcome, data, length);
  r->behind = false;
  if (told == OWNER_FAILED) end_relay(r, "client", "on_answer failed", "ECANCELED");
}

static void read_server(struct relay *r, const uint8_t *data, size_t length) {
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
      protocol_error(r, "server", r->answer.problem);
      return;
    }
    if (r->answer.state != RESPONSE_DONE) break;
    const uint8_t *last = data + sent;
    size_t last_length = at - sent;
    if (is_for_owner(r)) {
      if (last_length > r->answer_limit - r->collected.length) r->overflowed = true;
      sent = at;
    } else if (relay_pending_at(r, 0)->destination != TO_CLIENT ||
               (r->pending_count > 1 && relay_pending_at(r, 1)->destination != TO_CLIENT)) {
      write_answer(r, last, last_length);
      sent = at;
    }
    end_answer(r, last, last_length, at < length);
  }
  if (!r->pending_count) at = length; /* not asked for: a server's last words */
  write_answer(r, data + sent, at - sent);
}

/* --- events ------------------------------------------------------------------------------------------------ */

/* The client sends no more: the server is told once it has all, or waits for what does not come, and the session ends
 * with the last answer. A command of the owner's that gets none so ends it too. */
static void end_if_answered(struct relay *r) {
  bool owed = r->asked || (r->uploading && !r->discarding); /* the server waits for what the client says */
  if (r->waiting ? owed : !r->pending_count) {
    end_relay(r, "client", NULL, NULL);
  } else if (!r->waiting && (owed || !r->held.length) && !r->server_told) {
    r->server_told = true;
    stream_end_writing(r->server);
  }
}

/* After everything that may have changed who is read. */
void relay_settle(struct relay *r) {
  if (r->blocked && !r->pending_count) take_held_bytes(r);
  if (r->held.length && !r->waiting && !r->blocked && (!r->barrier || pending_is(r, RESPONSE_AUTH))) take_held_bytes(r);
  relay_close_if_idle(r);
  if (r->client_done && !r->ended && !r->command) end_if_answered(r);
  relay_update_reading(r);
}

void relay_read(struct relay *r, struct stream *from, const uint8_t *data, size_t length) {
  r->shared->relayed++;
  if (from == r->client)
    read_client(r, data, length);
  else
    read_server(r, data, length);
  relay_settle(r);
}

void relay_drained(struct relay *r, struct stream *s) {
  (void)s;
  relay_close_if_idle(r);
  relay_update_reading(r);
}
