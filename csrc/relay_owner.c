/* What a relay tells its owner: see relay.h. Arguments are made in the protected call, as Lua may run out of memory. */
#include "query.h"
#include "relay.h"

const char relay_anchors_key = 0;

static void push_relay(struct relay *r) {
  lua_pushlightuserdata(r->L, (void *)&relay_anchors_key);
  lua_rawget(r->L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(r->L, r);
  lua_rawget(r->L, -2);
  lua_remove(r->L, -2);
}

/* stream_tell for the client's owner. A reference keeps the relay for its caller, whatever the owner does. */
static enum told tell_owner(struct relay *r, const char *method, stream_push_arguments push, void *context) {
  push_relay(r);
  enum told told = stream_tell(r->client, method, push, context);
  lua_pop(r->L, 1);
  return told;
}

struct relay_end {
  struct relay *relay;
  const char *side, *message, *code;
};

static int push_relay_end(lua_State *L, void *context) {
  const struct relay_end *end = context;
  push_relay(end->relay);
  lua_pushstring(L, end->side);
  lua_pushstring(L, end->message);
  lua_pushstring(L, end->code);
  return 4;
}

void relay_tell_end(struct relay *r, const char *side, const char *message, const char *code) {
  struct relay_end end = {r, side, message, code};
  tell_owner(r, "on_relay_end", push_relay_end, &end);
}

/* A whole command of the client, as it came. */
struct offer {
  struct relay *relay;
  const uint8_t *data;
  size_t length;
  bool malformed;
};

/* Pushes a command as scripts know it: without packet headers and query attributes. The answer counts on from its last
 * packet. */
static int push_command(lua_State *L, void *context) {
  struct offer *offer = context;
  struct relay *r = offer->relay;
  push_relay(r);
  struct cursor chain = cursor_over(offer->data, offer->length);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  for (bool first = true; cursor_left(&chain); first = false) {
    uint32_t payload = (uint32_t)cursor_uint(&chain, 3);
    r->request.sequence = (uint8_t)cursor_uint(&chain, 1);
    const uint8_t *part = cursor_bytes(&chain, payload);
    if (!part) break;
    struct cursor text = cursor_over(part, payload);
    if (first && part[0] == COM_QUERY && r->capabilities & CLIENT_QUERY_ATTRIBUTES) {
      luaL_addchar(&b, COM_QUERY);
      cursor_uint(&text, 1);
      query_skip_attributes(&text);
      if (text.failed) chain.failed = true;
    }
    luaL_addlstring(&b, (const char *)text.at, cursor_left(&text));
  }
  luaL_pushresult(&b);
  offer->malformed = chain.failed;
  if (offer->malformed) return -1;
  r->command = offer->data;
  r->command_length = offer->length;
  r->waiting = true;
  r->answered = false;
  return 2;
}

enum told relay_tell_command(struct relay *r, const uint8_t *data, size_t length, bool *malformed) {
  struct offer offer = {r, data, length, false};
  enum told told = tell_owner(r, "on_command", push_command, &offer);
  *malformed = offer.malformed;
  return told;
}

static int push_local_infile(lua_State *L, void *context) {
  const struct relay *r = context;
  push_relay(context);
  lua_pushlstring(L, (const char *)r->collected.data, r->collected.length);
  return 2;
}

enum told relay_tell_local_infile(struct relay *r) { return tell_owner(r, "on_local_infile", push_local_infile, r); }

struct answer {
  struct relay *relay;
  enum destination destination;
  uint16_t error;
};

static int push_answer(lua_State *L, void *context) {
  const struct answer *answer = context;
  struct relay *r = answer->relay;
  push_relay(r);
  lua_pushinteger(L, answer->error);
  if (answer->destination != TO_OWNER)
    lua_pushnil(L);
  else if (r->overflowed)
    lua_pushboolean(L, false);
  else
    lua_pushlstring(L, (const char *)r->collected.data, r->collected.length);
  r->overflowed = false;
  input_free(&r->collected);
  return 3;
}

enum told relay_tell_answer(struct relay *r, enum destination destination, uint16_t error) {
  struct answer answer = {r, destination, error};
  return tell_owner(r, "on_answer", push_answer, &answer);
}
