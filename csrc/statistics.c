#include "statistics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hash.h"
#include "tokenizer.h"

#define DECADE(n) 10 * (n), 15 * (n), 20 * (n), 30 * (n), 50 * (n), 70 * (n)

const uint32_t histogram_bounds[HISTOGRAM_BOUNDS] = {DECADE(1),     DECADE(10),     DECADE(100),     DECADE(1000),
                                                     DECADE(10000), DECADE(100000), DECADE(1000000), 100000000};

enum { FIRST_CAPACITY = 64 };

/* --- accounts ------------------------------------------------------------------------------------------------ */

struct account *account_new(const char *user, size_t user_length, const char *schema, size_t schema_length) {
  if (user_length > NAME_LIMIT) user_length = NAME_LIMIT;
  if (schema_length > NAME_LIMIT) schema_length = NAME_LIMIT;
  struct account *a = malloc(sizeof *a + user_length + schema_length + 2);
  if (!a) return NULL;
  a->user_length = (uint8_t)user_length;
  a->schema_length = (uint8_t)schema_length;
  memcpy(a->names, user, user_length);
  a->names[user_length] = '\0';
  memcpy(a->names + user_length + 1, schema, schema_length);
  a->names[user_length + 1 + schema_length] = '\0';
  a->hash = hash_bytes(a->names, user_length + 1 + schema_length);
  return a;
}

/* --- the table of digests ------------------------------------------------------------------------------------ */

static inline uint32_t place_of(const struct statistics *s, uint64_t hash) {
  return (uint32_t)(hash * s->secret >> (64 - s->slot_bits));
}

/* The slot of this key, or the free one where it would be. */
static uint32_t *slot_of(const struct statistics *s, uint64_t key) {
  uint32_t mask = (UINT32_C(1) << s->slot_bits) - 1;
  uint32_t at = place_of(s, key);
  while (s->slots[at] && s->digests[s->slots[at] - 1]->key != key) at = (at + 1) & mask;
  return &s->slots[at];
}

bool statistics_init(struct statistics *s, uint32_t limit) {
  memset(s, 0, sizeof *s);
  if (getentropy(&s->secret, sizeof s->secret) != 0) return false;
  s->secret |= 1;
  s->limit = limit;
  for (s->slot_bits = 4; (UINT64_C(1) << s->slot_bits) < 2 * (uint64_t)limit; s->slot_bits++) {
  }
  s->slots = calloc(UINT64_C(1) << s->slot_bits, sizeof *s->slots);
  s->known = calloc(UINT64_C(1) << s->slot_bits, sizeof *s->known);
  if (s->slots && s->known) return true;
  statistics_free(s);
  return false;
}

void statistics_free(struct statistics *s) {
  for (size_t i = 0; i < sizeof s->commands / sizeof *s->commands; i++) free(s->commands[i]);
  for (uint32_t i = 0; i < s->count; i++) free(s->digests[i]);
  free(s->digests);
  free(s->slots);
  free(s->known);
  memset(s, 0, sizeof *s);
}

void statistics_reset_commands(struct statistics *s) {
  for (size_t i = 0; i < sizeof s->commands / sizeof *s->commands; i++)
    if (s->commands[i]) memset(s->commands[i], 0, sizeof *s->commands[i]);
}

void statistics_reset_digests(struct statistics *s) {
  for (uint32_t i = 0; i < s->count; i++) memset(&s->digests[i]->seen, 0, sizeof s->other);
  memset(&s->other, 0, sizeof s->other);
  s->has_zeroes = true;
}

static void drop_zeroes(struct statistics *s) {
  uint32_t kept = 0;
  memset(s->slots, 0, sizeof *s->slots << s->slot_bits);
  for (uint32_t i = 0; i < s->count; i++) {
    struct digest *d = s->digests[i];
    if (d->seen.counters.tally.count) {
      s->digests[kept++] = d;
      *slot_of(s, d->key) = kept;
    } else {
      free(d);
    }
  }
  s->count = kept;
  s->has_zeroes = false;
}

static bool has_room(struct statistics *s) {
  if (s->count == s->limit && s->has_zeroes) drop_zeroes(s);
  if (s->count == s->limit) return false;
  if (s->count < s->capacity) return true;
  uint32_t capacity = s->capacity ? s->capacity * 2 : FIRST_CAPACITY;
  struct digest **grown = realloc(s->digests, capacity * sizeof *grown);
  if (!grown) return false;
  s->digests = grown;
  s->capacity = capacity;
  return true;
}

static struct digest *new_digest(const struct account *a, const char *text, size_t length) {
  struct digest *d = calloc(1, sizeof *d + length + a->user_length + a->schema_length);
  if (!d) return NULL;
  d->text_length = (uint16_t)length;
  d->user_length = a->user_length;
  d->schema_length = a->schema_length;
  memcpy(d->text, text, length);
  memcpy(d->text + length, a->names, a->user_length);
  memcpy(d->text + length + a->user_length, account_schema(a), a->schema_length);
  return d;
}

/* The first name of a normalised USE `name`. */
static void find_schema(const char *text, size_t length, char *schema) {
  static const char use[] = "USE `";
  if (length < sizeof use || memcmp(text, use, sizeof use - 1) != 0) return;
  text += sizeof use - 1;
  length -= sizeof use - 1;
  const char *end = memchr(text, '`', length);
  size_t name = end ? (size_t)(end - text) : length;
  if (name > NAME_LIMIT) name = NAME_LIMIT;
  memcpy(schema, text, name);
  schema[name] = '\0';
}

uint64_t statistics_statement(struct statistics *s, const struct account *account, const char *sql, size_t length,
                              char *schema) {
  char statement[STATEMENT_LIMIT + 1], text[DIGEST_TEXT];
  if (length > STATEMENT_LIMIT) length = STATEMENT_LIMIT;
  memcpy(statement, sql, length);
  statement[length] = '\0';
  schema[0] = '\0';
  struct scanner scanner = {statement, statement + length, 0};
  uint64_t shape = statement_shape(scanner, sizeof text) ^ account->hash;
  struct known_shape *known = &s->known[place_of(s, shape)];
  if (known->shape == shape && *slot_of(s, known->key)) return known->key;
  size_t text_length = normalize_into(scanner, text, sizeof text);
  find_schema(text, text_length, schema);
  uint64_t key = statistics_digest(s, account, text, text_length);
  if (!schema[0] && key != OTHER_STATEMENT) *known = (struct known_shape){shape, key};
  return key;
}

uint64_t statistics_digest(struct statistics *s, const struct account *account, const char *text, size_t length) {
  uint64_t hash = hash_bytes(text, length), key = hash_mix(hash ^ account->hash);
  if (key <= OTHER_STATEMENT) key += OTHER_STATEMENT + 1;
  if (*slot_of(s, key)) return key;
  if (!has_room(s)) return OTHER_STATEMENT;
  struct digest *d = new_digest(account, text, length);
  if (!d) return OTHER_STATEMENT;
  d->key = key;
  d->hash = hash;
  s->digests[s->count++] = d;
  *slot_of(s, key) = s->count;
  return key;
}

const struct digest *statistics_find(const struct statistics *s, uint64_t key) {
  uint32_t slot = *slot_of(s, key);
  return slot ? s->digests[slot - 1] : NULL;
}

void digest_name(const struct digest *d, char name[DIGEST_NAME]) {
  snprintf(name, DIGEST_NAME, "%016llx", (unsigned long long)d->hash);
}

/* --- counting ------------------------------------------------------------------------------------------------ */

/* Few statements take long: from the shortest on it is found soonest. */
static unsigned bucket_of(uint64_t time) {
  unsigned i = 0;
  while (i < HISTOGRAM_BOUNDS && time > histogram_bounds[i]) i++;
  return i;
}

static void add(struct tally *t, const struct counted *c) {
  t->count++;
  t->errors += c->failed;
  t->rows += c->rows;
  t->from_client += c->from_client;
  t->from_server += c->from_server;
  t->time += c->time;
}

static void add_timed(struct timed_tally *t, const struct counted *c, unsigned bucket) {
  if (c->answered) {
    struct histogram *h = &t->histogram;
    if (c->time < h->min || h->count == 0) h->min = c->time;
    if (c->time > h->max) h->max = c->time;
    h->buckets[bucket]++;
    h->count++;
  }
  add(&t->tally, c);
}

struct statement_tally *statistics_seen(struct statistics *s, uint64_t key) {
  uint32_t slot = key == OTHER_STATEMENT ? 0 : *slot_of(s, key);
  return slot ? &s->digests[slot - 1]->seen : &s->other;
}

void statistics_count(struct statistics *s, struct tally *backend, const struct counted *c, uint64_t now) {
  struct timed_tally **command = &s->commands[c->command];
  unsigned bucket = bucket_of(c->time);
  if (!*command) *command = calloc(1, sizeof **command);
  if (*command) add_timed(*command, c, bucket);
  if (backend) add(backend, c);
  if (c->statement == NO_STATEMENT) return;
  struct statement_tally *seen = statistics_seen(s, c->statement);
  if (seen->counters.tally.count == 0) seen->first_seen = now;
  seen->last_seen = now;
  add_timed(&seen->counters, c, bucket);
}

double histogram_quantile(const struct histogram *h, double part) {
  uint64_t below = 0;
  if (h->count == 0) return 0;
  double rank = part * (double)h->count;
  unsigned i = 0;
  while (i < HISTOGRAM_BOUNDS && (double)(below + h->buckets[i]) < rank) below += h->buckets[i++];
  double low = i ? histogram_bounds[i - 1] : 0;
  double high = i < HISTOGRAM_BOUNDS ? histogram_bounds[i] : (double)h->max;
  double value = low + (high - low) * (rank - (double)below) / (double)(h->buckets[i] ? h->buckets[i] : 1);
  if (value < (double)h->min) return (double)h->min;
  return value > (double)h->max ? (double)h->max : value;
}
