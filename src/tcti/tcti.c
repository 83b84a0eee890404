/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/conf.h"
#include "tcti/io.h"
#include "tcti/link.h"
#include "tcti/tss2/tss2-tcti-tabrmd.h"
#include "tpm/header.h"
#include "util/names.h"

#include <string.h>
#include <tss2/tss2_tcti.h>

#define MAGIC 0x1c8e03ff00db0f92ULL
#define VERSION 2

#define SIZE_END 6 /* of a header: tag and size */

/*
 * TRANSMIT --a command was sent-->       RECEIVE
 * RECEIVE  --the response was taken-->   TRANSMIT
 * RECEIVE  --the connection is broken--> TRANSMIT
 * any      --finalize-->                 FINAL
 */
typedef enum State {
        STATE_TRANSMIT,
        STATE_RECEIVE,
        STATE_FINAL,
} State;

typedef struct Context {
        TSS2_TCTI_CONTEXT_COMMON_V2 common; /* first: what applications see */
        State state;
        Conf conf;
        Link link;
        size_t n_response;                 /* what has come of it */
        uint8_t response[TPM_MESSAGE_MAX]; /* kept, since a caller may come back with another buffer */
} Context;

#define EXPORT __attribute__((visibility("default")))

static Context *context_of(TSS2_TCTI_CONTEXT *tcti) {
        Context *context = (Context *)tcti;

        return context && context->common.v1.magic == MAGIC && context->common.v1.version == VERSION ? context : NULL;
}

/* A forked child has no part in its parent's connection: it gets its own. */
static TSS2_RC make_ours(Context *context) {
        Link link;
        TSS2_RC rc;

        if (link_is_ours(&context->link))
                return context->link.fd >= 0 ? TSS2_RC_SUCCESS : TSS2_TCTI_RC_NO_CONNECTION;
        link_close(&context->link);
        rc = link_open(&link, &context->conf);
        if (rc == TSS2_RC_SUCCESS)
                context->link = link; /* else it stays the parent's, and the next command tries again */
        return rc;
}

static TSS2_RC tcti_transmit(TSS2_TCTI_CONTEXT *tcti, size_t size, const uint8_t *command) {
        TpmReader reader = TPM_READER(command, size);
        Context *context = context_of(tcti);
        TSS2_RC rc;

        if (!tcti || !command)
                return TSS2_TCTI_RC_BAD_REFERENCE;
        if (!context)
                return TSS2_TCTI_RC_BAD_CONTEXT;
        if (context->state != STATE_TRANSMIT)
                return TSS2_TCTI_RC_BAD_SEQUENCE;
        if (size < TPM_HEADER_SIZE || tpm_read_header(&reader).size != size)
                return TSS2_TCTI_RC_BAD_VALUE;
        rc = make_ours(context);
        if (rc != TSS2_RC_SUCCESS)
                return rc;

        switch (link_send(&context->link, command, size)) {
        case IO_DONE:
                context->n_response = 0;
                context->state = STATE_RECEIVE;
                return TSS2_RC_SUCCESS;
        case IO_GONE:
                link_close(&context->link);
                return TSS2_TCTI_RC_NO_CONNECTION;
        default:
                link_close(&context->link);
                return TSS2_TCTI_RC_IO_ERROR;
        }
}

/* The stream is of no use any more: what comes next on it cannot be told. */
static TSS2_RC break_off(Context *context, TSS2_RC rc) {
        link_close(&context->link);
        explicit_bzero(context->response, context->n_response);
        context->n_response = 0;
        context->state = STATE_TRANSMIT;
        return rc;
}

static TSS2_RC read_on(Context *context, size_t n, const IoDeadline *deadline) {
        IoResult result = link_read_greeting(&context->link, deadline);

        if (result == IO_DONE)
                result = io_read_on(context->link.fd, context->response, n, &context->n_response, deadline);
        switch (result) {
        case IO_DONE:
                return TSS2_RC_SUCCESS;
        case IO_TIMEOUT:
                return TSS2_TCTI_RC_TRY_AGAIN;
        case IO_GONE:
                return break_off(context, TSS2_TCTI_RC_NO_CONNECTION);
        default:
                return break_off(context, TSS2_TCTI_RC_IO_ERROR);
        }
}

/*
 * Wait for the size. No more than that is read: what follows stays in the socket, so that who polls it after asking for
 * the size sees that there is a response.
 */
static TSS2_RC read_size(Context *context, size_t *ret_size, const IoDeadline *deadline) {
        TpmReader reader = TPM_READER(context->response, SIZE_END);
        TSS2_RC rc = TSS2_RC_SUCCESS;
        uint32_t size;

        if (context->n_response < SIZE_END)
                rc = read_on(context, SIZE_END, deadline);
        if (rc != TSS2_RC_SUCCESS)
                return rc;
        (void)tpm_read_u16(&reader);
        size = tpm_read_u32(&reader);
        if (size < TPM_HEADER_SIZE || size > sizeof(context->response))
                return break_off(context, TSS2_TCTI_RC_MALFORMED_RESPONSE);
        *ret_size = size;
        return TSS2_RC_SUCCESS;
}

static TSS2_RC tcti_receive(TSS2_TCTI_CONTEXT *tcti, size_t *size, uint8_t *response, int32_t timeout) {
        Context *context = context_of(tcti);
        IoDeadline deadline;
        size_t n;
        TSS2_RC rc;

        if (!tcti || !size)
                return TSS2_TCTI_RC_BAD_REFERENCE;
        if (!context)
                return TSS2_TCTI_RC_BAD_CONTEXT;
        if (context->state != STATE_RECEIVE)
                return TSS2_TCTI_RC_BAD_SEQUENCE;
        if (timeout < TSS2_TCTI_TIMEOUT_BLOCK || (!response && *size != 0))
                return TSS2_TCTI_RC_BAD_VALUE;
        if (!link_is_ours(&context->link))
                return break_off(context, TSS2_TCTI_RC_NO_CONNECTION);

        deadline = io_deadline(timeout);
        rc = read_size(context, &n, &deadline);
        if (rc != TSS2_RC_SUCCESS)
                return rc;
        if (!response || *size < n) {
                rc = response ? TSS2_TCTI_RC_INSUFFICIENT_BUFFER : TSS2_RC_SUCCESS;
                *size = n;
                return rc;
        }
        if (context->n_response < n)
                rc = read_on(context, n, &deadline);
        if (rc != TSS2_RC_SUCCESS)
                return rc;

        memcpy(response, context->response, n);
        *size = n;
        /* It may be what was unsealed, and the context may live long. */
        explicit_bzero(context->response, n);
        context->n_response = 0;
        context->state = STATE_TRANSMIT;
        return TSS2_RC_SUCCESS;
}

static void tcti_finalize(TSS2_TCTI_CONTEXT *tcti) {
        Context *context = context_of(tcti);

        if (!context || context->state == STATE_FINAL)
                return;
        link_close(&context->link);
        explicit_bzero(context->response, context->n_response);
        context->state = STATE_FINAL;
}

static TSS2_RC tcti_cancel(TSS2_TCTI_CONTEXT *tcti) {
        Context *context = context_of(tcti);

        if (!tcti)
                return TSS2_TCTI_RC_BAD_REFERENCE;
        if (!context)
                return TSS2_TCTI_RC_BAD_CONTEXT;
        if (context->state != STATE_RECEIVE)
                return TSS2_TCTI_RC_BAD_SEQUENCE;
        if (!link_is_ours(&context->link))
                return break_off(context, TSS2_TCTI_RC_NO_CONNECTION);
        return link_cancel(&context->link);
}

static TSS2_RC tcti_get_poll_handles(TSS2_TCTI_CONTEXT *tcti, TSS2_TCTI_POLL_HANDLE *handles, size_t *n_handles) {
        Context *context = context_of(tcti);
        TSS2_RC rc;

        if (!tcti || !n_handles)
                return TSS2_TCTI_RC_BAD_REFERENCE;
        if (!context)
                return TSS2_TCTI_RC_BAD_CONTEXT;
        if (context->state == STATE_FINAL)
                return TSS2_TCTI_RC_BAD_SEQUENCE;
        if (!handles) {
                *n_handles = 1;
                return TSS2_RC_SUCCESS;
        }
        if (*n_handles < 1)
                return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
        if (context->state == STATE_RECEIVE && !link_is_ours(&context->link))
                return break_off(context, TSS2_TCTI_RC_NO_CONNECTION);
        rc = make_ours(context);
        if (rc != TSS2_RC_SUCCESS)
                return rc;
        *n_handles = 1;
        handles[0] = (TSS2_TCTI_POLL_HANDLE){ .fd = context->link.fd, .events = POLLIN };
        return TSS2_RC_SUCCESS;
}

static TSS2_RC tcti_set_locality(TSS2_TCTI_CONTEXT *tcti, uint8_t locality) {
        Context *context = context_of(tcti);
        TSS2_RC rc;

        if (!tcti)
                return TSS2_TCTI_RC_BAD_REFERENCE;
        if (!context)
                return TSS2_TCTI_RC_BAD_CONTEXT;
        if (context->state != STATE_TRANSMIT)
                return TSS2_TCTI_RC_BAD_SEQUENCE;
        rc = make_ours(context);
        return rc == TSS2_RC_SUCCESS ? link_set_locality(&context->link, locality) : rc;
}

static TSS2_RC tcti_make_sticky(TSS2_TCTI_CONTEXT *tcti, TPM2_HANDLE *handle, uint8_t sticky) {
        return tcti ? TSS2_TCTI_RC_NOT_IMPLEMENTED : TSS2_TCTI_RC_BAD_REFERENCE;
}

EXPORT TSS2_RC Tss2_Tcti_Tabrmd_Init(TSS2_TCTI_CONTEXT *tcti, size_t *size, const char *conf_text) {
        Context *context = (Context *)tcti;
        Conf conf;
        Link link;
        TSS2_RC rc;

        if (!size)
                return TSS2_TCTI_RC_BAD_VALUE;
        if (!tcti) {
                *size = sizeof(Context);
                return TSS2_RC_SUCCESS;
        }
        if (*size < sizeof(Context) || !conf_parse(conf_text, &conf))
                return TSS2_TCTI_RC_BAD_VALUE;
        rc = link_open(&link, &conf);
        if (rc != TSS2_RC_SUCCESS)
                return rc;

        *context = (Context){
                .common = {
                        .v1 = {
                                .magic = MAGIC,
                                .version = VERSION,
                                .transmit = tcti_transmit,
                                .receive = tcti_receive,
                                .finalize = tcti_finalize,
                                .cancel = tcti_cancel,
                                .getPollHandles = tcti_get_poll_handles,
                                .setLocality = tcti_set_locality,
                        },
                        .makeSticky = tcti_make_sticky,
                },
                .state = STATE_TRANSMIT,
                .conf = conf,
                .link = link,
        };
        return TSS2_RC_SUCCESS;
}

EXPORT const TSS2_TCTI_INFO *Tss2_Tcti_Info(void);

EXPORT const TSS2_TCTI_INFO *Tss2_Tcti_Info(void) {
        static const TSS2_TCTI_INFO INFO = {
                .version = VERSION,
                .name = "tcti-abrmd",
                .description = "TCTI module for tpm2-abrmd, the TPM2 access broker and resource manager",
                .config_help = "socket=PATH, or bus_type=session|system and bus_name=NAME, separated by a comma. "
                               "By default the socket " TABRMD_SOCKET_PATH ", else the system bus.",
                .init = Tss2_Tcti_Tabrmd_Init,
        };

        return &INFO;
}
