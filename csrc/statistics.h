/* Counters: of each type of command, of each backend, and of each statement's digest. Nothing is allocated for a
 * statement that is known, and no Lua is needed to count.
 *
 * A digest is that of the first DIGEST_TEXT bytes of the normalised text of the first STATEMENT_LIMIT bytes of a
 * statement. It has one entry for each user and schema. Entries are bounded: what does not fit is counted in `other`.
 *
 * Everything is as the sessions of one loop need it: there are no locks. */
#ifndef MYSQL_STATISTICS_H
#define MYSQL_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATISTICS_TYPE "mysql.statistics"
#define STATISTICS_BACKEND_TYPE "mysql.statistics.backend" /* a struct tally */

enum { STATEMENT_LIMIT = 8192, DIGEST_TEXT = 1024, NAME_LIMIT = 255 };
enum { HISTOGRAM_BOUNDS = 43 };

/* The upper ends of a histogram's buckets, in microseconds; the last bucket has none. */
extern const uint32_t histogram_bounds[HISTOGRAM_BOUNDS];

struct tally {
  uint64_t count, errors, rows, from_client, from_server;
  uint64_t time; /* microseconds */
};

/* Of those that took time, which are all that have been answered. */
struct histogram {
  uint64_t count;
  uint64_t min, max; /* microseconds */
  uint64_t buckets[HISTOGRAM_BOUNDS + 1];
};

struct timed_tally {
  struct tally tally;
  struct histogram histogram;
};

/* Who sends a statement, and in which schema. */
struct account {
  uint64_t hash;
  uint8_t user_length, schema_length;
  char names[]; /* the user's, NUL, the schema's, NUL */
};

/* Longer names than NAME_LIMIT are cut. NULL: no memory; free() ends it. */
struct account *account_new(const char *user, size_t user_length, const char *schema, size_t schema_length);

static inline const char *account_schema(const struct account *a) { return a->names + a->user_length + 1; }

struct statement_tally {
  uint64_t first_seen, last_seen; /* monotonic, ns */
  struct timed_tally counters;
};

struct digest {
  uint64_t key;  /* of text, user and schema */
  uint64_t hash; /* of the text */
  struct statement_tally seen;
  uint16_t text_length;
  uint8_t user_length, schema_length;
  char text[]; /* the user's and the schema's name behind it */
};

struct known_shape {
  uint64_t shape, key;
};

struct statistics {
  uint64_t secret;                   /* a client cannot choose texts that meet in the table */
  struct timed_tally *commands[256]; /* NULL: none has come */
  struct digest **digests;
  uint32_t *slots;           /* index + 1 into digests, 0: free; at least half of them are */
  struct known_shape *known; /* as many places, where the latest displaces the one before: the key of its digest */
  uint32_t count, capacity, limit;
  uint8_t slot_bits;
  bool has_zeroes; /* reset: digests without a count may be dropped */
  struct statement_tally other;
};

enum { NO_STATEMENT = 0, OTHER_STATEMENT = 1 }; /* keys that no digest has */

/* A command that a server has got. */
struct counted {
  uint8_t command;
  bool failed;
  bool answered;      /* time is known */
  uint64_t statement; /* key of a digest, or NO_STATEMENT */
  uint64_t rows, from_client, from_server;
  uint64_t time; /* microseconds */
};

/* False: no memory, or no random number. */
bool statistics_init(struct statistics *s, uint32_t limit);
void statistics_free(struct statistics *s);
/* The counters of types of commands begin at 0 again. */
void statistics_reset_commands(struct statistics *s);
/* Those of statements do. Texts are kept, for statements that have been prepared. */
void statistics_reset_digests(struct statistics *s);

/* The key of a statement's digest, whose entry is made if there is none. If the statement is USE, `schema` becomes the
 * name behind that, in a buffer of NAME_LIMIT + 1 bytes; else an empty one. */
uint64_t statistics_statement(struct statistics *s, const struct account *account, const char *sql, size_t length,
                              char *schema);

/* The same for a text that is normalised already, of at most DIGEST_TEXT bytes. */
uint64_t statistics_digest(struct statistics *s, const struct account *account, const char *text, size_t length);

/* What has been counted of the statement with this key. */
struct statement_tally *statistics_seen(struct statistics *s, uint64_t key);

/* The digest of a key; NULL if there is none (any more). */
const struct digest *statistics_find(const struct statistics *s, uint64_t key);
enum { DIGEST_NAME = 16 + 1 };
void digest_name(const struct digest *d, char name[DIGEST_NAME]);

/* backend may be NULL; now: monotonic, ns. */
void statistics_count(struct statistics *s, struct tally *backend, const struct counted *c, uint64_t now);

/* The time that this part (0 to 1) of them did not exceed, in microseconds, as exactly as the buckets allow. */
double histogram_quantile(const struct histogram *h, double part);

#endif
