/* proxy.queries in C: see queue.c. */
#ifndef MYSQL_QUEUE_H
#define MYSQL_QUEUE_H

#include <lua.h>
#include <stdbool.h>

#include "packet.h"

#define QUEUE_TYPE "mysql.queue"

struct queued {
  lua_Number id;
  bool streamed; /* its result is not needed */
  bool planned;  /* it was there when the script had decided on the client's command */
};

/* A ring; the packet of the command at place i is in the environment at i + 1. */
struct queue {
  struct queued *commands;
  int capacity, first, count;
};

/* Pushes the packet of the first command of a queue whose environment is at index `packets`; there must be one. */
const struct queued *queue_push_first(lua_State *L, int packets, const struct queue *q);
/* Removes it. */
void queue_drop_first(lua_State *L, int packets, struct queue *q);
/* The script has decided: what is there now is planned. */
void queue_plan(struct queue *q);

LUA_MODULE luaopen_mysql_queue(lua_State *L);

#endif
