#include "relay_counting.h"

#include <stdlib.h>

#include "query.h"
#include "relay.h"

enum { FIRST_PREPARED = 8, MOST_PREPARED = 1024 };
enum { LAST_PREPARED_ID = -1 }; /* MariaDB: COM_STMT_EXECUTE */

bool counting_begin(struct relay *r, struct statistics *s, struct tally *backend, struct account *account,
                    uint64_t slow) {
  struct counting *c = r->counting;
  if (!c) c = r->counting = calloc(1, sizeof *c);
  if (!c) return false;
  free(c->account);
  free(c->next_account);
  c->next_account = NULL;
  c->account = account;
  c->statistics = s;
  c->backend = backend;
  c->slow = slow;
  c->prepared_capacity = 0; /* another server, other statements */
  free(c->prepared);
  c->prepared = NULL;
  c->last_prepared = NO_STATEMENT;
  return true;
}

void counting_free(struct counting *c) {
  if (!c) return;
  free(c->account);
  free(c->next_account);
  free(c->prepared);
  input_free(&c->text);
  free(c);
}

/* --- prepared statements ------------------------------------------------------------------------------------- */

static struct prepared *prepared_at(struct counting *c, uint32_t id) {
  return &c->prepared[id & (c->prepared_capacity - 1)];
}

static bool grow_prepared(struct counting *c) {
  uint32_t capacity = c->prepared_capacity ? c->prepared_capacity * 2 : FIRST_PREPARED, old = c->prepared_capacity;
  struct prepared *grown = calloc(capacity, sizeof *grown);
  if (capacity > MOST_PREPARED || !grown) return free(grown), false;
  struct prepared *before = c->prepared;
  c->prepared = grown;
  c->prepared_capacity = capacity;
  for (uint32_t i = 0; i < old; i++)
    if (before[i].id) *prepared_at(c, before[i].id) = before[i];
  free(before);
  return true;
}

static void remember(struct counting *c, uint32_t id, uint64_t statement) {
  while (!c->prepared_capacity || (prepared_at(c, id)->id && prepared_at(c, id)->id != id))
    if (!grow_prepared(c)) break;
  if (c->prepared_capacity) *prepared_at(c, id) = (struct prepared){id, statement};
}

static uint64_t statement_of(struct counting *c, uint32_t id) {
  if (id == (uint32_t)LAST_PREPARED_ID) return c->last_prepared;
  if (!c->prepared_capacity || prepared_at(c, id)->id != id) return NO_STATEMENT;
  return prepared_at(c, id)->statement;
}

static void forget(struct counting *c, uint32_t id) {
  if (c->prepared_capacity && prepared_at(c, id)->id == id) prepared_at(c, id)->id = 0;
}

/* --- commands ------------------------------------------------------------------------------------------------ */

static void enter_schema(struct counting *c, const char *schema, size_t length) {
  free(c->next_account);
  c->next_account = account_new(c->account->names, c->account->user_length, schema, length);
}

/* COM_QUERY or COM_STMT_PREPARE; the cursor is behind the command's byte. */
static uint64_t look_at_statement(struct relay *r, uint8_t command, struct cursor text, bool classic, bool cut) {
  struct counting *c = r->counting;
  char schema[NAME_LIMIT + 1];
  if (command == COM_QUERY && !classic && r->capabilities & CLIENT_QUERY_ATTRIBUTES) query_skip_attributes(&text);
  if (text.failed) return OTHER_STATEMENT;
  uint64_t key = statistics_statement(c->statistics, c->account, (const char *)text.at, cursor_left(&text), schema);
  if (command == COM_QUERY && c->slow != NEVER_SLOW) c->kept = slow_keep(text.at, cursor_left(&text), cut);
  if (command == COM_QUERY && schema[0]) enter_schema(c, schema, strlen(schema));
  return key;
}

/* "COM_CHANGE_USER": the user's name, the response with its length, the schema. */
static void look_at_user(struct counting *c, struct cursor text) {
  size_t user_length, schema_length;
  const uint8_t *user = cursor_string_nul(&text, &user_length);
  cursor_bytes(&text, cursor_uint(&text, 1));
  const uint8_t *schema = cursor_string_nul(&text, &schema_length);
  if (!user) return;
  free(c->next_account);
  c->next_account = account_new((const char *)user, user_length, schema ? (const char *)schema : "", schema_length);
}

/* What is known of a command when it is sent: its statement. */
static uint64_t look_at_command(struct relay *r, const uint8_t *payload, size_t length, bool classic, bool cut) {
  struct counting *c = r->counting;
  struct cursor text = cursor_over(payload, length);
  uint8_t command = (uint8_t)cursor_uint(&text, 1);
  switch (command) {
  case COM_QUERY: return look_at_statement(r, command, text, classic, cut);
  case COM_STMT_PREPARE: return c->last_prepared = look_at_statement(r, command, text, classic, cut);
  case COM_STMT_EXECUTE:
  case COM_STMT_BULK_EXECUTE: return statement_of(c, (uint32_t)cursor_uint(&text, 4));
  case COM_STMT_CLOSE: forget(c, (uint32_t)cursor_uint(&text, 4)); break;
  case COM_INIT_DB: enter_schema(c, (const char *)text.at, cursor_left(&text)); break;
  case COM_CHANGE_USER: look_at_user(c, text); break;
  default: break;
  }
  return NO_STATEMENT;
}

void counting_send(struct relay *r, const uint8_t *payload, size_t length, bool classic, uint64_t bytes) {
  struct counting *c = r->counting;
  if (!length) return;
  uint64_t statement = look_at_command(r, payload, length, classic, bytes > length + PACKET_HEADER_SIZE);
  if (!response_expected(payload[0])) {
    struct counted one = {.command = payload[0], .from_client = bytes};
    statistics_count(c->statistics, c->backend, &one, 0);
  } else if (r->pending_count) { /* else it has been answered before its end */
    struct pending *p = relay_pending_at(r, r->pending_count - 1);
    p->statement = statement;
    p->sent += bytes;
    p->changes_account = c->next_account != NULL;
    if (c->kept) {
      free(p->text);
      p->text = c->kept;
      c->kept = NULL;
    }
  }
  if (c->kept) { /* it has been answered before its end */
    free(c->kept);
    c->kept = NULL;
  }
}

void counting_pass(struct relay *r, const uint8_t *data, size_t length, size_t header, bool complete) {
  struct counting *c = r->counting;
  const uint8_t *payload = length > header ? data + header : data + length;
  size_t left = length > header ? length - header : 0;
  c->sent += length;
  if (c->open && complete && !c->text.length) {
    counting_send(r, payload, left, false, c->sent);
  } else if (c->open) {
    size_t limit = STATEMENT_LIMIT;
    if (c->slow != NEVER_SLOW) limit += KEPT_TEXT_LIMIT; /* more than these, as query attributes may be before them */
    size_t room = limit > c->text.length ? limit - c->text.length : 0;
    if (left && room) input_append(&c->text, payload, left < room ? left : room); /* or it is seen in part */
    if (complete) counting_send(r, c->text.data, c->text.length, false, c->sent);
  } else if (r->pending_count) { /* a file, or a step of an authentication */
    relay_pending_at(r, r->pending_count - 1)->sent += length;
  }
  if (complete) {
    if (c->text.data) input_free(&c->text);
    c->sent = 0;
    c->open = false;
  }
}

static void count(struct relay *r, const struct pending *p, const struct counted *how, const struct response *outcome) {
  struct counting *c = r->counting;
  struct counted one = *how;
  one.command = p->command;
  one.statement = p->command == COM_STMT_PREPARE ? NO_STATEMENT : p->statement;
  one.from_client = p->sent;
  uint64_t took = r->now > p->sent_at ? r->now - p->sent_at : 0; /* 0: the answer came in advance */
  if (one.answered) one.time = took / 1000;
  statistics_count(c->statistics, c->backend, &one, r->now);
  if (took >= c->slow) slow_tell(r, p, outcome, took);
}

void counting_answer(struct relay *r, const struct pending *done, const struct response *outcome) {
  struct counting *c = r->counting;
  struct counted how = {.answered = true, .failed = outcome->failed, .rows = outcome->rows, .from_server = c->answered};
  count(r, done, &how, outcome);
  c->answered = 0;
  if (done->command == COM_STMT_PREPARE && !outcome->failed) remember(c, outcome->statement_id, done->statement);
  if (!done->changes_account || !c->next_account) return;
  free(outcome->failed ? c->next_account : c->account);
  if (!outcome->failed) c->account = c->next_account;
  c->next_account = NULL;
}

void counting_lose(struct relay *r, bool failed) {
  struct counted how = {.answered = false, .failed = failed, .from_server = r->counting->answered};
  r->now = uv_hrtime();
  for (uint32_t i = 0; i < r->pending_count; i++) {
    count(r, relay_pending_at(r, i), &how, NULL);
    how.from_server = 0;
  }
}
