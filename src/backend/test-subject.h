/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_TEST_SUBJECT_H
#define BACKEND_TEST_SUBJECT_H

#include "backend/backend.h"
#include "tpm/header.h"

#include <gio/gio.h>

/* What tests of back ends share: a back end with somebody who listens, and a swtpm of one's own. All of it asserts. */
typedef struct Subject {
        Loop *loop;
        Backend *backend;
        unsigned n_opened;
        unsigned n_answers;
        size_t n_answer;
        uint8_t answer[TPM_MESSAGE_MAX];
        char *lost; /* the reason */
        unsigned n_lost;
} Subject;

void subject_init(Subject *subject, const char *conf); /* closed */
void subject_open(Subject *subject, const char *conf);
void subject_fini(Subject *subject);
void subject_reopen(Subject *subject);   /* a closed one */
char *subject_refusal(Subject *subject); /* it does not open: why, which is one line */

/* Commands are hex without spaces; their size is put in. */
void subject_send(Subject *subject, const char *hex, uint8_t locality);
uint32_t subject_answer(Subject *subject); /* the next answer's code */
uint32_t subject_run(Subject *subject, const char *hex, uint8_t locality);
void subject_wait_lost(Subject *subject, const char *reason); /* which contains @reason */

typedef struct TestSwtpm {
        GPid pid;
        char *dir;
        char *path; /* NULL: TCP */
        char host[16];
        unsigned port;
} TestSwtpm;

bool test_swtpm_found(void);
void test_swtpm_start(TestSwtpm *swtpm, bool tcp);
char *test_swtpm_conf(const TestSwtpm *swtpm);
GSocketConnection *test_swtpm_ctrl(const TestSwtpm *swtpm); /* a control connection, or NULL */
void test_swtpm_kill(TestSwtpm *swtpm);                     /* and keep its place */
void test_swtpm_again(TestSwtpm *swtpm);                    /* at that place */
void test_swtpm_stop(TestSwtpm *swtpm);
int test_listen(TestSwtpm *ret_at);     /* on loopback, with the next port free; sets host and port */
void test_remove_dir(const char *path); /* with the files in it */

#define CMD_STARTUP "800100000000000001440000"
#define CMD_GET_RANDOM "8001000000000000017b0008"
#define CMD_FLUSH_80000000                                                                                             \
        "80010000000000000165"                                                                                         \
        "80000000"
#define CMD_STREAM_SET_LOCALITY_2                                                                                      \
        "80010000000020001000"                                                                                         \
        "02"
#define CMD_STREAM_CANCEL "80010000000020001001"
/* resettable at locality 2 and 4 */
#define CMD_PCR_RESET_20                                                                                               \
        "8002000000000000013d"                                                                                         \
        "00000014"                                                                                                     \
        "00000009"                                                                                                     \
        "40000009"                                                                                                     \
        "0000"                                                                                                         \
        "00"                                                                                                           \
        "0000"
#define CMD_CREATE_PRIMARY_                                                                                            \
        "800200000000"                                                                                                 \
        "00000131"
#define AUTH_EMPTY_                                                                                                    \
        "00000009"                                                                                                     \
        "40000009"                                                                                                     \
        "0000"                                                                                                         \
        "00"                                                                                                           \
        "0000"                                                                                                         \
        "0004"                                                                                                         \
        "0000"                                                                                                         \
        "0000"
#define CMD_CREATE_PRIMARY_RSA_NULL                                                                                    \
        CMD_CREATE_PRIMARY_ "40000007" AUTH_EMPTY_ "001a"                                                              \
                            "0001"                                                                                     \
                            "000b"                                                                                     \
                            "00030472"                                                                                 \
                            "0000"                                                                                     \
                            "0006"                                                                                     \
                            "0080"                                                                                     \
                            "0043"                                                                                     \
                            "0010"                                                                                     \
                            "0800"                                                                                     \
                            "00000000"                                                                                 \
                            "0000"                                                                                     \
                            "0000"                                                                                     \
                            "00000000"
#define CMD_CREATE_PRIMARY_ECC_OWNER                                                                                   \
        CMD_CREATE_PRIMARY_ "40000001" AUTH_EMPTY_ "001a"                                                              \
                            "0023"                                                                                     \
                            "000b"                                                                                     \
                            "00030472"                                                                                 \
                            "0000"                                                                                     \
                            "0006"                                                                                     \
                            "0080"                                                                                     \
                            "0043"                                                                                     \
                            "0010"                                                                                     \
                            "0003"                                                                                     \
                            "0010"                                                                                     \
                            "0000"                                                                                     \
                            "0000"                                                                                     \
                            "0000"                                                                                     \
                            "00000000"

#endif
