/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/test-fake.h"

#include "backend/backend-internal.h"
#include "tpm/header.h"
#include "tpm/writer.h"

#include <string.h>

static void fake_open(Backend *backend) {
        Fake *fake = (Fake *)backend;

        fake->n_opens++;
        backend->localities = true;
        if (fake->refuse_open)
                backend_lose(backend, "refused");
        else if (!fake->slow_open)
                backend_opened(backend);
}

static void fake_close(Backend *backend) {
        Fake *fake = (Fake *)backend;

        g_clear_handle_id(&fake->idle, g_source_remove);
        fake->n_command = 0;
}

static bool fake_cancel(Backend *backend) {
        Fake *fake = (Fake *)backend;

        fake->n_cancels++;
        return fake->can_cancel;
}

static void fake_free(Backend *backend) {
}

static TPM2_CC fake_code(const Fake *fake) {
        TpmReader reader = TPM_READER(fake->command, fake->n_command);

        return tpm_read_header(&reader).code;
}

/* What belongs to the test: a code, and the tag of the command if it succeeds. */
static size_t answer_plainly(const Fake *fake, TSS2_RC rc, uint8_t *bytes, size_t size) {
        TpmWriter writer = TPM_WRITER(bytes, size);

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, rc);
        if (rc == TSS2_RC_SUCCESS)
                tpm_write_u8(&writer, fake->tag);
        return tpm_write_end(&writer);
}

static bool is_the_tests(TPM2_CC code) {
        return code == FAKE_SLOW || code == FAKE_LONG;
}

void fake_answer(Fake *fake, TSS2_RC rc) {
        static uint8_t bytes[TPM_MESSAGE_MAX];
        size_t n;

        if (rc != TSS2_RC_SUCCESS || is_the_tests(fake_code(fake)))
                n = answer_plainly(fake, rc, bytes, sizeof(bytes));
        else
                n = fake_tpm_run(fake->tpm, fake->command, fake->n_command, bytes, sizeof(bytes));
        fake->n_command = 0;
        backend_answered(&fake->backend, bytes, n);
}

void fake_lose(Fake *fake) {
        backend_lose(&fake->backend, "test");
}

static gboolean fake_idle(gpointer userdata) {
        Fake *fake = userdata;

        fake->idle = 0;
        fake_answer(fake, TSS2_RC_SUCCESS);
        return G_SOURCE_REMOVE;
}

static bool fake_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality,
                          GError **error) {
        Fake *fake = (Fake *)backend;
        TPM2_CC code;

        if (fake->refuse_transmit) {
                g_set_error_literal(error, BACKEND_ERROR, BACKEND_ERROR_LOST, "broken");
                return false;
        }
        assert_in_range(n_command, TPM_HEADER_SIZE, sizeof(fake->command));
        fake->n_command = n_command;
        memcpy(fake->command, command, n_command);
        fake->tag = command[n_command - 1];
        fake->locality = locality;
        code = fake_code(fake);
        if (fake->n_log < FAKE_LOG_MAX)
                fake->log[fake->n_log++] = code;
        if (!fake->mute && !is_the_tests(code))
                fake->idle = g_idle_add(fake_idle, fake);
        return true;
}

static const BackendOps fake_ops = {
        .open = fake_open,
        .close = fake_close,
        .transmit = fake_transmit,
        .cancel = fake_cancel,
        .free = fake_free,
};

unsigned fake_count(const Fake *fake, TPM2_CC code) {
        unsigned n = 0;

        for (unsigned i = 0; i < fake->n_log; i++)
                n += fake->log[i] == code;
        return n;
}

bool fake_waits(const Fake *fake) {
        return fake->n_command > 0 && !fake->idle;
}

size_t fake_command(uint8_t *bytes, TPM2_CC code, uint8_t tag) {
        TpmWriter writer = TPM_WRITER(bytes, 64);

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, code);
        tpm_write_u16(&writer, tag);
        return tpm_write_end(&writer);
}

gboolean bench_wake(gpointer userdata) {
        return G_SOURCE_CONTINUE;
}

void bench_settle(void) {
        unsigned n = 0;

        while (g_main_context_iteration(NULL, FALSE))
                assert_true(++n < 10000); /* something is ready for ever */
}

void bench_run_ms(unsigned ms) {
        gint64 end = g_get_monotonic_time() + (gint64)ms * 1000;

        bench_until(g_get_monotonic_time() >= end);
}

void bench_started(void *userdata, TSS2_RC rc, const char *detail) {
        Bench *bench = userdata;

        bench->started = rc;
        bench->n_started++;
}

void bench_begin_on(Bench *bench, uint32_t max_connections, const FakeTpmConfig *tpm_config) {
        const BrokerConfig config = {
                .limits = {
                        .spaces = max_connections,
                        .objects = 64,
                        .objects_per_space = 16,
                        .sessions_per_space = 4,
                        .abandoned = RM_NONE,
                },
                .max_connections = max_connections,
        };

        *bench = (Bench){ 0 };
        bench->fake.tpm = fake_tpm_new(tpm_config);
        assert_non_null(bench->fake.tpm);
        bench->loop = loop_new(NULL);
        assert_non_null(bench->loop);
        bench->fake.backend.ops = &fake_ops;
        bench->fake.backend.loop = bench->loop;
        bench->fake.backend.localities = true;
        bench->broker = broker_new(bench->loop, &bench->fake.backend, &config, NULL);
        assert_non_null(bench->broker);
}

void bench_begin(Bench *bench, uint32_t max_connections) {
        FakeTpmConfig tpm_config = FAKE_TPM_CONFIG;

        tpm_config.vendor_commands = 0;
        bench_begin_on(bench, max_connections, &tpm_config);
}

void bench_start(Bench *bench) {
        broker_start(bench->broker, bench_started, bench);
        bench_until(bench->n_started > 0);
        assert_int_equal(bench->started, TSS2_RC_SUCCESS);
        bench->fake.n_log = 0;
}

void bench_end(Bench *bench) {
        bench->broker = broker_free(bench->broker);
        bench->loop = loop_free(bench->loop);
        g_clear_handle_id(&bench->fake.idle, g_source_remove);
        bench->fake.tpm = fake_tpm_free(bench->fake.tpm);
}
