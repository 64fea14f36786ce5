#include "memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_SIZE = 64 * 1024, LINE = 64 /* bytes that the processor fetches from memory together */ };

struct free_block {
  struct free_block *next;
};

struct chunk {
  struct chunk *next;
  _Alignas(LINE) char bytes[];
};

static size_t steps(size_t size) { return (size + MEMORY_STEP - 1) / MEMORY_STEP; }

static void give_back_steps(struct memory *m, void *block, size_t step_count) {
  struct free_block *freed = block;
  freed->next = m->free[step_count - 1];
  m->free[step_count - 1] = freed;
}

/* A new chunk; what is left of the one before can still be used. */
static int add_chunk(struct memory *m) {
  struct chunk *c = aligned_alloc(LINE, CHUNK_SIZE);
  if (!c) return 0;
  if (m->rest_size) give_back_steps(m, m->rest, m->rest_size / MEMORY_STEP);
  c->next = m->chunks;
  m->chunks = c;
  m->rest = c->bytes;
  m->rest_size = CHUNK_SIZE - offsetof(struct chunk, bytes);
  return 1;
}

/* What is left out for a block of this size to lie in as few lines as it can: Lua's tables, most of its functions and
 * the strings of short statements in one. Whoever walks a chain of them waits for half as many. */
static size_t gap_before(const struct memory *m, size_t size) {
  size_t in_line = (uintptr_t)m->rest % LINE;
  size_t gap = in_line + (size - 1) % LINE < LINE ? 0 : LINE - in_line;
  return gap < m->rest_size ? gap : m->rest_size;
}

static void *cut(struct memory *m, size_t size) {
  size_t gap = gap_before(m, size);
  if (gap) give_back_steps(m, m->rest, gap / MEMORY_STEP);
  m->rest += gap;
  m->rest_size -= gap;
  if (m->rest_size < size && !add_chunk(m)) return NULL;
  void *taken = m->rest;
  m->rest += size;
  m->rest_size -= size;
  return taken;
}

static inline void *take(struct memory *m, size_t size) {
  if (size > MEMORY_SHORT) return malloc(size);
  size_t step_count = steps(size);
  struct free_block *block = m->free[step_count - 1];
  if (!block) return cut(m, step_count * MEMORY_STEP);
  m->free[step_count - 1] = block->next;
  /* It has lain there since the garbage collector found it: whoever takes one next has it in the cache then. */
  __builtin_prefetch(block->next, 1);
  return block;
}

static inline void give_back(struct memory *m, void *block, size_t size) {
  if (size <= MEMORY_SHORT)
    give_back_steps(m, block, steps(size));
  else
    free(block);
}

static void *resize(struct memory *m, void *block, size_t old_size, size_t size) {
  if (old_size > MEMORY_SHORT && size > MEMORY_SHORT) return realloc(block, size);
  if (old_size <= MEMORY_SHORT && size <= MEMORY_SHORT && steps(old_size) == steps(size)) return block;
  void *moved = take(m, size);
  if (!moved) return size < old_size ? block : NULL; /* to ask for less must not fail: the rest is lost then */
  memcpy(moved, block, old_size < size ? old_size : size);
  give_back(m, block, old_size);
  return moved;
}

void *memory_allocate(void *memory, void *block, size_t old_size, size_t size) {
  struct memory *m = memory;
  if (size && block) return resize(m, block, old_size, size);
  if (size) return take(m, size);
  if (block) give_back(m, block, old_size);
  return NULL;
}

void memory_free(struct memory *m) {
  while (m->chunks) {
    struct chunk *next = m->chunks->next;
    free(m->chunks);
    m->chunks = next;
  }
}
