/* proxy.queries in C: see queue.c. */
#ifndef MYSQL_QUEUE_H
#define MYSQL_QUEUE_H

#include <lua.h>
#include <stdbool.h>

#define QUEUE_TYPE "mysql.queue"

struct queued {
  lua_Number id;
  bool streamed; /* its result is not needed */
};

/* A ring; the packet of the command at place i is in the environment at i + 1. */
struct queue {
  struct queued *commands;
  int capacity, first, count;
};

/* Pushes the packet of the first command of the queue at `index`; there must be one. */
const struct queued *queue_push_first(lua_State *L, int index, const struct queue *q);
/* Removes it. */
void queue_drop_first(lua_State *L, int index, struct queue *q);

#endif
