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
 * The one door to the TPM: a descriptor in the loop that carries one command and one answer at a time. Opening may
 * block, since it happens before the daemon serves anybody; nothing else does. A back end copies or sends what it is
 * given before it returns, and never changes it.
 *
 *      CLOSED  --backend_open()-->     READY
 *      READY   --backend_transmit()--> BUSY
 *      BUSY    --answer read whole-->  READY, then events->response()
 *      BUSY    --connection broken-->  CLOSED, then events->lost()
 *      READY   --connection broken-->  CLOSED, then events->lost()
 *      any     --backend_close()-->    CLOSED, silently
 */
typedef struct Backend Backend;

typedef enum BackendState {
        BACKEND_CLOSED,
        BACKEND_READY,
        BACKEND_BUSY,
} BackendState;

typedef struct BackendEvents {
        /* A whole answer: at least a header, and as long as its header says. Valid during the call only. */
        void (*response)(void *userdata, const uint8_t *response, size_t n_response);
        /* The connection is gone; an answer that was awaited does not come. @reason is one line for the log. */
        void (*lost)(void *userdata, const char *reason);
} BackendEvents;

typedef struct BackendOps {
        bool (*open)(Backend *backend, GError **error); /* blocking */
        void (*close)(Backend *backend);
        /* false: nothing, or not all, was sent and the back end is CLOSED now; events->lost() is not called for it */
        bool (*transmit)(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality, GError **error);
        bool (*cancel)(Backend *backend); /* NULL or false: cannot; true: asked, the answer comes as usual */
        void (*free)(Backend *backend);
} BackendOps;

struct Backend {
        const BackendOps *ops;
        Loop *loop;
        BackendState state;
        bool shared;     /* a chip that the kernel and others use too: keep slots free on it */
        bool localities; /* localities other than 0 can be set */
        const BackendEvents *events;
        void *userdata;
};

/**
 * backend_new() - make the back end for a TCTI configuration, closed
 * @conf: "swtpm:host=H,port=N" and "libtpms[:STATE-DIR]" are ours; everything else is a TCTI name for the helper
 * program
 *
 * Return: NULL with @error when @conf cannot name a back end: empty, or "tabrmd", which would be the daemon itself.
 */
Backend *backend_new(Loop *loop, const char *conf, GError **error);
Backend *backend_free(Backend *backend); /* takes NULL, returns NULL */

/* Who hears of answers; set once, before backend_open(). */
void backend_listen(Backend *backend, const BackendEvents *events, void *userdata);

bool backend_open(Backend *backend, GError **error); /* state CLOSED only */
void backend_close(Backend *backend);
bool backend_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality, GError **error);
bool backend_cancel(Backend *backend); /* state BUSY only */

#define BACKEND_ERROR (backend_error_quark())
GQuark backend_error_quark(void);
typedef enum BackendErrorCode {
        BACKEND_ERROR_CONF, /* the configuration makes no sense: EX_USAGE for the daemon */
        BACKEND_ERROR_OPEN, /* the TPM is not there, or refuses: EX_UNAVAILABLE */
        BACKEND_ERROR_LOST, /* it went away */
} BackendErrorCode;

#endif
