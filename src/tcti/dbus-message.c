/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/dbus-message.h"

#include <string.h>

#define PROTOCOL_VERSION 1

enum {
        FIELD_PATH = 1,
        FIELD_INTERFACE = 2,
        FIELD_MEMBER = 3,
        FIELD_ERROR_NAME = 4,
        FIELD_REPLY_SERIAL = 5,
        FIELD_DESTINATION = 6,
        FIELD_SIGNATURE = 8,
        FIELD_UNIX_FDS = 9,
};

/* Writing */

typedef struct Out {
        uint8_t *bytes;
        size_t size;
        size_t n;
        bool bad;
} Out;

static void out_put(Out *out, const void *bytes, size_t n) {
        if (out->bad || out->size - out->n < n) {
                out->bad = true;
                return;
        }
        memcpy(out->bytes + out->n, bytes, n);
        out->n += n;
}

static void out_put_number(Out *out, uint64_t value, size_t n) {
        uint8_t bytes[sizeof(value)];

        for (size_t i = 0; i < n; i++)
                bytes[i] = value >> 8 * i;
        out_put(out, bytes, n);
}

static void out_pad(Out *out, size_t to) {
        static const uint8_t ZEROS[8];

        out_put(out, ZEROS, (to - out->n % to) % to);
}

static void out_put_field(Out *out, uint8_t code, char type, const char *value) {
        out_pad(out, 8);
        out_put_number(out, code, 1);
        out_put(out, (const char[]){ 1, type, 0 }, 3);
        if (type == 'g') {
                out_put_number(out, strlen(value), 1);
        } else {
                out_pad(out, 4);
                out_put_number(out, strlen(value), 4);
        }
        out_put(out, value, strlen(value) + 1);
}

static void out_set_u32(Out *out, size_t at, uint32_t value) {
        Out here = { .bytes = out->bytes, .size = out->size, .n = at };

        if (!out->bad)
                out_put_number(&here, value, sizeof(value));
}

size_t dbus_call_write(const DbusCall *call, uint32_t serial, uint8_t *bytes, size_t size) {
        Out out = { .bytes = bytes, .size = size };
        size_t body;

        out_put(&out, (const uint8_t[]){ 'l', DBUS_CALL, 0, PROTOCOL_VERSION }, 4);
        out_put_number(&out, 0, 4); /* size of the body, and then of the fields: known at the end */
        out_put_number(&out, serial, 4);
        out_put_number(&out, 0, 4);
        out_put_field(&out, FIELD_PATH, 'o', call->path);
        out_put_field(&out, FIELD_INTERFACE, 's', call->interface);
        out_put_field(&out, FIELD_MEMBER, 's', call->member);
        out_put_field(&out, FIELD_DESTINATION, 's', call->destination);
        if (*call->signature)
                out_put_field(&out, FIELD_SIGNATURE, 'g', call->signature);
        out_set_u32(&out, 12, out.n - DBUS_HEADER_SIZE);
        out_pad(&out, 8);

        body = out.n;
        if (strchr(call->signature, 't'))
                out_put_number(&out, call->t, 8);
        if (strchr(call->signature, 'y'))
                out_put_number(&out, call->y, 1);
        out_set_u32(&out, 4, out.n - body);
        return out.bad ? 0 : out.n;
}

/* Reading */

typedef struct In {
        const uint8_t *bytes;
        size_t n;
        size_t at;
        bool big_endian;
        bool bad;
} In;

static const uint8_t *in_get(In *in, size_t n) {
        const uint8_t *bytes = in->bytes + in->at;

        if (in->bad || in->n - in->at < n) {
                in->bad = true;
                return NULL;
        }
        in->at += n;
        return bytes;
}

/* Numbers are aligned to their size, counted from the beginning of the message. */
static uint64_t in_get_number(In *in, size_t n) {
        const uint8_t *bytes;
        uint64_t value = 0;

        in_get(in, (n - in->at % n) % n);
        bytes = in_get(in, n);
        for (size_t i = 0; bytes && i < n; i++)
                value |= (uint64_t)bytes[i] << 8 * (in->big_endian ? n - 1 - i : i);
        return value;
}

/* A string of n characters and a NUL. */
static const char *in_get_string(In *in, size_t n) {
        const uint8_t *bytes = n < in->n ? in_get(in, n + 1) : NULL;

        if (!bytes || bytes[n] != 0 || memchr(bytes, 0, n)) {
                in->bad = true;
                return NULL;
        }
        return (const char *)bytes;
}

size_t dbus_message_size(const uint8_t header[DBUS_HEADER_SIZE]) {
        In in = { .bytes = header, .n = DBUS_HEADER_SIZE, .at = 4, .big_endian = header[0] == 'B' };
        size_t body = in_get_number(&in, 4);
        size_t fields;

        in_get_number(&in, 4);
        fields = in_get_number(&in, 4);
        if ((header[0] != 'l' && header[0] != 'B') || header[3] != PROTOCOL_VERSION || body > DBUS_MESSAGE_LIMIT ||
            fields > DBUS_MESSAGE_LIMIT)
                return 0;
        fields = (fields + 7) / 8 * 8;
        return DBUS_HEADER_SIZE + fields + body <= DBUS_MESSAGE_LIMIT ? DBUS_HEADER_SIZE + fields + body : 0;
}

/* Size in bytes of the numbers that there are; 0: it is none. */
static size_t number_size(char type) {
        switch (type) {
        case 'y':
                return 1;
        case 'n':
        case 'q':
                return 2;
        case 'b':
        case 'i':
        case 'u':
        case 'h':
                return 4;
        case 'x':
        case 't':
        case 'd':
                return 8;
        default:
                return 0;
        }
}

/* One header field: a number, and a value of a basic type. Those that we do not know of are nothing to us. */
static void in_get_field(In *in, DbusMessage *message) {
        const char *type, *string = NULL;
        uint64_t number = 0;
        uint8_t code;

        code = in_get_number(in, 1);
        type = in_get_string(in, in_get_number(in, 1));
        if (!type)
                return;
        if (strcmp(type, "s") == 0 || strcmp(type, "o") == 0)
                string = in_get_string(in, in_get_number(in, 4));
        else if (strcmp(type, "g") == 0)
                string = in_get_string(in, in_get_number(in, 1));
        else if (number_size(*type) > 0 && !type[1])
                number = in_get_number(in, number_size(*type));
        else
                in->bad = true;

        if (code == FIELD_ERROR_NAME && string)
                message->error = string;
        else if (code == FIELD_SIGNATURE && *type == 'g' && string)
                message->signature = string;
        else if (code == FIELD_REPLY_SERIAL && *type == 'u')
                message->reply_serial = number;
        else if (code == FIELD_UNIX_FDS && *type == 'u')
                message->n_fds = number;
}

bool dbus_message_parse(const uint8_t *bytes, size_t n_bytes, DbusMessage *ret_message) {
        In in = { .bytes = bytes, .n = n_bytes, .at = 12 };
        DbusMessage message = { .signature = "" };
        size_t fields;

        if (n_bytes < DBUS_HEADER_SIZE || dbus_message_size(bytes) != n_bytes)
                return false;
        message.type = bytes[1];
        message.big_endian = in.big_endian = bytes[0] == 'B';
        fields = in_get_number(&in, 4);
        in.n = DBUS_HEADER_SIZE + fields;
        while (!in.bad && in.at < in.n) {
                in_get(&in, (8 - in.at % 8) % 8);
                if (!in.bad)
                        in_get_field(&in, &message);
        }
        if (in.bad)
                return false;
        message.body = bytes + (DBUS_HEADER_SIZE + fields + 7) / 8 * 8;
        message.n_body = bytes + n_bytes - message.body;
        *ret_message = message;
        return true;
}

bool dbus_message_number(const DbusMessage *message, const char *signature, uint64_t *ret_number) {
        size_t n = *signature == 't' ? sizeof(uint64_t) : sizeof(uint32_t);
        In in = { .bytes = message->body, .n = message->n_body, .big_endian = message->big_endian };
        uint64_t number = in_get_number(&in, n);

        if (strcmp(message->signature, signature) != 0 || in.bad || in.at != in.n)
                return false;
        *ret_number = number;
        return true;
}

const char *dbus_message_string(const DbusMessage *message) {
        In in = { .bytes = message->body, .n = message->n_body, .big_endian = message->big_endian };

        return message->signature[0] == 's' ? in_get_string(&in, in_get_number(&in, 4)) : NULL;
}
