/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-internal.h"
#include "tpm/protocol.h"
#include "tpm/writer.h"

#include <stdarg.h>
#include <string.h>

G_DEFINE_QUARK(tabrmd - backend - error - quark, backend_error)

static bool is_libtpms(const char *conf) {
        return g_str_equal(conf, "libtpms") || g_str_has_prefix(conf, "libtpms:");
}

/*
 * A TCTI may be wrapped in another ("pcap:device:/dev/tpm0"), so every part counts. Given no name at all, the loader of
 * libtss2 tries tabrmd first.
 */
static bool check_conf(char *const *parts, GError **error) {
        const char *reason = NULL;

        if (!parts[0] || !parts[0][0])
                reason = "no TCTI is named";
        for (size_t i = 0; parts[i] && !reason; i++) {
                const char *name = strrchr(parts[i], '/');

                name = name ? name + 1 : parts[i];
                if (g_str_equal(parts[i], "tabrmd") || g_str_has_prefix(name, "libtss2-tcti-tabrmd.so"))
                        reason = "the daemon would talk to itself";
                else if (g_str_equal(parts[i], "pcap") && (!parts[i + 1] || !parts[i + 1][0]))
                        reason = "pcap needs the TCTI that it is to record";
        }
        if (!reason)
                return true;

        g_set_error_literal(error, BACKEND_ERROR, BACKEND_ERROR_CONF, reason);
        return false;
}

static bool is_shared(char *const *parts) {
        for (size_t i = 0; parts[i]; i++)
                if (g_str_equal(parts[i], "device") || strstr(parts[i], "libtss2-tcti-device.so") ||
                    g_str_has_prefix(parts[i], "/dev/"))
                        return true;
        return false;
}

Backend *backend_new(Loop *loop, const char *conf, GError **error) {
        g_auto(GStrv) parts = g_strsplit(conf, ":", -1);
        g_autofree char *device = NULL;
        Backend *backend;
        bool shared = false;

        if (!is_libtpms(conf)) {
                if (!check_conf(parts, error))
                        return NULL;
                shared = is_shared(parts);
                if (conf[0] == '/' && g_str_has_prefix(conf, "/dev/"))
                        conf = device = g_strconcat("device:", conf, NULL);
        }

        if (backend_device_speaks(conf))
                backend = backend_device_new(conf);
        else if (backend_swtpm_speaks(conf))
                backend = backend_swtpm_new(conf, error);
        else
                backend = backend_helper_new(conf);
        if (!backend)
                return NULL;

        backend->loop = loop;
        backend->shared = shared;
        return backend;
}

Backend *backend_free(Backend *backend) {
        if (backend) {
                backend_close(backend);
                backend->ops->free(backend);
        }
        return NULL;
}

void backend_listen(Backend *backend, const BackendEvents *events, void *userdata) {
        backend->events = events;
        backend->userdata = userdata;
}

static void set_state(Backend *backend, BackendState state) {
        backend->state = state;
        loop_set_busy(backend->loop, state == BACKEND_BUSY);
}

void backend_open(Backend *backend) {
        if (backend->state != BACKEND_CLOSED)
                return;
        set_state(backend, BACKEND_OPENING);
        backend->ops->open(backend);
}

void backend_close(Backend *backend) {
        if (backend->state == BACKEND_CLOSED)
                return;
        backend->ops->close(backend);
        set_state(backend, BACKEND_CLOSED);
}

bool backend_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality, GError **error) {
        const char *reason = NULL;

        if (backend->state != BACKEND_READY)
                reason = backend->state == BACKEND_BUSY ? "the TPM has a command already" : "the TPM is not open";
        else if (n_command < TPM_HEADER_SIZE || n_command > TPM_MESSAGE_MAX)
                reason = "a command of impossible size";

        if (reason) {
                g_set_error_literal(error, BACKEND_ERROR, BACKEND_ERROR_LOST, reason);
                backend_close(backend);
                return false;
        }
        set_state(backend, BACKEND_BUSY);
        if (locality != 0 && !backend->localities) {
                /* It had them when the client chose, and was opened again since. */
                backend_refuse(backend, TPM2_RC_LOCALITY);
                return true;
        }
        if (backend->ops->transmit(backend, command, n_command, locality, error))
                return true;
        backend_close(backend);
        return false;
}

bool backend_cancel(Backend *backend) {
        return backend->state == BACKEND_BUSY && backend->ops->cancel && backend->ops->cancel(backend);
}

void backend_opened(Backend *backend) {
        set_state(backend, BACKEND_READY);
        if (backend->events)
                backend->events->opened(backend->userdata);
}

void backend_answered(Backend *backend, const uint8_t *response, size_t n_response) {
        set_state(backend, BACKEND_READY);
        if (backend->events)
                backend->events->response(backend->userdata, response, n_response);
}

void backend_lose(Backend *backend, const char *format, ...) {
        g_autofree char *reason = NULL;
        va_list arguments;

        va_start(arguments, format);
        reason = g_strdup_vprintf(format, arguments);
        va_end(arguments);

        backend_close(backend);
        if (backend->events)
                backend->events->lost(backend->userdata, reason);
}

void backend_refuse(Backend *backend, TPM2_RC rc) {
        uint8_t bytes[TPM_HEADER_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, RM_RC(rc));
        backend_answered(backend, bytes, tpm_write_end(&writer));
}
