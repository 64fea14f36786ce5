#include "response.h"

enum { HEADER_OK = 0x00, HEADER_MORE_DATA = 0x01, HEADER_LOCAL_INFILE = 0xfb, HEADER_EOF = 0xfe, HEADER_ERR = 0xff };
enum { SERVER_MORE_RESULTS_EXISTS = 0x0008, SERVER_STATUS_CURSOR_EXISTS = 0x0040, SERVER_PS_OUT_PARAMS = 0x1000 };
enum { FAST_AUTH_SUCCESS = 3 }; /* of caching_sha2_password: OK follows */
enum { EOF_LENGTH = 5 };
enum { MAX_EOF_LENGTH = 9 };           /* an EOF packet is shorter than this, a row that begins with 0xfe longer */
enum { ERROR_CODE_PROGRESS = 0xffff }; /* MariaDB's progress report is an ERR packet with this code */
#define MAX_COLUMNS UINT32_MAX         /* the 4,096 of a table are no limit for SELECT 1, 1, ... */

bool response_expected(uint8_t command) {
  return command != COM_QUIT && command != COM_STMT_CLOSE && command != COM_STMT_SEND_LONG_DATA;
}

void response_begin(struct response *r, uint8_t command, uint64_t capabilities) {
  memset(r, 0, sizeof *r);
  r->capabilities = capabilities;
  r->command = command;
  switch (command) {
  case COM_QUERY:
  case COM_PROCESS_INFO:
  case COM_STMT_PREPARE:
  case COM_STMT_EXECUTE:
  case COM_STMT_BULK_EXECUTE: r->state = RESPONSE_HEADER; break;
  case COM_FIELD_LIST:
  case COM_STMT_FETCH: r->state = RESPONSE_ROWS; break;
  case COM_CHANGE_USER: r->state = RESPONSE_AUTH; break;
  case COM_BINLOG_DUMP:
  case COM_BINLOG_DUMP_GTID:
  case COM_TABLE_DUMP:
  case COM_CLONE:
  case COM_SUBSCRIBE_GROUP_REPLICATION_STREAM: r->state = RESPONSE_OPENING; break;
  default: r->state = RESPONSE_ONE_PACKET;
  }
}

uint32_t response_shortest(uint8_t command) {
  return command == COM_STMT_CLOSE ? 5 : command == COM_STMT_SEND_LONG_DATA ? 7 : 1;
}

static void broken(struct response *r, const char *problem) {
  r->state = RESPONSE_BROKEN;
  r->problem = problem;
}

/* One packet of the answer: its first bytes, the payload length of its (first) wire packet, and its size on the wire,
 * headers included. */
struct answer_packet {
  struct cursor head;
  uint8_t first;
  uint32_t length;
  uint64_t size;
};

static void read_ok(struct response *r, struct answer_packet *p) {
  cursor_uint(&p->head, 1);
  r->has_ok = true;
  r->ended_in_rows = false;
  r->affected_rows = cursor_lenenc(&p->head);
  r->last_insert_id = cursor_lenenc(&p->head);
  r->status = (uint16_t)cursor_uint(&p->head, 2);
  r->warnings = (uint16_t)cursor_uint(&p->head, 2);
}

/* "EOF_Packet": 4.1 servers send a single byte, which says nothing about status. */
static void read_eof(struct response *r, struct answer_packet *p) {
  cursor_uint(&p->head, 1);
  r->warnings = (uint16_t)cursor_uint(&p->head, 2);
  r->status = (uint16_t)cursor_uint(&p->head, 2);
}

static bool is_eof(const struct answer_packet *p) { return p->first == HEADER_EOF && p->length < MAX_EOF_LENGTH; }

/* An ERR packet ends the answer, unless it is a progress report. */
static bool take_error(struct response *r, struct answer_packet *p) {
  if (p->first != HEADER_ERR) return false;
  cursor_uint(&p->head, 1);
  uint16_t code = (uint16_t)cursor_uint(&p->head, 2);
  if (code == ERROR_CODE_PROGRESS && r->capabilities & (CLIENT_PROGRESS_OBSOLETE | MARIADB_CLIENT_PROGRESS))
    return true;
  r->error = code;
  r->failed = true;
  r->status = 0;
  r->state = RESPONSE_DONE;
  return true;
}

static void end_of_result(struct response *r) {
  r->state = r->status & SERVER_MORE_RESULTS_EXISTS ? RESPONSE_HEADER : RESPONSE_DONE;
}

static void end_of_rows(struct response *r) {
  r->ended_in_rows = true;
  end_of_result(r);
}

static void expect_definitions(struct response *r, uint64_t columns, bool metadata_follows) {
  bool eof = !(r->capabilities & CLIENT_DEPRECATE_EOF);
  r->definitions = metadata_follows ? (uint32_t)columns : 0;
  r->state = r->definitions ? RESPONSE_COLUMNS : eof ? RESPONSE_COLUMNS_EOF : RESPONSE_ROWS;
}

/* The column count that begins a result set. With MySQL's CLIENT_OPTIONAL_RESULTSET_METADATA and MariaDB's metadata
 * cache a byte behind it is 0 when no column definitions follow. (MySQL's documentation has that byte in front of the
 * count; MySQL 9.7 sends it behind.) */
static void take_column_count(struct response *r, struct answer_packet *p) {
  uint64_t columns = cursor_lenenc(&p->head);
  if (p->head.failed || columns == 0 || columns > MAX_COLUMNS) {
    broken(r, "no column count where a result set begins");
    return;
  }
  bool optional = r->capabilities & (CLIENT_OPTIONAL_RESULTSET_METADATA | MARIADB_CLIENT_CACHE_METADATA);
  bool follows = !optional || !cursor_left(&p->head) || cursor_uint(&p->head, 1) != 0;
  if (!r->first_columns) r->first_columns = (uint32_t)columns;
  expect_definitions(r, columns, follows);
}

/* "COM_STMT_PREPARE_OK": parameter definitions and an EOF if there are any, then the same for the columns. */
static void take_prepare_ok(struct response *r, struct answer_packet *p) {
  cursor_uint(&p->head, 1);
  r->statement_id = (uint32_t)cursor_uint(&p->head, 4);
  uint64_t columns = cursor_uint(&p->head, 2);
  uint64_t params = cursor_uint(&p->head, 2);
  if (p->first != HEADER_OK || p->head.failed) {
    broken(r, "neither OK nor ERR in answer to COM_STMT_PREPARE");
    return;
  }
  cursor_uint(&p->head, 1);
  r->warnings = (uint16_t)cursor_uint(&p->head, 2);
  bool follows = true;
  if (r->capabilities & CLIENT_OPTIONAL_RESULTSET_METADATA && cursor_left(&p->head))
    follows = cursor_uint(&p->head, 1) != 0;
  uint64_t eofs = r->capabilities & CLIENT_DEPRECATE_EOF ? 0 : (columns > 0) + (params > 0);
  r->definitions = (uint32_t)((follows ? columns + params : 0) + eofs);
  r->state = r->definitions ? RESPONSE_PREPARED : RESPONSE_DONE;
}

static void take_prepared(struct response *r, struct answer_packet *p) {
  if (take_error(r, p) || --r->definitions) return;
  uint16_t warnings = r->warnings; /* the header has said how many */
  if (is_eof(p)) read_eof(r, p);
  r->warnings = warnings;
  r->state = RESPONSE_DONE;
}

static void take_header(struct response *r, struct answer_packet *p) {
  if (take_error(r, p)) return;
  if (r->command == COM_STMT_PREPARE) {
    take_prepare_ok(r, p);
  } else if (p->length == 0) {
    broken(r, "empty packet where a result begins");
  } else if (p->first == HEADER_OK) {
    read_ok(r, p);
    end_of_result(r);
  } else if (p->first == HEADER_LOCAL_INFILE) {
    r->local_infile = true; /* after the upload comes OK or ERR: the header again */
  } else if (is_eof(p)) {
    read_eof(r, p);
    end_of_result(r);
  } else {
    take_column_count(r, p);
  }
}

static void take_columns_eof(struct response *r, struct answer_packet *p) {
  if (take_error(r, p)) return;
  if (!is_eof(p)) {
    broken(r, "no EOF after the column definitions");
    return;
  }
  read_eof(r, p);
  /* Behind the result of a cursor comes no other. The flag is also set where a procedure has a cursor of its own open.
   */
  r->in_cursor = r->command == COM_STMT_EXECUTE && r->status & SERVER_STATUS_CURSOR_EXISTS &&
                 !(r->status & SERVER_MORE_RESULTS_EXISTS);
  if (r->in_cursor)
    end_of_rows(r);
  else
    r->state = RESPONSE_ROWS;
}

static void take_row(struct response *r, struct answer_packet *p) {
  if (take_error(r, p)) return;
  if (r->capabilities & CLIENT_DEPRECATE_EOF && p->first == HEADER_EOF && p->length < PACKET_MAX_PAYLOAD) {
    read_ok(r, p);
    end_of_rows(r);
  } else if (is_eof(p)) {
    /* Behind OUT parameters comes an OK, as the EOF before their row says, and MySQL's EOF behind it does not. */
    uint16_t more = r->status & SERVER_PS_OUT_PARAMS ? r->status & SERVER_MORE_RESULTS_EXISTS : 0;
    read_eof(r, p);
    r->status |= more;
    end_of_rows(r);
  } else {
    r->rows++;
    r->row_bytes += p->size;
    return;
  }
  if (r->command == COM_FIELD_LIST || r->command == COM_STMT_FETCH) r->state = RESPONSE_DONE;
}

static void take_one_packet(struct response *r, struct answer_packet *p) {
  if (r->command == COM_STATISTICS) { /* a text */
    r->state = RESPONSE_DONE;
  } else if (!take_error(r, p)) {
    bool ok_as_eof = p->first == HEADER_EOF && r->capabilities & CLIENT_DEPRECATE_EOF && p->length > EOF_LENGTH;
    if (p->first == HEADER_OK || ok_as_eof)
      read_ok(r, p);
    else if (is_eof(p))
      read_eof(r, p);
    if (ok_as_eof) r->has_ok = false; /* scripts see the same of both */
    r->state = RESPONSE_DONE;
  }
}

static void take_auth(struct response *r, struct answer_packet *p) {
  if (take_error(r, p)) return;
  if (p->length && p->first == HEADER_OK) {
    read_ok(r, p);
    r->state = RESPONSE_DONE;
  } else { /* auth switch or what a plugin says, be it nothing: the conversation goes on */
    bool news = p->length == 2 && cursor_uint(&p->head, 2) == (FAST_AUTH_SUCCESS << 8 | HEADER_MORE_DATA);
    r->auth_step = news ? AUTH_STEP_NEWS : AUTH_STEP_QUESTION;
  }
}

static bool opens_tunnel(uint8_t command) {
  return command == COM_CLONE || command == COM_SUBSCRIBE_GROUP_REPLICATION_STREAM;
}

static void take_event(struct response *r, struct answer_packet *p) {
  if (!take_error(r, p) && is_eof(p) && r->state == RESPONSE_STREAM) r->state = RESPONSE_DONE;
  if (r->state == RESPONSE_DONE) r->last_packet = p->size;
}

static void take_packet(struct response *r, const uint8_t *head, size_t head_length, uint32_t length, uint64_t size) {
  struct answer_packet p = {cursor_over(head, head_length), 0, length, size};
  if (head_length) p.first = head[0];
  bool in_rows = r->state == RESPONSE_ROWS;
  switch (r->state) {
  case RESPONSE_HEADER: take_header(r, &p); break;
  case RESPONSE_ONE_PACKET: take_one_packet(r, &p); break;
  case RESPONSE_COLUMNS:
    if (take_error(r, &p)) break;
    if (--r->definitions == 0) expect_definitions(r, 0, false);
    break;
  case RESPONSE_COLUMNS_EOF: take_columns_eof(r, &p); break;
  case RESPONSE_ROWS: take_row(r, &p); break;
  case RESPONSE_PREPARED: take_prepared(r, &p); break;
  case RESPONSE_AUTH: take_auth(r, &p); break;
  case RESPONSE_OPENING:
    r->state = opens_tunnel(r->command) ? RESPONSE_TUNNEL : RESPONSE_STREAM;
    take_event(r, &p);
    break;
  case RESPONSE_STREAM: take_event(r, &p); break;
  default: break;
  }
  if (in_rows && r->state != RESPONSE_ROWS && !r->rows_end) r->rows_end = r->bytes;
  r->bytes += size;
  if (r->state == RESPONSE_ROWS && !r->rows_begin) r->rows_begin = r->bytes;
}

/* Whether another packet of the answer is to be looked at. */
static bool goes_on(const struct response *r) { return r->state < RESPONSE_TUNNEL && !r->auth_step; }

/* Whole short packets in one buffer, the common case: their heads are read where they lie. */
static size_t feed_whole_packets(struct response *r, const uint8_t *data, size_t length) {
  size_t at = 0;
  while (length - at >= PACKET_HEADER_SIZE && goes_on(r)) {
    struct cursor c = cursor_over(data + at, PACKET_HEADER_SIZE);
    uint32_t payload = (uint32_t)cursor_uint(&c, 3);
    if (payload == PACKET_MAX_PAYLOAD || payload > length - at - PACKET_HEADER_SIZE) break;
    r->framing.sequence = data[at + 3];
    size_t size = PACKET_HEADER_SIZE + payload;
    take_packet(r, data + at + PACKET_HEADER_SIZE, payload < FRAMING_HEAD ? payload : FRAMING_HEAD, payload, size);
    at += size;
  }
  return at;
}

size_t response_feed(struct response *r, const uint8_t *data, size_t length) {
  size_t at = 0;
  r->auth_step = AUTH_STEP_NONE;
  while (at < length && goes_on(r)) {
    if (framing_at_boundary(&r->framing)) at += feed_whole_packets(r, data + at, length - at);
    if (at == length || !goes_on(r)) break;
    bool complete;
    size_t used = framing_feed(&r->framing, data + at, length - at, &complete);
    at += used;
    r->packet_bytes += used;
    if (!complete) continue;
    take_packet(r, r->framing.head, r->framing.head_seen, r->framing.length, r->packet_bytes);
    r->packet_bytes = 0;
  }
  return r->state == RESPONSE_TUNNEL ? length : at; /* its packets are nobody's */
}
