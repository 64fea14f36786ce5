#include "owner.h"

#include <stdio.h>
#include <string.h>

#include "stream.h"

enum { SLOW_MS = 1000 };

static const char *const names[OWNER_METHODS] = {
    [ON_CONNECTION] = "on_connection", [ON_CONNECT] = "on_connect",
    [ON_PACKET] = "on_packet",         [ON_END] = "on_end",
    [ON_TIMEOUT] = "on_timeout",       [ON_DRAIN] = "on_drain",
    [ON_COMMAND] = "on_command",       [ON_ANSWER] = "on_answer",
    [ON_RELAY_END] = "on_relay_end",   [ON_LOCAL_INFILE] = "on_local_infile",
};

/* A method that has held up the loop is reported. The loop's own clock stands since it began its round of events. */
static void look_at_clock(lua_State *L, struct owner_event *event) {
  struct stream_loop *shared = event->stream->shared;
  if (!event->ended) event->ended = uv_hrtime();
  if (shared->calls.timed) {
    shared->calls.taken[event->method].calls++;
    shared->calls.taken[event->method].time += event->ended - event->began;
  }
  uint64_t ended = event->ended / 1000000, woke = uv_now(shared->loop);
  if (ended < woke + SLOW_MS) return;
  uv_update_time(shared->loop);
  push_reference(L, shared->calls.on_slow);
  if (!lua_isfunction(L, -1)) return;
  lua_getfenv(L, OWNER_STREAM);
  lua_pushnumber(L, (lua_Number)(ended - woke) / 1000);
  lua_pushstring(L, names[event->method]);
  lua_call(L, 3, 0);
  event->ended = uv_hrtime();
}

/* Calls the owner's method with the arguments on top of the stack. */
static void call_method(lua_State *L, struct owner_event *event, int arguments) {
  int first = lua_gettop(L) + 1 - arguments;
  lua_getfenv(L, OWNER_STREAM);
  push_reference(L, event->stream->shared->calls.methods[event->method]);
  lua_gettable(L, -2);
  event->has_no_method = !lua_isfunction(L, -1);
  if (event->has_no_method) return;
  lua_insert(L, first);
  lua_insert(L, first + 1);
  lua_call(L, 1 + arguments, 0);
}

void owner_call(lua_State *L, struct owner_event *event) {
  int arguments = event->push(L, event);
  if (arguments >= 0) call_method(L, event, arguments);
  look_at_clock(L, event);
}

static int call(lua_State *L) {
  struct owner_event *event = lua_touserdata(L, 1);
  push_reference(L, event->stream->reference);
  owner_call(L, event);
  return 0;
}

enum owner_told owner_tell(struct stream *s, struct owner_event *event) {
  lua_State *L = s->shared->L;
  const struct owner_calls *calls = &s->shared->calls;
  struct round *round = &s->shared->round;
  event->stream = s;
  event->has_no_method = false;
  if (!event->began && calls->timed) event->began = round_clock(round);
  round->calls++;
  push_reference(L, event->keeps);
  push_reference(L, calls->traceback);
  if (event->has_caller)
    lua_pushvalue(L, -2);
  else
    push_reference(L, calls->call);
  lua_pushlightuserdata(L, event);
  bool failed = lua_pcall(L, 1, 0, -3) != 0;
  if (failed) owner_report_error(L, calls);
  lua_pop(L, 2);
  round->calls--;
  round->clock = failed ? 0 : event->ended;
  return failed ? OWNER_FAILED : event->has_no_method ? OWNER_HAS_NO_METHOD : OWNER_TOLD;
}

void owner_report_error(lua_State *L, const struct owner_calls *calls) {
  int top = lua_gettop(L);
  push_reference(L, calls->on_error);
  lua_pushvalue(L, top);
  if (!lua_isfunction(L, -2) || lua_pcall(L, 1, 0, 0) != 0) fprintf(stderr, "mysql.stream: %s\n", lua_tostring(L, -1));
  lua_settop(L, top - 1);
}

static int traceback(lua_State *L) {
  lua_getfield(L, LUA_GLOBALSINDEX, "debug");
  if (!lua_istable(L, -1)) return lua_pop(L, 1), 1;
  lua_getfield(L, -1, "traceback");
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 2);
  lua_call(L, 2, 1);
  return 1;
}

void owner_push_times(lua_State *L, const struct owner_calls *calls) {
  lua_createtable(L, 0, OWNER_METHODS);
  for (int i = 0; i < OWNER_METHODS; i++) {
    lua_createtable(L, 0, 2);
    lua_pushnumber(L, (lua_Number)calls->taken[i].calls);
    lua_setfield(L, -2, "calls");
    lua_pushnumber(L, (lua_Number)calls->taken[i].time / 1e9);
    lua_setfield(L, -2, "seconds");
    lua_setfield(L, -2, names[i]);
  }
}

void owner_open(lua_State *L, struct owner_calls *calls) {
  memset(calls, 0, sizeof *calls);
  for (int i = 0; i < OWNER_METHODS; i++) {
    lua_pushstring(L, names[i]);
    calls->methods[i] = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  lua_pushcfunction(L, call);
  calls->call = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushcfunction(L, traceback);
  calls->traceback = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushboolean(L, 0); /* until stream.on_error() */
  calls->on_error = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushboolean(L, 0); /* until stream.on_slow() */
  calls->on_slow = luaL_ref(L, LUA_REGISTRYINDEX);
}
