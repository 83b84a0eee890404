/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include "util/loop.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Back ends
 *
 * The one door to the TPM: a descriptor in the loop that carries one command and one answer at a time. No operation
 * blocks, including open. A back end copies or sends what it is given before it returns, and never changes it.
 * backend_new() in backend/backend-conf.h makes one.
 */
typedef struct Backend Backend;

/*
 * The state of a back end
 *
 *      CLOSED               --backend_open()-->      OPENING
 *      OPENING              --it is there-->         READY, then events->opened()
 *      OPENING              --it is not-->           CLOSED, then events->lost()
 *      READY                --backend_transmit()-->  BUSY
 *      BUSY                 --answer read whole-->   READY, then events->response()
 *      READY, BUSY          --connection broken-->   CLOSED, then events->lost()
 *      OPENING, READY, BUSY --backend_close()-->     CLOSED, silently
 */
typedef enum BackendState {
        BACKEND_CLOSED,
        BACKEND_OPENING,
        BACKEND_READY,
        BACKEND_BUSY,
} BackendState;

typedef struct BackendEvents {
        void (*opened)(void *userdata);
        /* A whole answer: at least a header, and as long as its header says. Valid during the call only. */
        void (*response)(void *userdata, const uint8_t *response, size_t n_response);
        /* The connection is gone, or was not to be had; an answer that was awaited does not come. @reason is one line
         * for the log. */
        void (*lost)(void *userdata, const char *reason);
} BackendEvents;

typedef struct BackendOps {
        void (*open)(Backend *backend); /* ends in backend_opened() or backend_lose(), maybe before it returns */
        void (*close)(Backend *backend);
        /* false: nothing, or not all, was sent and the back end is CLOSED now; events->lost() is not called for it */
        bool (*transmit)(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality, GError **error);
        bool (*cancel)(Backend *backend); /* NULL or false: cannot; true: asked, the answer comes as usual */
        void (*free)(Backend *backend);
} BackendOps;

struct Backend {
        const BackendOps *ops;
        Loop *loop;
        BackendState state; /* written by backend.c alone */
        bool shared;        /* a chip that the kernel and others use too: keep slots free on it */
        unsigned rest_ms;   /* longest time between two parts of an answer, where those come in parts */
        bool misconfigured; /* its configuration is a mistake, so that to open it again is of no use */
        bool localities;    /* localities other than 0 can be set; while it is not open, what was known last */
        const BackendEvents *events;
        void *userdata;
};

Backend *backend_free(Backend *backend); /* takes NULL, returns NULL */

/* Who hears of answers; set once, before backend_open(). */
void backend_listen(Backend *backend, const BackendEvents *events, void *userdata);

bool backend_is_open(const Backend *backend); /* READY or BUSY: the TPM is there */
bool backend_is_opening(const Backend *backend);
bool backend_is_busy(const Backend *backend); /* an answer is awaited */

void backend_open(Backend *backend); /* state CLOSED only; ends in an event, maybe before it returns */
void backend_close(Backend *backend);

/* The answer may come before this returns. Return: false with @error: it was not sent, or not whole, and the state is
 * CLOSED now; events->lost() is not called for it. */
bool backend_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality, GError **error);
bool backend_cancel(Backend *backend); /* state BUSY only */

#define BACKEND_ERROR (backend_error_quark())
GQuark backend_error_quark(void);
typedef enum BackendErrorCode {
        BACKEND_ERROR_CONF, /* the configuration makes no sense: EX_USAGE for the daemon */
        BACKEND_ERROR_LOST, /* the TPM went away */
} BackendErrorCode;

#endif
