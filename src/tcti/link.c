/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/link.h"

#include "tcti/io.h"
#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/fd.h"
#include "util/names.h"
#include "util/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tss2/tss2_tpm2_types.h>
#include <unistd.h>

/* The daemon answers "set locality" itself, without asking the TPM. */
#define SET_LOCALITY_MS 25000

/* While the daemon's queue is full; as long as a bus may take. */
#define CONNECT_MS 25000

/* Nobody serves this socket, or not us: the bus may. Nothing was sent yet. */
static bool is_absent(int error) {
        return error == ENOENT || error == ENOTDIR || error == ECONNREFUSED;
}

static bool is_denied(int error) {
        return error == EACCES || error == EPERM;
}

/* The next step after an error of connect(). */
static const char *advice_on(int error) {
        if (is_absent(error))
                return " (is tpm2-abrmd running? systemctl start tpm2-abrmd)";
        if (is_denied(error))
                return " (is this user in group tss?)";
        if (error == EAGAIN)
                return " (the daemon takes no connection; its log may say why)";
        if (error == EPROTOTYPE)
                return " (that socket is another program's)";
        return "";
}

/* Return: 0, or what connect() says. */
static int open_socket(const char *path, int *ret_fd, Why *why) {
        const IoDeadline deadline = io_deadline(CONNECT_MS);
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int error;

        memcpy(address.sun_path, path, strlen(path) + 1);
        *ret_fd = io_connect(&address, sizeof(address), &deadline);
        if (*ret_fd >= 0)
                return 0;
        error = errno;
        why->absent = is_absent(error);
        why_add(why, "%s: %s%s", path, strerror(error), advice_on(error));
        return error;
}

static DbusCall call_of(const Link *link, const char *member, const char *signature) {
        return (DbusCall){
                .destination = link->bus_name,
                .path = TABRMD_DBUS_PATH,
                .interface = TABRMD_DBUS_INTERFACE,
                .member = member,
                .signature = signature,
                .t = link->id,
        };
}

static bool is_socket(int fd) {
        struct stat st;

        return fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* Why there is no connection: what the bus says, or the daemon. */
static void explain_refusal(const char *bus, const DbusMessage *message, const char *bus_name, Why *why) {
        const char *error = message->error ? message->error : "no connection in the answer";
        const char *text = message->error ? dbus_message_string(message) : NULL;

        if (strcmp(error, "org.freedesktop.DBus.Error.ServiceUnknown") == 0) {
                why_add(why, "%s: %s: nobody has that name%s", bus, bus_name, advice_on(ENOENT));
                return;
        }
        why->absent = false;
        if (strcmp(error, "org.freedesktop.DBus.Error.AccessDenied") == 0)
                why_add(why, "%s: %s: %s%s", bus, bus_name, strerror(EACCES), advice_on(EACCES));
        else if (text && strncmp(error, TABRMD_DBUS_ERROR, strlen(TABRMD_DBUS_ERROR)) == 0)
                why_add(why, "%s: %s: %s (its log says more)", bus, bus_name, text);
        else
                why_add(why, "%s: %s: %s%s%s", bus, bus_name, error, text ? ": " : "", text ? text : "");
}

/* Return: the stream that the daemon hands out, or -1. */
static int create_connection(Link *link, const char *bus, Why *why) {
        const DbusCall call = call_of(link, "CreateConnection", "");
        DbusReply *reply = malloc(sizeof(*reply));
        fd_auto fd = -1;
        bool ok = reply && dbus_call(&link->dbus, &call, reply);

        if (ok)
                fd = reply->fd;
        else
                why_add(why, "%s: %s: no answer (its log may say why)", bus, link->bus_name);
        if (ok && (reply->message.type != DBUS_RETURN || !dbus_message_number(&reply->message, "t", &link->id) ||
                   !is_socket(fd))) {
                explain_refusal(bus, &reply->message, link->bus_name, why);
                ok = false;
        }
        free(reply);
        return ok ? fd_steal(&fd) : -1;
}

static int open_bus(Link *link, bool session, Why *why) {
        const char *bus = session ? "session bus" : "system bus";
        bool absent = why->absent;
        Why reason = { 0 };
        int fd = -1;

        if (!dbus_open(&link->dbus, session, &reason)) {
                why->absent = absent && reason.absent;
                why_add(why, "%s: %s", bus, reason.text);
        } else {
                fd = create_connection(link, bus, why);
        }
        if (fd < 0)
                dbus_close(&link->dbus);
        return fd;
}

void link_init(Link *link) {
        *link = (Link){ .fd = -1, .dbus = { .fd = -1 }, .owner = owner_new() };
}

static bool is_ours(const Link *link) {
        return link->fd < 0 || io_mark(link->fd) == link->mark;
}

/* From now on the link's descriptor is this one, by its old number where that can be. */
static void take_stream(Link *link, int fd) {
        link->mark = io_mark(fd);
        if (link->fd >= 0 && dup3(fd, link->fd, O_CLOEXEC) >= 0) {
                fd_close(fd);
                return;
        }
        fd_close(link->fd);
        link->fd = fd;
}

bool link_open(Link *link, const Conf *conf, Why *why) {
        int fd = -1, error = 0;

        memcpy(link->bus_name, conf->bus_name, sizeof(link->bus_name));
        if (conf->kind != CONF_BUS)
                error = open_socket(conf->path, &fd, why);
        link->by_bus = conf->kind == CONF_BUS || (conf->kind == CONF_DEFAULT && (is_absent(error) || is_denied(error)));
        if (link->by_bus)
                fd = open_bus(link, conf->session_bus, why);
        why->absent &= conf->kind == CONF_DEFAULT;
        if (fd < 0)
                return false;

        take_stream(link, fd);
        link->up = true;
        link->hello = link->by_bus ? LINK_HELLO_DONE : LINK_HELLO_DUE;
        link->n_greeting = 0;
        if (link->locality == 0 || link_set_locality(link, link->locality) == TSS2_RC_SUCCESS)
                return true;
        why_add(why, "locality %u, which was set before, is refused by the daemon now", link->locality);
        link_lose(link);
        return false;
}

IoResult link_send(Link *link, const uint8_t *command, size_t size) {
        const IoDeadline never = io_deadline(-1);
        uint8_t bytes[TPM_STREAM_HELLO_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));
        const struct iovec iov[] = {
                { .iov_base = bytes, .iov_len = sizeof(bytes) },
                { .iov_base = (void *)command, .iov_len = size },
        };

        if (link->hello != LINK_HELLO_DUE)
                return io_write(link->fd, command, size, &never);
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM_STREAM_CC_HELLO);
        tpm_write_u32(&writer, TPM_STREAM_LAYERS);
        (void)tpm_write_end(&writer);
        link->hello = LINK_HELLO_SENT;
        return io_write_two(link->fd, iov, &never);
}

/* A daemon that does not know hello has the TPM refuse it, by a header alone. */
IoResult link_read_greeting(Link *link, const IoDeadline *deadline) {
        TpmReader reader = TPM_READER(link->greeting, TPM_HEADER_SIZE);
        IoResult result;
        uint32_t size;

        if (link->hello != LINK_HELLO_SENT)
                return IO_DONE;
        result = io_read_on(link->fd, link->greeting, TPM_HEADER_SIZE, &link->n_greeting, deadline);
        if (result != IO_DONE)
                return result;
        size = tpm_read_header(&reader).size;
        if (size != TPM_HEADER_SIZE && size != TPM_STREAM_HELLO_SIZE)
                return IO_MALFORMED;
        result = io_read_on(link->fd, link->greeting, size, &link->n_greeting, deadline);
        if (result == IO_DONE)
                link->hello = LINK_HELLO_DONE;
        return result;
}

void link_lose(Link *link) {
        /* A child that was forked since holds a copy; the daemon must hear of the end all the same. */
        if (link->up)
                (void)shutdown(link->fd, SHUT_RDWR);
        link->up = false;
        dbus_close(&link->dbus);
}

void link_close(Link *link) {
        if (!is_ours(link))
                link->fd = -1;
        if (owner_is_us(&link->owner))
                link_lose(link);
        link->fd = fd_close(link->fd);
        dbus_close(&link->dbus);
        owner_free(&link->owner);
}

bool link_leave_to_others(Link *link) {
        bool ours = is_ours(link);

        if (ours && owner_is_us(&link->owner))
                return false;
        if (!ours)
                link->fd = -1;
        take_stream(link, io_ended());
        dbus_close(&link->dbus);
        link->up = false;
        owner_take(&link->owner);
        return true;
}

/* How an error of the daemon's is called in response codes, as the library of tpm2-abrmd 3.0 has it. */
static TSS2_RC rc_of_error(const char *name) {
        static const struct {
                const char *name;
                TSS2_RC rc;
        } errors[] = {
                { TABRMD_DBUS_ERROR ".General", RM_RC(TSS2_BASE_RC_GENERAL_FAILURE) },
                { TABRMD_DBUS_ERROR ".Internal", RM_RC(0x0800) },
                { TABRMD_DBUS_ERROR ".Init", RM_RC(0x1000) },
                { TABRMD_DBUS_ERROR ".NotImplemented", RM_RC_NOT_IMPLEMENTED },
                { TABRMD_DBUS_ERROR ".NotPermitted", RM_RC(TSS2_BASE_RC_NOT_PERMITTED) },
        };

        for (size_t i = 0; name && i < sizeof(errors) / sizeof(errors[0]); i++)
                if (strcmp(name, errors[i].name) == 0)
                        return errors[i].rc;
        return TSS2_TCTI_RC_GENERAL_FAILURE;
}

static TSS2_RC call_for_rc(Link *link, const DbusCall *call) {
        DbusReply *reply = malloc(sizeof(*reply));
        TSS2_RC rc = TSS2_TCTI_RC_MEMORY;
        uint64_t number;

        if (!reply)
                return rc;
        if (!dbus_call(&link->dbus, call, reply)) {
                rc = TSS2_TCTI_RC_NO_CONNECTION;
        } else {
                fd_close(reply->fd);
                if (reply->message.type == DBUS_ERROR)
                        rc = rc_of_error(reply->message.error);
                else
                        rc = dbus_message_number(&reply->message, "u", &number) ? (TSS2_RC)number
                                                                                : TSS2_TCTI_RC_MALFORMED_RESPONSE;
        }
        free(reply);
        return rc;
}

TSS2_RC link_cancel(Link *link) {
        const IoDeadline deadline = io_deadline(0);
        uint8_t bytes[TPM_STREAM_CANCEL_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        if (link->by_bus) {
                const DbusCall call = call_of(link, "Cancel", "t");

                return call_for_rc(link, &call);
        }
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM_STREAM_CC_CANCEL);
        /* So few bytes go out whole or not at all. */
        switch (io_write(link->fd, bytes, tpm_write_end(&writer), &deadline)) {
        case IO_DONE:
                return TSS2_RC_SUCCESS;
        case IO_TIMEOUT:
                return TSS2_TCTI_RC_TRY_AGAIN;
        default: /* the connection has ended; whether after the answer is seen when that is received */
                return TSS2_RC_SUCCESS;
        }
}

static TSS2_RC rc_of_locality(uint32_t code) {
        switch (code) {
        case TPM2_RC_SUCCESS:
                return TSS2_RC_SUCCESS;
        case RM_RC(TPM2_RC_LOCALITY):
        case TPM2_RC_LOCALITY: /* before hello */
                return TSS2_TCTI_RC_NOT_PERMITTED;
        case RM_RC_NOT_IMPLEMENTED: /* the lower layer cannot, or the daemon does not know the code */
        case RM_RC(TPM2_RC_COMMAND_CODE):
        case TPM2_RC_COMMAND_CODE:
                return TSS2_TCTI_RC_NOT_IMPLEMENTED;
        default:
                return code;
        }
}

static TSS2_RC set_locality(Link *link, uint8_t locality) {
        const IoDeadline deadline = io_deadline(SET_LOCALITY_MS);
        uint8_t bytes[TPM_STREAM_SET_LOCALITY_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));
        TpmReader reader = TPM_READER(bytes, TPM_HEADER_SIZE);
        TpmHeader header;

        if (link->by_bus) {
                DbusCall call = call_of(link, "SetLocality", "ty");
                TSS2_RC rc;

                call.y = locality;
                rc = call_for_rc(link, &call);
                /* It may have been set; and without that connection to the bus, the daemon lets us set none again. */
                if (rc == TSS2_TCTI_RC_NO_CONNECTION)
                        link_lose(link);
                return rc;
        }
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM_STREAM_CC_SET_LOCALITY);
        tpm_write_u8(&writer, locality);
        if (io_write(link->fd, bytes, tpm_write_end(&writer), &deadline) != IO_DONE ||
            io_read(link->fd, bytes, TPM_HEADER_SIZE, &deadline) != IO_DONE) {
                /* Whatever comes now would be taken for something else. */
                link_lose(link);
                return TSS2_TCTI_RC_NO_CONNECTION;
        }
        header = tpm_read_header(&reader);
        if (header.size != TPM_HEADER_SIZE) {
                link_lose(link);
                return TSS2_TCTI_RC_MALFORMED_RESPONSE;
        }
        return rc_of_locality(header.code);
}

TSS2_RC link_set_locality(Link *link, uint8_t locality) {
        TSS2_RC rc = set_locality(link, locality);

        if (rc == TSS2_RC_SUCCESS)
                link->locality = locality;
        return rc;
}
