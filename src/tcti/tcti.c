/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/conf.h"
#include "tcti/io.h"
#include "tcti/link.h"
#include "tcti/log.h"
#include "tcti/tss2/tss2-tcti-tabrmd.h"
#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/names.h"

#include <string.h>
#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tpm2_types.h>

#define MAGIC 0x1c8e03ff00db0f92ULL
#define VERSION 2

#define SIZE_END 6 /* of a header: tag and size */

/*
 * TRANSMIT --a command was taken-->     RECEIVE
 * RECEIVE  --the response was taken-->  TRANSMIT
 * RECEIVE  --what came is no response-> TRANSMIT
 * any      --finalize-->                FINAL
 *
 * ESYS gives up a context for good when a TCTI fails, so that a lost connection is no failure here: the response is
 * then one of our own, with the code that the daemon has for such a case, and the next command connects anew.
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
        bool told;                         /* that there is no connection; until there is a response again */
        size_t n_response;                 /* what has come of it */
        uint8_t response[TPM_MESSAGE_MAX]; /* kept, since a caller may come back with another buffer */
} Context;

#define EXPORT __attribute__((visibility("default")))

static Context *context_of(TSS2_TCTI_CONTEXT *tcti) {
        Context *context = (Context *)tcti;

        return context && context->common.v1.magic == MAGIC && context->common.v1.version == VERSION ? context : NULL;
}

static const char *where(const Context *context) {
        return context->link.by_bus ? context->conf.bus_name : context->conf.path;
}

/* Said once until the connection works again: a program may try for hours. */
#define TELL(context, ...)                                                                                             \
        do {                                                                                                           \
                if (!(context)->told)                                                                                  \
                        LOG(LOG_ERROR, __VA_ARGS__);                                                                   \
                (context)->told = true;                                                                                \
        } while (0)

static void forget_response(Context *context) {
        explicit_bzero(context->response, context->n_response);
        context->n_response = 0;
}

/* The response to the command that is under way. INITIALIZE: it was not executed. FAILURE: nobody knows. */
static void answer_ourselves(Context *context, TPM2_RC code) {
        TpmWriter writer = TPM_WRITER(context->response, TPM_HEADER_SIZE);

        forget_response(context);
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, RM_RC(code));
        context->n_response = tpm_write_end(&writer);
}

/*
 * A forked child has no part in its parent's connection, and hears nothing of a command that is under way there. Nor
 * does a program that has closed the connection's descriptor.
 */
static void make_ours(Context *context) {
        bool was_up = context->link.up, forked = !owner_is_us(&context->link.owner);

        if (!link_leave_to_others(&context->link))
                return;
        if (forked)
                context->told = false;
        else if (was_up)
                TELL(context, "%s: the program has closed the library's descriptor; what it had in the TPM is lost",
                     where(context));
        if (context->state == STATE_RECEIVE && was_up)
                answer_ourselves(context, TPM2_RC_FAILURE);
}

static bool connect_again(Context *context) {
        Why why = { 0 };

        if (context->link.up || link_open(&context->link, &context->conf, &why))
                return true;
        TELL(context, "%s", why.text);
        return false;
}

static void tell_end(Context *context, const char *consequence) {
        const char *first =
                "was closed before the first response (does the daemon's log say that a limit is reached? is "
                "it the daemon's socket?)";

        TELL(context, "%s: the connection %s; %s", where(context),
             context->link.hello == LINK_HELLO_DONE ? "has ended (was the daemon restarted?)" : first, consequence);
}

/* The connection has ended while a command was under way. */
static void lose_connection(Context *context, TPM2_RC code) {
        tell_end(context, code == TPM2_RC_INITIALIZE ? "the command was not executed" : "the response is lost");
        link_lose(&context->link);
        answer_ourselves(context, code);
}

static TSS2_RC tcti_transmit(TSS2_TCTI_CONTEXT *tcti, size_t size, const uint8_t *command) {
        TpmReader reader = TPM_READER(command, size);
        Context *context = context_of(tcti);

        if (!tcti || !command)
                return TSS2_TCTI_RC_BAD_REFERENCE;
        if (!context)
                return TSS2_TCTI_RC_BAD_CONTEXT;
        if (context->state != STATE_TRANSMIT)
                return TSS2_TCTI_RC_BAD_SEQUENCE;
        if (size < TPM_HEADER_SIZE || tpm_read_header(&reader).size != size)
                return TSS2_TCTI_RC_BAD_VALUE;
        make_ours(context);
        context->n_response = 0;
        context->state = STATE_RECEIVE;
        if (!connect_again(context))
                answer_ourselves(context, TPM2_RC_INITIALIZE);
        else if (link_send(&context->link, command, size) != IO_DONE)
                lose_connection(context, TPM2_RC_INITIALIZE);
        return TSS2_RC_SUCCESS;
}

/* What comes next on this connection cannot be told. */
static TSS2_RC break_off(Context *context) {
        TELL(context, "%s: what answers there is not tpm2-abrmd (give the path of the daemon's socket: socket=PATH)",
             where(context));
        link_lose(&context->link);
        forget_response(context);
        context->state = STATE_TRANSMIT;
        return TSS2_TCTI_RC_MALFORMED_RESPONSE;
}

/* Return: TSS2_RC_SUCCESS: there are @n bytes of the response, or there is one of our own. */
static TSS2_RC read_on(Context *context, size_t n, const IoDeadline *deadline) {
        IoResult result = link_read_greeting(&context->link, deadline);

        if (result == IO_DONE)
                result = io_read_on(context->link.fd, context->response, n, &context->n_response, deadline);
        switch (result) {
        case IO_DONE:
                return TSS2_RC_SUCCESS;
        case IO_TIMEOUT:
                return TSS2_TCTI_RC_TRY_AGAIN;
        case IO_MALFORMED:
                return break_off(context);
        default:
                lose_connection(context, TPM2_RC_FAILURE);
                return TSS2_RC_SUCCESS;
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
                return break_off(context);
        *ret_size = size;
        return TSS2_RC_SUCCESS;
}

static TSS2_RC tcti_receive(TSS2_TCTI_CONTEXT *tcti, size_t *size, uint8_t *response, int32_t timeout) {
        Context *context = context_of(tcti);
        IoDeadline deadline;
        size_t n = 0;
        TSS2_RC rc;

        if (!tcti || !size)
                return TSS2_TCTI_RC_BAD_REFERENCE;
        if (!context)
                return TSS2_TCTI_RC_BAD_CONTEXT;
        if (context->state != STATE_RECEIVE)
                return TSS2_TCTI_RC_BAD_SEQUENCE;
        if (timeout < TSS2_TCTI_TIMEOUT_BLOCK || (!response && *size != 0))
                return TSS2_TCTI_RC_BAD_VALUE;

        make_ours(context);
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

        *size = context->n_response; /* fewer than was announced, if the rest was lost */
        memcpy(response, context->response, *size);
        /* It may be what was unsealed, and the context may live long. */
        forget_response(context);
        context->state = STATE_TRANSMIT;
        if (context->link.up)
                context->told = false;
        return TSS2_RC_SUCCESS;
}

static void tcti_finalize(TSS2_TCTI_CONTEXT *tcti) {
        Context *context = context_of(tcti);

        if (!context || context->state == STATE_FINAL)
                return;
        link_close(&context->link);
        forget_response(context);
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
        make_ours(context);
        /* Without a connection, the response is there already. */
        return context->link.up ? link_cancel(&context->link) : TSS2_RC_SUCCESS;
}

static TSS2_RC tcti_get_poll_handles(TSS2_TCTI_CONTEXT *tcti, TSS2_TCTI_POLL_HANDLE *handles, size_t *n_handles) {
        Context *context = context_of(tcti);

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
        make_ours(context);
        if (context->link.fd < 0)
                return TSS2_TCTI_RC_NO_CONNECTION;
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
        make_ours(context);
        if (!connect_again(context))
                return TSS2_TCTI_RC_NO_CONNECTION;
        rc = link_set_locality(&context->link, locality);
        if (rc == TSS2_TCTI_RC_NO_CONNECTION)
                tell_end(context, "the locality was not set");
        return rc;
}

static TSS2_RC tcti_make_sticky(TSS2_TCTI_CONTEXT *tcti, TPM2_HANDLE *handle, uint8_t sticky) {
        return tcti ? TSS2_TCTI_RC_NOT_IMPLEMENTED : TSS2_TCTI_RC_BAD_REFERENCE;
}

EXPORT TSS2_RC Tss2_Tcti_Tabrmd_Init(TSS2_TCTI_CONTEXT *tcti, size_t *size, const char *conf_text) {
        Context *context = (Context *)tcti;
        Why why = { 0 };
        Conf conf;
        Link link;

        if (!size)
                return TSS2_TCTI_RC_BAD_VALUE;
        if (!tcti) {
                *size = sizeof(Context);
                return TSS2_RC_SUCCESS;
        }
        if (*size < sizeof(Context))
                return TSS2_TCTI_RC_BAD_VALUE;
        if (!conf_parse(conf_text, &conf, &why)) {
                LOG(LOG_ERROR, "configuration: %s", why.text);
                return TSS2_TCTI_RC_BAD_VALUE;
        }
        link_init(&link);
        if (!link_open(&link, &conf, &why)) {
                /* Without a configuration, the loader of tpm2-tss may only be looking for a TCTI that works. */
                LOG(why.absent ? LOG_WARNING : LOG_ERROR, "%s", why.text);
                link_close(&link);
                return TSS2_TCTI_RC_NO_CONNECTION;
        }

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
