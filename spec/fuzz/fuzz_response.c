/* Property: however the answers to a command are cut into reads, the recogniser's verdict is the same; and it takes
 * every byte until an answer, or a step of an authentication, has ended.
 * Input: the command, a byte of capabilities (see below), what the server sends. */
#include "fuzz.h"
#include "response.h"

enum { MAX_ANSWERS = 32 };

struct verdict {
  size_t end;
  uint64_t affected_rows, last_insert_id, rows, row_bytes;
  uint16_t status, warnings, error;
  uint8_t state, sequence;
  bool local_infile, in_cursor, has_ok, ended_in_rows, failed;
};

static uint64_t capabilities_of(uint8_t flags) {
  static const uint64_t bits[] = {CLIENT_DEPRECATE_EOF, CLIENT_OPTIONAL_RESULTSET_METADATA, CLIENT_PROGRESS_OBSOLETE,
                                  MARIADB_CLIENT_PROGRESS, MARIADB_CLIENT_CACHE_METADATA};
  uint64_t capabilities = 0;
  for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
    if (flags >> i & 1) capabilities |= bits[i];
  return capabilities;
}

static struct verdict verdict_of(const struct response *r, size_t end) {
  struct verdict v;
  memset(&v, 0, sizeof v);
  v.end = end;
  v.affected_rows = r->affected_rows;
  v.last_insert_id = r->last_insert_id;
  v.rows = r->rows;
  v.row_bytes = r->row_bytes;
  v.status = r->status;
  v.warnings = r->warnings;
  v.error = r->error;
  v.state = r->state;
  v.sequence = framing_at_boundary(&r->framing) ? r->framing.sequence : 0;
  v.local_infile = r->local_infile;
  v.in_cursor = r->in_cursor;
  v.has_ok = r->has_ok;
  v.ended_in_rows = r->ended_in_rows;
  v.failed = r->failed;
  return v;
}

/* The verdicts on answer after answer; the last is on what has come of an answer that has not ended. */
static size_t judge(uint8_t command, uint64_t capabilities, const uint8_t *data, size_t length, enum cut cut,
                    struct verdict *verdicts) {
  struct response r;
  size_t count = 0, at = 0;
  uint32_t seed = (uint32_t)length;
  response_begin(&r, command, capabilities);
  while (at < length && count < MAX_ANSWERS && r.state != RESPONSE_BROKEN) {
    size_t n = next_read(cut, &seed, length - at);
    uint8_t *copy = exact_copy(data + at, n);
    size_t used = response_feed(&r, copy, n);
    free_copy(copy, n);
    check(used > 0 && used <= n);
    check(used == n || r.state >= RESPONSE_DONE || r.auth_step);
    check((r.state == RESPONSE_BROKEN) == (r.problem != NULL));
    at += used;
    if (r.state != RESPONSE_DONE) continue;
    verdicts[count++] = verdict_of(&r, at);
    response_begin(&r, command, capabilities);
  }
  if (count < MAX_ANSWERS) verdicts[count++] = verdict_of(&r, at);
  return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) {
  struct verdict whole[MAX_ANSWERS], cut[MAX_ANSWERS];
  if (length < 2) return 0;
  uint64_t capabilities = capabilities_of(data[1]);
  size_t count = judge(data[0], capabilities, data + 2, length - 2, CUT_NOWHERE, whole);
  for (enum cut how = CUT_EVERYWHERE; how < CUTS; how++) {
    check(judge(data[0], capabilities, data + 2, length - 2, how, cut) == count);
    check(memcmp(whole, cut, count * sizeof *cut) == 0);
  }
  return 0;
}
