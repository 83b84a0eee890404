/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_DBUS_MESSAGE_H
#define TCTI_DBUS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * D-Bus messages, as far as three method calls need them (D-Bus specification, "Message Protocol"). Calls are written
 * little endian; answers are read in either order, and every offset in them is checked.
 */
#define DBUS_MESSAGE_MAX 65536        /* bytes; what is larger is not meant for us */
#define DBUS_MESSAGE_LIMIT (1u << 27) /* larger ones there are not (D-Bus specification) */
#define DBUS_HEADER_SIZE 16           /* up to and including the size of the header fields */
#define DBUS_CALL_MAX 1024

typedef enum DbusType {
        DBUS_CALL = 1,
        DBUS_RETURN = 2,
        DBUS_ERROR = 3,
} DbusType;

typedef struct DbusCall {
        const char *destination;
        const char *path;
        const char *interface;
        const char *member;
        const char *signature; /* of t and y, in this order; "": no arguments */
        uint64_t t;
        uint8_t y;
} DbusCall;

/* Return: bytes written, or 0: it does not fit into @size. */
size_t dbus_call_write(const DbusCall *call, uint32_t serial, uint8_t *bytes, size_t size);

/* Return: size of the whole message in bytes, or 0: its header makes no sense, or says more than DBUS_MESSAGE_LIMIT. */
size_t dbus_message_size(const uint8_t header[DBUS_HEADER_SIZE]);

/* What an answer says; strings are borrowed from the bytes. */
typedef struct DbusMessage {
        uint8_t type; /* DbusType, or something else */
        uint32_t reply_serial;
        uint32_t n_fds;        /* that came with it */
        const char *error;     /* its name, or NULL */
        const char *signature; /* of the body */
        const uint8_t *body;
        size_t n_body;
        bool big_endian;
} DbusMessage;

/* Return: false when @bytes are not exactly one well-formed message. */
bool dbus_message_parse(const uint8_t *bytes, size_t n_bytes, DbusMessage *ret_message);

/* The one number of a body whose signature is "t" or "u". Return: false when it is not. */
bool dbus_message_number(const DbusMessage *message, const char *signature, uint64_t *ret_number);

/* The string that a body begins with, such as the text of an error. Return: NULL: there is none. */
const char *dbus_message_string(const DbusMessage *message);

#endif
