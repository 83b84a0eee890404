/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_TEST_RM_H
#define RESMGR_TEST_RM_H

/*
 * The resource manager with a TPM of the test's own: libtpms in this process, with three object slots, three session
 * slots and 64 sessions, or another in its place.
 *
 * Every command of every test is stopped between TPM and settlement, and it is checked that whatever claims to be
 * resident really is in the TPM; and what was transmitted is scribbled over before the job goes on.
 */
#include "resmgr/capability.h"
#include "resmgr/report.h"
#include "test/lib/inprocess.h"
#include "test/lib/tpm-commands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RC_HANDLE_P1 0x1CB

extern const RmLimits LIMITS;
extern Rm *rm;
extern void *block;
extern size_t n_block;
extern unsigned n_sent;  /* commands that reached the TPM */
extern unsigned n_saves; /* ... of sessions or objects */
extern unsigned n_pauses;
extern uint32_t spaces[8]; /* of the clients, of uid 1000 to 1007 */
extern bool check_claims;

/* Answers in the TPM's place when it returns true. */
extern bool (*intercept)(const Message *command, Message *ret_response);
extern uint64_t (*took)(TPM2_CC code); /* what the resource manager is told that a command took, in us; NULL: nothing */
extern size_t (*rm_test_tpm)(const uint8_t *command, size_t n_command, uint8_t *response, size_t size);

Message direct(Message command); /* past the resource manager */
unsigned tpm_count(TPM2_HT type);
bool tpm_lists(TPM2_HANDLE handle);
void assert_no_false_claim(void);

Message run(RmJob *job);    /* to its end */
void chores(RmChore chore); /* until there is nothing to do */

Message call(unsigned client, Message command);
Message succeed(unsigned client, Message command);
uint32_t rc_of(unsigned client, Message command);
TPM2_HANDLE handle_of(unsigned client, Message command);
Message load_context(const Message *saved);
unsigned count_handles(const Message *list, uint8_t *ret_more);

/* What it reports, see report.h. */
RmReport report(void);
unsigned n_sessions(void);                          /* of all kinds */
RmSessionReport session_report(TPM2_HANDLE handle); /* fails the test when there is no such session */
unsigned n_objects_of(unsigned client);

bool is_due(void);       /* whether RM_CHORE_DUE has work */
void doubt_tables(void); /* an answer is lost: the tables are to be compared with the TPM before the next command */

/* As if so many contexts of sessions had been saved: the context gap is too wide to be filled each time. */
void pretend_saves(uint64_t n);
void pretend_no_saves(void); /* as if the TPM had never given those numbers: its state was put back */

int rm_test_setup(void **state);
int rm_test_teardown(void **state);
int rm_test_setup_with(const RmLimits *limits); /* on rm_test_tpm, which is powered on */
void rm_test_restart(void);                     /* in the same block, as after a restart of the daemon */
void rm_test_close(void);

#define RM_TEST(f) cmocka_unit_test_setup_teardown(f, rm_test_setup, rm_test_teardown)

#endif
