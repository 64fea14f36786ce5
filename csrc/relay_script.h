/* What a script's hooks decide most often is done here, without Lua's part of the proxy: to leave a command as it is,
 * or to ask for the answer to it, and to leave that as it is. All else, and each command that changes what scripts see
 * of their session, is for the owner's on_command and on_answer. */
#ifndef MYSQL_RELAY_SCRIPT_H
#define MYSQL_RELAY_SCRIPT_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct owner_event;
struct relay;
struct response;

/* A relay's. What is pointed to is kept by the caller. */
struct script {
  int caller;          /* reference to what calls hooks; 0: there is no script */
  struct queue *queue; /* its proxy.queries */
  struct hooks *hooks;
  lua_Number number; /* by which its calls are known; 0: all is for the owner */
  bool asked;        /* the answer to the waiting command is due, for which the script has asked here */
};

/* With the arguments of relay:script, relay:serve on the stack. */
void script_attach(lua_State *L, struct relay *r);
void script_serve(lua_State *L, struct relay *r);

/* An event that is told with a script: by its caller, which has the relay, among others, as an upvalue. */
void script_calls(const struct relay *r, struct owner_event *event);
void script_push_relay(lua_State *L);

/* An answer in the round's input, where it stays while it is handled. */
struct lent {
  struct response *outcome;
  const uint8_t *bytes;
  size_t length;
};

/* script_command() and script_answer() are for events of script_calls(), as they need the caller's upvalues. They are
 * called with the first arguments of the owner's method right behind the stream, (relay, payload) and (relay, error,
 * kept), and return how many they are then, or -1 if all is done: on_command(relay, payload, byte, call, status, value,
 * coroutine), on_answer(relay, error, kept, command, call, status, value, coroutine). call, status, value, coroutine:
 * whose hook it was, and what has come of it (mysql.hook); nothing if it has not been called. command: the client's,
 * which the owner has not heard of. lent: what an empty answer shows while the hook runs; it gets a copy if it is
 * needed longer. NULL: it has its own. */
int script_command(lua_State *L, struct relay *r);
int script_answer(lua_State *L, struct relay *r, const struct lent *lent);
/* Pushes that command, as the owner has to know what it is about. From here on all is for him. Returns 1. */
int script_hand_over(lua_State *L, struct relay *r);

#endif
