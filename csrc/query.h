#ifndef MYSQL_QUERY_H
#define MYSQL_QUERY_H

#include "packet.h"

/* Moves the cursor, which stands behind COM_QUERY's command byte, past the query attributes that a session with
 * CLIENT_QUERY_ATTRIBUTES puts in front of the SQL text. The cursor has failed if they are malformed.
 * Source: "COM_QUERY" and "Binary Protocol Value" of the MySQL protocol documentation. */
void query_skip_attributes(struct cursor *c);

#endif
