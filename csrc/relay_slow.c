/* What a relay tells a slow log, the function that relay:count() was given, of a command that took long. */
#include "relay_counting.h"

#include <stdlib.h>

#include "fields.h"
#include "relay.h"

enum { LOG_SLOW = 3 }; /* in the relay's environment */

struct slow {
  struct relay *relay;
  const struct pending *pending;
  const struct response *outcome;
  uint64_t time;
};

struct kept_text *slow_keep(const uint8_t *text, size_t length, bool cut) {
  size_t kept = length < KEPT_TEXT_LIMIT ? length : KEPT_TEXT_LIMIT;
  struct kept_text *t = malloc(sizeof *t + kept);
  if (!t) return NULL;
  t->length = (uint32_t)kept;
  t->cut = cut || kept < length;
  memcpy(t->bytes, text, kept);
  return t;
}

static void set_statement(lua_State *L, const struct counting *c, const struct pending *p) {
  if (p->text) {
    set_text(L, "statement", p->text->bytes, p->text->length);
    lua_pushboolean(L, p->text->cut);
    lua_setfield(L, -2, "cut");
  } else if (p->command == COM_STMT_EXECUTE || p->command == COM_STMT_BULK_EXECUTE) {
    const struct digest *d = statistics_find(c->statistics, p->statement);
    if (d) set_text(L, "statement", d->text, d->text_length);
  }
}

/* The function gets a table: command (its byte), seconds; statement, of a COM_QUERY its first 64 kB and whether they
 * are cut, of a prepared statement the normalised text if it is known; user, schema; rows; bytes (of the answer);
 * affected_rows, error (a code) and answered (false: the connection was lost before). */
static int tell(lua_State *L) {
  const struct slow *slow = lua_touserdata(L, 1);
  const struct counting *c = slow->relay->counting;
  const struct response *outcome = slow->outcome;
  push_reference(L, slow->relay->reference);
  lua_getfenv(L, -1);
  lua_rawgeti(L, -1, LOG_SLOW);
  lua_createtable(L, 0, 11);
  set_number(L, "command", slow->pending->command);
  set_number(L, "seconds", (double)slow->time / 1e9);
  set_statement(L, c, slow->pending);
  set_text(L, "user", c->account->names, c->account->user_length);
  set_text(L, "schema", account_schema(c->account), c->account->schema_length);
  set_number(L, "rows", outcome ? (double)outcome->rows : 0);
  set_number(L, "affected_rows",
             outcome && outcome->has_ok && !outcome->ended_in_rows ? (double)outcome->affected_rows : 0);
  set_number(L, "bytes", (double)c->answered);
  set_number(L, "error", outcome ? outcome->error : 0);
  lua_pushboolean(L, outcome != NULL);
  lua_setfield(L, -2, "answered");
  lua_call(L, 1, 0);
  return 0;
}

void slow_tell(struct relay *r, const struct pending *p, const struct response *outcome, uint64_t time) {
  struct slow slow = {r, p, outcome, time};
  lua_State *L = r->shared->L;
  if (r->shared->closing) return;
  if (lua_cpcall(L, tell, &slow) != 0) owner_report_error(L, &r->shared->calls);
  r->shared->round.clock = 0;
}
