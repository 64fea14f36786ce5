/* The file of a listener on a unix socket. Made by hand, as libuv removes the file of what it has bound when it closes
 * that, also when another process has inherited it. */
#ifndef MYSQL_LOCAL_SOCKET_H
#define MYSQL_LOCAL_SOCKET_H

/* A new socket, bound to the path; a file there that nobody listens on any more is removed first. Result: the
 * descriptor, or a negative error. */
int local_socket(const char *path);

#endif
