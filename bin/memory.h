/* Lua's memory: an allocator for lua_newstate. Lua says how long a block is when it gives it back, so that short blocks
 * need no look at anything: each goes to a list of blocks of its size, from which the next one is taken. */
#ifndef MYSQL_PROXY_MEMORY_H
#define MYSQL_PROXY_MEMORY_H

#include <stddef.h>

enum { MEMORY_STEP = 16, MEMORY_SHORT = 1024 /* bytes: longer blocks are the C library's */ };

struct memory {
  struct free_block *free[MEMORY_SHORT / MEMORY_STEP]; /* by size, in steps */
  struct chunk *chunks;                                /* what short blocks are cut from */
  char *rest;                                          /* of the newest */
  size_t rest_size;
};

/* A lua_Alloc. `memory` is a struct memory, in the beginning all zero. */
void *memory_allocate(void *memory, void *block, size_t old_size, size_t size);
/* Gives all short blocks back, once the Lua state is closed. */
void memory_free(struct memory *m);

#endif
