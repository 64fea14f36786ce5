/* What a relay tells its owner: see relay.h. */
#include "query.h"
#include "relay.h"
#include "resultset.h"

static void push_relay(lua_State *L, const struct relay *r, const struct owner_event *event) {
  if (event->has_caller)
    script_push_relay(L);
  else
    push_reference(L, r->reference);
}

struct end_event {
  struct owner_event event;
  struct relay *relay;
  const char *side, *message, *code;
};

static int push_end(lua_State *L, struct owner_event *event) {
  const struct end_event *e = (struct end_event *)event;
  push_relay(L, e->relay, event);
  lua_pushstring(L, e->side);
  lua_pushstring(L, e->message);
  lua_pushstring(L, e->code);
  return 4;
}

void relay_tell_end(struct relay *r, const char *side, const char *message, const char *code) {
  struct end_event e = {{.method = ON_RELAY_END, .push = push_end, .keeps = r->reference}, r, side, message, code};
  owner_tell(r->client, &e.event);
}

/* A command of one packet; the cursor is at its payload. False: its query attributes are malformed, or the text behind
 * them is too long for this. */
static bool push_short(lua_State *L, const struct relay *r, struct cursor payload, bool attributes) {
  struct recent *recent = &r->shared->recent;
  if (!attributes) {
    recent_push(L, recent, (const char *)payload.at, cursor_left(&payload));
    return true;
  }
  char classic[RECENT_LONGEST] = {COM_QUERY};
  cursor_uint(&payload, 1);
  query_skip_attributes(&payload);
  size_t length = cursor_left(&payload);
  if (payload.failed || length > sizeof classic - 1) return false;
  memcpy(classic + 1, payload.at, length);
  recent_push(L, recent, classic, 1 + length);
  return true;
}

bool relay_push_command(lua_State *L, const struct relay *r) {
  const uint8_t *command = relay_waiting_command(r);
  struct cursor chain = cursor_over(command, r->command_length);
  bool attributes = command[PACKET_HEADER_SIZE] == COM_QUERY && r->capabilities & CLIENT_QUERY_ATTRIBUTES;
  if (r->command_length < PACKET_MAX_PAYLOAD) {
    struct cursor payload = chain;
    cursor_bytes(&payload, PACKET_HEADER_SIZE);
    if (push_short(L, r, payload, attributes)) return true;
  }
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (bool first = true; cursor_left(&chain); first = false) {
    uint32_t payload = (uint32_t)cursor_uint(&chain, 3);
    cursor_uint(&chain, 1);
    const uint8_t *part = cursor_bytes(&chain, payload);
    if (!part) return false;
    struct cursor text = cursor_over(part, payload);
    if (first && attributes) {
      luaL_addchar(&b, COM_QUERY);
      cursor_uint(&text, 1);
      query_skip_attributes(&text);
      if (text.failed) return false;
    }
    luaL_addlstring(&b, (const char *)text.at, cursor_left(&text));
  }
  luaL_pushresult(&b);
  return true;
}

struct command_event {
  struct owner_event event;
  struct relay *relay;
  bool malformed;
};

static int push_command(lua_State *L, struct owner_event *event) {
  struct command_event *e = (struct command_event *)event;
  struct relay *r = e->relay;
  push_relay(L, r, event);
  e->malformed = !relay_push_command(L, r);
  if (e->malformed) return -1;
  r->waiting = true;
  r->answered = false;
  if (!r->script.caller) {
    lua_pushinteger(L, (uint8_t)lua_tostring(L, -1)[0]);
    return 3;
  }
  int arguments = script_command(L, r);
  /* That a command has just been sent is all that can be due. 0: its time is not taken. */
  if (arguments < 0 && r->pending_count) event->ended = relay_pending_at(r, r->pending_count - 1)->sent_at;
  return arguments;
}

enum owner_told relay_tell_command(struct relay *r, const uint8_t *data, size_t length, bool *malformed) {
  struct command_event e = {{.method = ON_COMMAND, .push = push_command, .keeps = r->reference}, r, false};
  if (r->script.caller) script_calls(r, &e.event);
  size_t last = length - (length - PACKET_HEADER_SIZE) % (PACKET_HEADER_SIZE + PACKET_MAX_PAYLOAD);
  r->request.sequence = data[last - 1]; /* of the chain's last packet: the answer counts on from there */
  r->command = data;
  r->command_length = length;
  enum owner_told told = owner_tell(r->client, &e.event);
  r->command = NULL;
  *malformed = e.malformed;
  return told;
}

/* An answer: what has been collected of it, and the bytes behind that, of the current read. */
struct answer_event {
  struct owner_event event;
  struct relay *relay;
  struct response *outcome;
  enum destination destination;
  const uint8_t *data;
  size_t length;
};

static void push_kept(lua_State *L, const struct answer_event *e) {
  const struct input *collected = &e->relay->collected;
  uint8_t *bytes;
  resultset_push(L, e->outcome, true, true, collected->length + e->length, &bytes);
  if (collected->length) memcpy(bytes, collected->data, collected->length);
  if (e->length) memcpy(bytes + collected->length, e->data, e->length);
}

static int push_answer(lua_State *L, struct owner_event *event) {
  const struct answer_event *e = (struct answer_event *)event;
  struct relay *r = e->relay;
  bool whole = !r->collected.length && round_keeps(&r->shared->round, e->data, e->length);
  bool lend = e->destination == TO_OWNER && r->script.asked && whole && !r->overflowed;
  push_relay(L, r, event);
  lua_pushinteger(L, e->outcome->error);
  if (e->destination != TO_OWNER)
    lua_pushnil(L);
  else if (lend)
    resultset_push_empty(L);
  else if (r->overflowed)
    lua_pushboolean(L, false);
  else
    push_kept(L, e);
  r->overflowed = false;
  input_free(&r->collected);
  if (!r->script.asked) return 3;
  return script_answer(L, r, lend ? &(struct lent){e->outcome, e->data, e->length} : NULL);
}

enum owner_told relay_tell_answer(struct relay *r, enum destination destination, struct response *outcome,
                                  const uint8_t *data, size_t length) {
  struct answer_event e = {{.method = ON_ANSWER, .push = push_answer, .keeps = r->reference, .began = r->told_at},
                           r,
                           outcome,
                           destination,
                           data,
                           length};
  if (r->script.asked) script_calls(r, &e.event);
  enum owner_told told = owner_tell(r->client, &e.event);
  if (r->told_at) r->told_at = e.event.ended;
  return told;
}

static int push_local_infile(lua_State *L, struct owner_event *event) {
  const struct answer_event *e = (struct answer_event *)event;
  push_relay(L, e->relay, event);
  push_kept(L, e);
  return 2 + (e->relay->script.asked ? script_hand_over(L, e->relay) : 0);
}

enum owner_told relay_tell_local_infile(struct relay *r, const uint8_t *data, size_t length) {
  struct response outcome = r->answer;
  outcome.local_infile = true;
  struct answer_event e = {{.method = ON_LOCAL_INFILE, .push = push_local_infile, .keeps = r->reference},
                           r,
                           &outcome,
                           TO_OWNER,
                           data,
                           length};
  return owner_tell(r->client, &e.event);
}
