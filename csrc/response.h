/* The recogniser: fed the raw bytes that a server sends after a command, it says where the answer ends and what it
 * was, without keeping it.
 *
 * Sources: MySQL "Text Protocol", "Command Phase", "Binary Protocol Resultset"; MariaDB "Result Set Packets",
 * "COM_STMT_EXECUTE" (metadata caching), "Progress reporting". */
#ifndef MYSQL_RESPONSE_H
#define MYSQL_RESPONSE_H

#include "framing.h"

/* Commands whose answer has a form of its own; all others are answered by one packet. */
enum {
  COM_QUIT = 1,
  COM_INIT_DB = 2,
  COM_QUERY = 3,
  COM_FIELD_LIST = 4,
  COM_STATISTICS = 9,
  COM_PROCESS_INFO = 10,
  COM_CHANGE_USER = 17,
  COM_BINLOG_DUMP = 18,
  COM_TABLE_DUMP = 19,
  COM_STMT_PREPARE = 22,
  COM_STMT_EXECUTE = 23,
  COM_STMT_SEND_LONG_DATA = 24,
  COM_STMT_CLOSE = 25,
  COM_STMT_FETCH = 28,
  COM_BINLOG_DUMP_GTID = 30,
  COM_CLONE = 32,
  COM_SUBSCRIBE_GROUP_REPLICATION_STREAM = 33,
  COM_STMT_BULK_EXECUTE = 250 /* MariaDB */
};

/* Capabilities that change the form of an answer. MariaDB's extended ones are bits 32 and up. */
#define CLIENT_PROGRESS_OBSOLETE (UINT64_C(1) << 29)
#define CLIENT_DEPRECATE_EOF (UINT64_C(1) << 24)
#define CLIENT_OPTIONAL_RESULTSET_METADATA (UINT64_C(1) << 25)
#define CLIENT_QUERY_ATTRIBUTES (UINT64_C(1) << 27)
#define MARIADB_CLIENT_PROGRESS (UINT64_C(1) << 32)
#define MARIADB_CLIENT_EXTENDED_METADATA (UINT64_C(1) << 35)
#define MARIADB_CLIENT_CACHE_METADATA (UINT64_C(1) << 36)

enum response_state {
  RESPONSE_HEADER,      /* the first packet of an answer, or of the next result in it */
  RESPONSE_ONE_PACKET,  /* any packet is the answer */
  RESPONSE_COLUMNS,     /* column definitions */
  RESPONSE_COLUMNS_EOF, /* the EOF after them */
  RESPONSE_ROWS,        /* rows (or COM_FIELD_LIST's definitions) up to EOF, OK as EOF, or ERR */
  RESPONSE_PREPARED,    /* the definitions behind COM_STMT_PREPARE_OK */
  RESPONSE_AUTH,        /* COM_CHANGE_USER: an authentication conversation */
  RESPONSE_OPENING,     /* the first packet of one of the next two, unless it is an ERR */
  RESPONSE_STREAM,      /* a binary log: events up to EOF or ERR */
  RESPONSE_TUNNEL,      /* a conversation in a protocol of its own: never ends */
  RESPONSE_DONE,
  RESPONSE_BROKEN /* no answer looks like that: `problem` says why */
};

enum auth_step {
  AUTH_STEP_NONE,
  AUTH_STEP_QUESTION, /* the server waits for what the client says, as far as can be known */
  AUTH_STEP_NEWS      /* it goes on by itself */
};

struct response {
  uint64_t capabilities; /* negotiated between this client and server */
  uint8_t command;
  uint8_t state;
  bool local_infile;    /* the server asks for a file: set by the request, cleared by the owner after the upload */
  uint8_t auth_step;    /* the feed has stopped behind a step of an authentication conversation */
  bool in_cursor;       /* EOF said that the rows stay in a cursor */
  bool has_ok;          /* affected_rows and last_insert_id are those of an OK packet, */
  bool ended_in_rows;   /* but say nothing if rows came behind it */
  bool failed;          /* ended by an ERR packet; its code may be 0 */
  uint32_t definitions; /* column definitions (with their EOF packets) to come */
  struct framing framing;
  uint64_t packet_bytes; /* of a packet that comes in pieces, as far as it has come */

  /* what the answer was, as far as it has come */
  uint16_t status; /* server status of the last OK or EOF */
  uint16_t warnings;
  uint16_t error;        /* error code of an ERR, else 0 */
  uint32_t statement_id; /* of a statement that has been prepared */
  uint64_t affected_rows;
  uint64_t last_insert_id;
  uint64_t rows;
  uint64_t row_bytes;     /* of the packets of these rows, their headers included */
  uint64_t bytes;         /* of all packets that have come whole */
  uint64_t last_packet;   /* bytes of the packet that has ended a binary log, or refused it */
  uint64_t rows_begin;    /* where, in these bytes, the rows of the first result set begin; 0: it has not come so far */
  uint64_t rows_end;      /* and where they end; 0: they have not */
  uint32_t first_columns; /* how many columns that has */
  const char *problem;
};

/* Whether the server answers this command at all. */
bool response_expected(uint8_t command);
/* So many bytes has a command at least that has no answer. MySQL gives one to a COM_STMT_CLOSE or
 * COM_STMT_SEND_LONG_DATA that is shorter, and it would pass for that to the next command. */
uint32_t response_shortest(uint8_t command);

/* Before the first byte of the answer to `command`. */
void response_begin(struct response *r, uint8_t command, uint64_t capabilities);

/* Takes bytes up to the end of the answer, or of a step of an authentication conversation. Returns how many; state is
 * RESPONSE_DONE if the answer ends there, and RESPONSE_BROKEN if the bytes cannot be an answer. However the bytes are
 * cut, the result is the same. */
size_t response_feed(struct response *r, const uint8_t *data, size_t length);

#endif
