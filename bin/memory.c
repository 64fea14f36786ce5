#include "memory.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_SIZE = 64 * 1024 };

struct free_block {
  struct free_block *next;
};

struct chunk {
  struct chunk *next;
  _Alignas(MEMORY_STEP) char bytes[];
};

static size_t steps(size_t size) { return (size + MEMORY_STEP - 1) / MEMORY_STEP; }

static void give_back(struct memory *m, void *block, size_t step_count) {
  struct free_block *freed = block;
  freed->next = m->free[step_count - 1];
  m->free[step_count - 1] = freed;
}

/* A new chunk; what is left of the one before can still be used. */
static int add_chunk(struct memory *m) {
  struct chunk *c = malloc(CHUNK_SIZE);
  if (!c) return 0;
  if (m->rest_size) give_back(m, m->rest, m->rest_size / MEMORY_STEP);
  c->next = m->chunks;
  m->chunks = c;
  m->rest = c->bytes;
  m->rest_size = CHUNK_SIZE - offsetof(struct chunk, bytes);
  return 1;
}

static void *take(struct memory *m, size_t step_count) {
  struct free_block *block = m->free[step_count - 1];
  if (block) {
    m->free[step_count - 1] = block->next;
    return block;
  }
  size_t size = step_count * MEMORY_STEP;
  if (m->rest_size < size && !add_chunk(m)) return NULL;
  void *taken = m->rest;
  m->rest += size;
  m->rest_size -= size;
  return taken;
}

void *memory_allocate(void *memory, void *block, size_t old_size, size_t size) {
  struct memory *m = memory;
  int was_short = block && old_size <= MEMORY_SHORT;
  if (size == 0) {
    if (was_short)
      give_back(m, block, steps(old_size));
    else
      free(block);
    return NULL;
  }
  if (size > MEMORY_SHORT && !was_short) return realloc(block, size);
  if (size <= MEMORY_SHORT && was_short && steps(size) == steps(old_size)) return block;
  void *moved = size <= MEMORY_SHORT ? take(m, steps(size)) : malloc(size);
  if (!moved || !block) return moved;
  memcpy(moved, block, old_size < size ? old_size : size);
  if (was_short)
    give_back(m, block, steps(old_size));
  else
    free(block);
  return moved;
}

void memory_free(struct memory *m) {
  while (m->chunks) {
    struct chunk *next = m->chunks->next;
    free(m->chunks);
    m->chunks = next;
  }
}
