/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_FORECAST_H
#define RESMGR_FORECAST_H

#include "resmgr/resmgr.h"

/*
 * Forecast: what waiting commands will need, and when, as far as the tables tell
 *
 * The caller decides which command is next. It asks here what each would have moved in the TPM, and says when the
 * others come, so that what they use is not taken out a moment before.
 */
typedef struct RmNeed {
        unsigned n_loads;   /* of objects and sessions that the command uses, and that are not in the TPM */
        unsigned n_flushes; /* of objects that have to leave for that, and for what the command makes */
        unsigned n_saves;   /* ... of sessions */
        bool takes_long;    /* it makes a key, or tests the TPM */
} RmNeed;

/* It takes about as long as parsing the command. All is 0 for a command that the TPM refuses. */
RmNeed rm_need(const Rm *rm, uint32_t space, const uint8_t *command, size_t n_command);

/* Return: how many spaces have an object or a session in the TPM; at most @max of them are written. */
unsigned rm_resident_spaces(const Rm *rm, uint32_t *ret_spaces, unsigned max);

/*
 * The client of a space comes after about @n_commands commands of others, with this command; NULL: with what it used
 * last. Holds for the next rm_job_begin().
 */
void rm_expect(Rm *rm, uint32_t space, const uint8_t *command, size_t n_command, uint64_t n_commands);

/* The space whose audit session is exclusive, as far as we know, or RM_NONE. */
uint32_t rm_audit_space(const Rm *rm);

#endif
