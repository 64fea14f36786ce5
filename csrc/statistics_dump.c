#include "statistics_dump.h"

#include <stdlib.h>

enum { COMMAND = 1, DIGEST = 2, OTHER = 3 };
enum { BUCKETS = HISTOGRAM_BOUNDS + 1 };

/* --- writing ------------------------------------------------------------------------------------------------------ */

static uint8_t *store_text(uint8_t *to, const char *text, size_t length) {
  to = store_lenenc(to, length);
  memcpy(to, text, length);
  return to + length;
}

static uint8_t *store_timed(uint8_t *to, const struct timed_tally *t) {
  const struct tally *tally = &t->tally;
  const struct histogram *h = &t->histogram;
  const uint64_t numbers[] = {
      tally->count, tally->errors, tally->rows, tally->from_client, tally->from_server, tally->time,
      h->count,     h->min,        h->max};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) to = store_lenenc(to, numbers[i]);
  unsigned filled = 0;
  for (unsigned i = 0; i < BUCKETS; i++) filled += h->buckets[i] != 0;
  to = store_lenenc(to, filled);
  for (unsigned i = 0; i < BUCKETS; i++) {
    if (h->buckets[i] == 0) continue;
    to = store_lenenc(to, i);
    to = store_lenenc(to, h->buckets[i]);
  }
  return to;
}

size_t statistics_dump_command(const struct statistics *s, unsigned command, uint8_t *to) {
  const struct timed_tally *t = s->commands[command];
  if (!t || t->tally.count == 0) return 0;
  uint8_t *end = to;
  *end++ = COMMAND;
  *end++ = (uint8_t)command;
  return (size_t)(store_timed(end, t) - to);
}

size_t statistics_dump_place(const struct statistics *s, uint32_t place, uint8_t *to) {
  const struct digest *d = place ? s->digests[place - 1] : NULL;
  const struct statement_tally *seen = d ? &d->seen : &s->other;
  if (seen->counters.tally.count == 0) return 0;
  uint8_t *end = to;
  *end++ = d ? DIGEST : OTHER;
  if (d) {
    const char *user = d->text + d->text_length;
    end = store_text(end, d->text, d->text_length);
    end = store_text(end, user, d->user_length);
    end = store_text(end, user + d->user_length, d->schema_length);
  }
  end = store_lenenc(end, seen->first_seen);
  end = store_lenenc(end, seen->last_seen);
  return (size_t)(store_timed(end, &seen->counters) - to);
}

/* --- adding ------------------------------------------------------------------------------------------------------- */

static bool read_timed(struct cursor *c, struct timed_tally *t) {
  struct tally *tally = &t->tally;
  struct histogram *h = &t->histogram;
  uint64_t *const numbers[] = {
      &tally->count, &tally->errors, &tally->rows, &tally->from_client, &tally->from_server, &tally->time,
      &h->count,     &h->min,        &h->max};
  memset(t, 0, sizeof *t);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) *numbers[i] = cursor_lenenc(c);
  uint64_t filled = cursor_lenenc(c);
  if (filled > BUCKETS) return false;
  for (; filled > 0; filled--) {
    uint64_t bucket = cursor_lenenc(c), count = cursor_lenenc(c);
    if (bucket >= BUCKETS) return false;
    h->buckets[bucket] += count;
  }
  return !c->failed;
}

static void add_timed(struct timed_tally *to, const struct timed_tally *t) {
  struct histogram *h = &to->histogram;
  if (t->histogram.count > 0) {
    if (h->count == 0 || t->histogram.min < h->min) h->min = t->histogram.min;
    if (t->histogram.max > h->max) h->max = t->histogram.max;
    h->count += t->histogram.count;
    for (unsigned i = 0; i < BUCKETS; i++) h->buckets[i] += t->histogram.buckets[i];
  }
  to->tally.count += t->tally.count;
  to->tally.errors += t->tally.errors;
  to->tally.rows += t->tally.rows;
  to->tally.from_client += t->tally.from_client;
  to->tally.from_server += t->tally.from_server;
  to->tally.time += t->tally.time;
}

static bool add_command(struct statistics *s, struct cursor *c) {
  struct timed_tally t, **to = &s->commands[cursor_uint(c, 1)];
  if (!read_timed(c, &t)) return false;
  if (!*to) *to = calloc(1, sizeof **to);
  if (*to) add_timed(*to, &t);
  return *to != NULL;
}

struct text {
  const char *bytes;
  size_t length;
};

static struct text read_text(struct cursor *c, size_t limit) {
  uint64_t length = cursor_lenenc(c);
  if (length > limit) c->failed = true;
  struct text text = {(const char *)cursor_bytes(c, length), (size_t)length};
  return text;
}

/* The entry of a digest, made if there is none. NULL: no memory. */
static struct statement_tally *find_digest(struct statistics *s, const struct text *text, const struct text *user,
                                           const struct text *schema) {
  struct account *account = account_new(user->bytes, user->length, schema->bytes, schema->length);
  if (!account) return NULL;
  uint64_t key = statistics_digest(s, account, text->bytes, text->length);
  free(account);
  return statistics_seen(s, key);
}

static bool add_statement(struct statistics *s, struct cursor *c, bool is_digest) {
  struct text text = {0}, user = {0}, schema = {0};
  if (is_digest) {
    text = read_text(c, DIGEST_TEXT);
    user = read_text(c, NAME_LIMIT);
    schema = read_text(c, NAME_LIMIT);
  }
  struct timed_tally t;
  uint64_t first = cursor_lenenc(c), last = cursor_lenenc(c);
  if (!read_timed(c, &t)) return false;
  struct statement_tally *to = is_digest ? find_digest(s, &text, &user, &schema) : &s->other;
  if (!to) return false;
  if (to->counters.tally.count == 0 || first < to->first_seen) to->first_seen = first;
  if (last > to->last_seen) to->last_seen = last;
  add_timed(&to->counters, &t);
  return true;
}

bool statistics_add(struct statistics *s, struct cursor *c) {
  uint64_t kind = cursor_uint(c, 1);
  if (kind == COMMAND) return add_command(s, c);
  return (kind == DIGEST || kind == OTHER) && add_statement(s, c, kind == DIGEST);
}
