/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MANAGER_TRACE_H
#define MANAGER_TRACE_H

#include "broker/broker.h"

/*
 * Traces: commands, for those who watch
 *
 * Each subscriber has a socket of its own, from which it reads records (manager/record.h). Nobody waits for it: what
 * its socket has no room for is lost, and counted. While nobody listens, the broker is not asked for anything.
 */
typedef struct Traces Traces;

typedef struct TraceOptions {
        bool tpm;     /* the TPM's commands, too */
        bool payload; /* bodies, too */
} TraceOptions;

#define TRACES_MAX 4 /* subscribers at a time */

Traces *traces_new(Loop *loop, Broker *broker);
Traces *traces_free(Traces *traces); /* takes NULL, returns NULL */

/* Return: the subscriber's end of a new one, or -1 with @error. It ends when that is closed. */
int traces_open(Traces *traces, const TraceOptions *options, GError **error);

uint64_t traces_n_dropped(const Traces *traces); /* records, of all that ever were */

#endif
