/* From the client to the server: which bytes of his go on at once, which the owner is shown, and which are held. */
#include "relay.h"

#include <stdio.h>

enum { STATUS_AUTOCOMMIT = 2 };
enum { ER_NET_PACKET_TOO_LARGE = 1153 };

void relay_write_server(struct relay *r, const uint8_t *data, size_t length) {
  if (length && !r->deaf && (!r->server || !stream_write(r->server, data, length))) r->deaf = true;
}

/* The server waits for what the client says next, whatever the owner still thinks about. */
static bool is_clients_turn(struct relay *r) {
  if (r->uploading || r->logging_in) return true;
  return (relay_pending_is(r, RESPONSE_AUTH) || relay_is_endless(r)) && relay_pending_at(r, 0)->destination < TO_OWNER;
}

/* In an authentication conversation the client's packets go on counting; a command begins at 0 again. */
static bool is_conversation(struct relay *r, uint8_t sequence) {
  return relay_pending_is(r, RESPONSE_STREAM) || (relay_pending_is(r, RESPONSE_AUTH) && sequence != 0);
}

/* Whether a command begins with this packet, or may: its number may not be there yet. */
static bool may_be_command(struct relay *r, const uint8_t *packet, size_t length) {
  return !r->uploading && !(length >= PACKET_HEADER_SIZE && is_conversation(r, packet[3]));
}

static void out_of_sync(struct relay *r, uint8_t sequence) {
  char problem[64];
  bool goes_on = r->waiting || r->asked;
  unsigned expected = goes_on ? (uint8_t)(r->answer.framing.sequence + r->numbering.shift + 1) : 0;
  snprintf(problem, sizeof problem, "received packet-id %u, but expected %u ... out of sync.", (unsigned)sequence,
           expected);
  relay_protocol_error(r, "client", problem);
}

/* A server may answer what nobody waits for: see response.h. False: that is so, and the session ends. */
static bool is_long_enough(struct relay *r, uint8_t command, size_t length) {
  if (length >= response_shortest(command)) return true;
  char problem[80];
  snprintf(problem, sizeof problem, "received a command %u of %zu bytes, which needs %u", (unsigned)command, length,
           (unsigned)response_shortest(command));
  relay_protocol_error(r, "client", problem);
  return false;
}

/* The head of a client's packet has come. */
static void begin_packet(struct relay *r) {
  if (r->uploading || is_conversation(r, r->request.first_sequence)) return;
  if (r->counting) r->counting->open = true;
  if (r->request.first_sequence != 0 || r->waiting)
    out_of_sync(r, r->request.first_sequence);
  else if (r->request.head_seen == 0)
    relay_protocol_error(r, "client", "received an empty packet instead of a command");
  else if (!is_long_enough(r, r->request.head[0], r->request.length))
    return;
  else if (!relay_pending_push(r, r->request.head[0], TO_CLIENT))
    relay_end(r, "client", "not enough memory for another pipelined command", "ENOMEM");
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
    relay_end(r, "client", "a command is watched, but there is no on_command", "EINVAL");
  else if (told == OWNER_FAILED)
    relay_end(r, "client", "on_command failed", "ECANCELED");
  else if (malformed)
    relay_protocol_error(r, "client", "received malformed query attributes");
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
  relay_write_error(r, (uint8_t)packets_in(length), ER_NET_PACKET_TOO_LARGE, "08S01", problem);
  relay_end(r, "client", problem, "EPROTO");
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
  if (r->asked && left >= PACKET_HEADER_SIZE) out_of_sync(r, packet[3]); /* instead of what he was asked for */
  if (r->barrier || r->ended) return NEXT_HOLD;
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
  if (r->blocked || r->ended || !is_long_enough(r, command, whole - PACKET_HEADER_SIZE)) return NEXT_HOLD;
  if (!offer_command(r, packet, whole)) return NEXT_HOLD;
  *at += whole;
  *sent = *at;
  return NEXT_PASSED;
}

/* Returns how many of the bytes have been dealt with; the others must be held. */
static size_t take_client_bytes(struct relay *r, const uint8_t *data, size_t length) {
  size_t at = 0, sent = 0;
  while (at < length && !r->ended) {
    if (relay_pending_is(r, RESPONSE_TUNNEL)) {
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
    relay_end(r, "client", "not enough memory to hold a command", "ENOMEM");
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

/* What has come meanwhile, too. */
void relay_take_held_bytes(struct relay *r) {
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
void relay_read_client(struct relay *r, const uint8_t *data, size_t length) {
  size_t waiting = r->command ? 0 : r->command_length; /* so much of what is held is the command that waits */
  r->from_client += length;
  if ((r->waiting || r->command) && r->held.length == waiting && is_clients_turn(r)) {
    size_t used = take_client_bytes(r, data, length);
    hold(r, data + used, length - used);
  } else if (r->held.length || r->command) {
    hold(r, data, length);
    relay_take_held_bytes(r);
  } else {
    size_t used = take_client_bytes(r, data, length);
    hold_rest(r, data + used, length - used);
  }
}
