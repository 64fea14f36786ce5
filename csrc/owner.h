/* How a stream, or a relay, tells its owner what has happened: by a method of the Lua table that owns it, called in
 * protected mode. All that may raise an error, making its arguments included, happens in there. */
#ifndef MYSQL_OWNER_H
#define MYSQL_OWNER_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

struct stream;

enum owner_method {
  ON_CONNECTION,
  ON_CONNECT,
  ON_PACKET,
  ON_END,
  ON_TIMEOUT,
  ON_DRAIN,
  ON_COMMAND,
  ON_ANSWER,
  ON_LOCAL_INFILE,
  ON_RELAY_END,
  OWNER_METHODS
};

/* References into Lua's registry of what every call needs: found by a number, and not by a text that must be hashed. */
struct owner_calls {
  int methods[OWNER_METHODS]; /* their names */
  int call, traceback, on_error, on_slow;
  bool timed;
  struct {
    uint64_t calls, time; /* ns */
  } taken[OWNER_METHODS]; /* if timed */
};

enum owner_told { OWNER_TOLD, OWNER_FAILED /* its method has, which has been reported */, OWNER_HAS_NO_METHOD };

/* Something to tell. `push` pushes the method's arguments, the stream being at stack index OWNER_STREAM then, and
 * returns how many they are, or -1 if there is nothing to tell (any more). Whoever needs more for that puts the event
 * at the beginning of a struct of its own. */
struct owner_event {
  enum owner_method method;
  int (*push)(lua_State *L, struct owner_event *event);
  int keeps;       /* reference to what has to live until this is told, whatever the owner does; 0: nothing */
  bool has_caller; /* what it keeps is a C function, which is called with the event and has to call owner_call() */
  uint64_t began, ended; /* uv_hrtime(), 0: not known; each look at the clock takes its time */
  struct stream *stream; /* set by owner_tell */
  bool has_no_method;
};

enum { OWNER_STREAM = 2 };

enum owner_told owner_tell(struct stream *s, struct owner_event *event);
/* In protected mode: the event is at index 1, its stream at OWNER_STREAM. */
void owner_call(lua_State *L, struct owner_event *event);

/* Pops an error, a traceback, and gives it to on_error's handler. */
void owner_report_error(lua_State *L, const struct owner_calls *calls);

/* Pushes a table: the name of each method -> { calls, seconds }, since they are timed. */
void owner_push_times(lua_State *L, const struct owner_calls *calls);

/* Fills `calls` in for this Lua state. */
void owner_open(lua_State *L, struct owner_calls *calls);

/* Pushes what is under a reference of the registry. */
static inline void push_reference(lua_State *L, int reference) { lua_rawgeti(L, LUA_REGISTRYINDEX, reference); }

#endif
