/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_TEST_FAKE_H
#define BROKER_TEST_FAKE_H

#include "broker/broker.h"
#include "test/lib/fake-tpm.h"
#include "tpm/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/*
 * A back end with the fake TPM of test/lib, which answers in the next turn of the loop. A client's FAKE_SLOW and
 * FAKE_LONG never reach it: they wait until the test answers them.
 */
#define FAKE_SLOW TPM2_CC_GetRandom
#define FAKE_LONG TPM2_CC_SelfTest
#define FAKE_LOG_MAX 256
#define FAKE_HANG_SECONDS 20

typedef struct Fake {
        Backend backend;
        FakeTpm *tpm;
        bool refuse_open;
        bool slow_open; /* neither opens nor refuses by itself */
        bool refuse_transmit;
        bool can_cancel;
        bool mute; /* answers nothing by itself */

        unsigned n_opens;
        unsigned n_cancels;
        unsigned n_log;
        TPM2_CC log[FAKE_LOG_MAX]; /* command codes as they came */
        uint8_t tag;               /* last byte of the command that came last */
        uint8_t locality;
        guint idle;
        uint8_t command[TPM_MESSAGE_DEFAULT];
        size_t n_command;
} Fake;

/* A loop, the fake and a broker, started. */
typedef struct Bench {
        Loop *loop;
        Fake fake;
        Broker *broker;
        TSS2_RC started;
        unsigned n_started;
        unsigned n_stopped;
} Bench;

void bench_begin(Bench *bench, uint32_t max_connections);
void bench_begin_on(Bench *bench, uint32_t max_connections, const FakeTpmConfig *tpm_config);
void bench_start(Bench *bench);
void bench_started(void *userdata, TSS2_RC rc, const char *detail); /* for broker_start(), with the bench */
void bench_end(Bench *bench);

/* Run the loop until the condition holds; a test that hangs fails. */
#define bench_until(condition)                                                                                         \
        do {                                                                                                           \
                gint64 hang_ = g_get_monotonic_time() + FAKE_HANG_SECONDS * G_USEC_PER_SEC;                            \
                guint wake_ = g_timeout_add(50, bench_wake, NULL);                                                     \
                bool met_ = false;                                                                                     \
                while (!(met_ = (condition)) && g_get_monotonic_time() < hang_)                                        \
                        g_main_context_iteration(NULL, TRUE);                                                          \
                g_source_remove(wake_);                                                                                \
                assert_true(met_);                                                                                     \
        } while (0)
gboolean bench_wake(gpointer userdata);
void bench_settle(void);        /* run what is ready now */
void bench_run_ms(unsigned ms); /* run the loop for a while */
unsigned fake_count(const Fake *fake, TPM2_CC code);
bool fake_waits(const Fake *fake); /* a command waits for the test's answer */
void fake_answer(Fake *fake, TSS2_RC rc);
void fake_lose(Fake *fake); /* the connection to the TPM breaks */

/* A command of 12 bytes, whose last byte tells it from others. */
size_t fake_command(uint8_t *bytes, TPM2_CC code, uint8_t tag);

#endif
