/* What is decided about a watched command: see relay.h. */
#include "query.h"
#include "relay.h"

enum { LOCAL_INFILE_REQUEST = 0xfb };

/* The watched command has been dealt with. */
static void decided(struct relay *r) {
  r->waiting = false;
  if (!r->command) { /* not from within on_command: it lies at the front of what is held */
    input_consume(&r->held, r->command_length);
    relay_settle(r);
  }
}

/* The waiting command is about to be sent as it came. */
static void count_whole(struct relay *r, const uint8_t *command) {
  counting_send(r, command + PACKET_HEADER_SIZE, r->command_length - PACKET_HEADER_SIZE, false, r->command_length);
}

bool relay_forward(struct relay *r, bool notify) {
  const uint8_t *command = relay_waiting_command(r);
  if (!relay_pending_push(r, command[PACKET_HEADER_SIZE], notify ? TO_CLIENT_NOTIFY : TO_CLIENT)) return false;
  if (r->counting) count_whole(r, command);
  r->barrier = notify && response_expected(command[PACKET_HEADER_SIZE]);
  relay_write_server(r, command, r->command_length);
  decided(r);
  return true;
}

void relay_answer(struct relay *r, const uint8_t *bytes, size_t length) {
  memset(&r->numbering, 0, sizeof r->numbering);
  r->numbering.shift = (uint8_t)(r->request.sequence + 1 - bytes[3]);
  relay_write_client(r, bytes, length); /* its end is told by itself */
  r->numbering.shift = 0;
  if (length > PACKET_HEADER_SIZE && bytes[PACKET_HEADER_SIZE] == LOCAL_INFILE_REQUEST)
    r->uploading = r->discarding = true;
}

void relay_reply(struct relay *r, const uint8_t *packets, size_t length) {
  r->commands++;
  if (length) relay_answer(r, packets, length);
  decided(r);
}

/* What stands between a command of our own and its text: query attributes, if the session has them. What is sent in
 * place of the client's statement, or beside it, has the same. */
static struct cursor attributes_of(const struct relay *r, uint8_t command) {
  static const uint8_t no_attributes[] = {0, 1}; /* no parameters, one set of them */
  if (command != COM_QUERY || !(r->capabilities & CLIENT_QUERY_ATTRIBUTES)) return cursor_over(NULL, 0);
  const uint8_t *waiting = r->waiting ? relay_waiting_command(r) : NULL;
  if (waiting && waiting[PACKET_HEADER_SIZE] == COM_QUERY) {
    struct cursor client = cursor_over(waiting, r->command_length);
    size_t length = (size_t)cursor_uint(&client, 3);
    cursor_bytes(&client, 2); /* the packet's number, and the command */
    client = cursor_over(client.at, length - 1);
    const uint8_t *first = client.at;
    query_skip_attributes(&client);
    if (!client.failed) return cursor_over(first, (size_t)(client.at - first));
  }
  return cursor_over(no_attributes, sizeof no_attributes);
}

/* Writes a command of our own to the server in the form that the session uses. Result: how many packets it was. */
static uint32_t write_command(struct relay *r, const uint8_t *payload, size_t length) {
  struct cursor attributes = attributes_of(r, payload[0]);
  size_t more = cursor_left(&attributes), left = length + more;
  uint32_t packets = 0;
  uint8_t header[PACKET_HEADER_SIZE];
  for (bool last = false; !last; packets++) {
    uint32_t part = left < PACKET_MAX_PAYLOAD ? (uint32_t)left : PACKET_MAX_PAYLOAD;
    left -= part;
    last = part < PACKET_MAX_PAYLOAD;
    store_header(header, part, (uint8_t)packets);
    relay_write_server(r, header, sizeof header);
    if (packets == 0 && more) {
      relay_write_server(r, payload, 1);
      relay_write_server(r, attributes.at, more);
      payload++;
      part -= 1 + (uint32_t)more;
    }
    relay_write_server(r, payload, part);
    payload += part;
  }
  return packets;
}

bool relay_inject(struct relay *r, const uint8_t *payload, size_t length, enum destination destination) {
  const uint8_t *waiting = payload ? NULL : relay_waiting_command(r);
  if (!relay_pending_push(r, payload ? payload[0] : waiting[PACKET_HEADER_SIZE], destination)) return false;
  memset(&r->numbering, 0, sizeof r->numbering);
  r->sent_at = r->counting && r->pending_count ? relay_pending_at(r, r->pending_count - 1)->sent_at
                                               : round_clock(&r->shared->round);
  r->first_byte_at = r->ended_at = 0;
  if (r->counting && payload) counting_send(r, payload, length, true, length + PACKET_HEADER_SIZE);
  if (r->counting && !payload) count_whole(r, waiting);
  if (payload) {
    uint32_t packets = write_command(r, payload, length);
    if (response_expected(payload[0])) r->numbering.shift = (uint8_t)(r->request.sequence + 1 - packets);
  } else
    relay_write_server(r, waiting, r->command_length);
  return true;
}

bool relay_can_replace(const struct relay *r, size_t length) {
  struct cursor attributes = attributes_of(r, COM_QUERY);
  return r->request.sequence == 0 && length + cursor_left(&attributes) < PACKET_MAX_PAYLOAD;
}

bool relay_replace(struct relay *r, const uint8_t *payload, size_t length) {
  if (!relay_pending_push(r, payload[0], TO_CLIENT)) return false;
  if (r->counting) counting_send(r, payload, length, true, length + PACKET_HEADER_SIZE);
  write_command(r, payload, length);
  decided(r);
  return true;
}
