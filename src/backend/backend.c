/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-internal.h"

#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/transition.h"

#include <stdarg.h>

G_DEFINE_QUARK(tabrmd - backend - error - quark, backend_error)

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

static const uint8_t backend_transitions[][2] = {
        { BACKEND_CLOSED, BACKEND_OPENING }, { BACKEND_OPENING, BACKEND_READY }, { BACKEND_OPENING, BACKEND_CLOSED },
        { BACKEND_READY, BACKEND_BUSY },     { BACKEND_READY, BACKEND_CLOSED },  { BACKEND_BUSY, BACKEND_READY },
        { BACKEND_BUSY, BACKEND_CLOSED },
};

static void backend_set_state(Backend *backend, BackendState state) {
        transition_check("the back end", backend_transitions, G_N_ELEMENTS(backend_transitions), backend->state, state);
        backend->state = state;
        loop_set_busy(backend->loop, state == BACKEND_BUSY);
}

bool backend_is_open(const Backend *backend) {
        return backend->state == BACKEND_READY || backend->state == BACKEND_BUSY;
}

bool backend_is_opening(const Backend *backend) {
        return backend->state == BACKEND_OPENING;
}

bool backend_is_busy(const Backend *backend) {
        return backend->state == BACKEND_BUSY;
}

static bool backend_is_closed(const Backend *backend) {
        return backend->state == BACKEND_CLOSED;
}

void backend_open(Backend *backend) {
        if (!backend_is_closed(backend))
                return;
        backend_set_state(backend, BACKEND_OPENING);
        backend->ops->open(backend);
}

void backend_close(Backend *backend) {
        if (backend_is_closed(backend))
                return;
        backend->ops->close(backend);
        backend_set_state(backend, BACKEND_CLOSED);
}

bool backend_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality, GError **error) {
        const char *reason = NULL;

        if (backend->state != BACKEND_READY)
                reason = backend_is_busy(backend) ? "the TPM has a command already" : "the TPM is not open";
        else if (n_command < TPM_HEADER_SIZE || n_command > TPM_MESSAGE_MAX)
                reason = "a command of impossible size";

        if (reason) {
                g_set_error_literal(error, BACKEND_ERROR, BACKEND_ERROR_LOST, reason);
                backend_close(backend);
                return false;
        }
        backend_set_state(backend, BACKEND_BUSY);
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
        return backend_is_busy(backend) && backend->ops->cancel && backend->ops->cancel(backend);
}

void backend_opened(Backend *backend) {
        backend_set_state(backend, BACKEND_READY);
        if (backend->events)
                backend->events->opened(backend->userdata);
}

void backend_answered(Backend *backend, const uint8_t *response, size_t n_response) {
        if (backend_is_busy(backend)) /* else nobody asked, and the owner drops it */
                backend_set_state(backend, BACKEND_READY);
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
