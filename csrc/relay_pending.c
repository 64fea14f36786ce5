/* The commands whose answers are due, in their order: a ring. */
#include "relay.h"

#include <stdlib.h>

static bool pending_grow(struct relay *r) {
  struct pending *grown = malloc(r->pending_capacity * 2 * sizeof *grown);
  if (!grown) return false;
  for (uint32_t i = 0; i < r->pending_count; i++) grown[i] = *relay_pending_at(r, i);
  if (r->pending != r->pending_inline) free(r->pending);
  r->pending = grown;
  r->pending_first = 0;
  r->pending_capacity *= 2;
  return true;
}

bool relay_pending_push(struct relay *r, uint8_t command, enum destination destination) {
  r->commands++;
  if (!response_expected(command)) return true;
  if (r->pending_count == r->pending_capacity && !pending_grow(r)) return false;
  r->pending_count++;
  *relay_pending_at(r, r->pending_count - 1) =
      (struct pending){.command = command,
                       .destination = (uint8_t)destination,
                       .sent_at = r->counting ? round_clock(&r->shared->round) : 0};
  if (r->pending_count == 1) response_begin(&r->answer, command, r->capabilities);
  return true;
}

struct pending relay_pending_pop(struct relay *r) {
  struct pending done = *relay_pending_at(r, 0);
  r->pending_first = (r->pending_first + 1) % r->pending_capacity;
  r->pending_count--;
  if (r->pending_count) {
    response_begin(&r->answer, relay_pending_at(r, 0)->command, r->capabilities);
    return done;
  }
  r->pending_first = 0; /* the next is where this one was, which is in the cache */
  if (r->pending != r->pending_inline) {
    free(r->pending);
    r->pending = r->pending_inline;
    r->pending_capacity = PENDING_INLINE;
  }
  return done;
}

void relay_pending_drop(struct relay *r) {
  for (uint32_t i = 0; i < r->pending_count; i++) free(relay_pending_at(r, i)->text);
  if (r->pending != r->pending_inline) free(r->pending);
  r->pending = r->pending_inline;
  r->pending_capacity = PENDING_INLINE;
  r->pending_first = r->pending_count = 0;
}
