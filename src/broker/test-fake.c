/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/test-fake.h"

#include "backend/backend-internal.h"
#include "tpm/header.h"
#include "tpm/protocol.h"
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

static void write_capability(const Fake *fake, TpmWriter *writer) {
        static const uint32_t commands[] = { 0x12000131, 0x143,      0x144, 0x10000161, 0x02000162,
                                             0x165,      0x14000176, 0x17A, 0x17B };
        static const uint32_t properties[][2] = { { TPM2_PT_HR_TRANSIENT_MIN, 3 }, { TPM2_PT_HR_LOADED_MIN, 3 } };
        TpmReader reader = TPM_READER(fake->command, fake->n_command);
        uint32_t capability;

        tpm_read_header(&reader);
        capability = tpm_read_u32(&reader);
        tpm_write_u8(writer, 0);
        tpm_write_u32(writer, capability);
        if (capability == TPM2_CAP_COMMANDS) {
                tpm_write_u32(writer, G_N_ELEMENTS(commands));
                for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
                        tpm_write_u32(writer, commands[i]);
        } else if (capability == TPM2_CAP_TPM_PROPERTIES) {
                tpm_write_u32(writer, G_N_ELEMENTS(properties));
                for (size_t i = 0; i < G_N_ELEMENTS(properties); i++) {
                        tpm_write_u32(writer, properties[i][0]);
                        tpm_write_u32(writer, properties[i][1]);
                }
        } else {
                tpm_write_u32(writer, 0);
        }
}

static void write_context(const Fake *fake, TpmWriter *writer) {
        TpmReader reader = TPM_READER(fake->command, fake->n_command);
        TPM2_HANDLE handle;

        tpm_read_header(&reader);
        handle = tpm_read_u32(&reader);
        tpm_write_u64(writer, 1);
        tpm_write_u32(writer, handle >> TPM2_HR_SHIFT == TPM2_HT_TRANSIENT ? TPM2_TRANSIENT_FIRST : handle);
        tpm_write_u32(writer, TPM2_RH_OWNER);
        tpm_write_u16(writer, 4);
        tpm_write_u32(writer, 0xdecade);
}

void fake_answer(Fake *fake, TSS2_RC rc) {
        uint8_t bytes[256];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));
        TPM2_CC code = fake_code(fake);

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, rc);
        if (rc == TSS2_RC_SUCCESS && code == TPM2_CC_GetCapability) {
                write_capability(fake, &writer);
        } else if (rc == TSS2_RC_SUCCESS && code == TPM2_CC_CreatePrimary) {
                tpm_write_u32(&writer, 0x80000000 + fake->n_created++);
        } else if (rc == TSS2_RC_SUCCESS && code == TPM2_CC_ContextLoad) {
                tpm_write_u32(&writer, 0x80000000 + fake->n_created++);
        } else if (rc == TSS2_RC_SUCCESS && code == TPM2_CC_StartAuthSession) {
                tpm_write_u32(&writer, TPM2_POLICY_SESSION_FIRST + fake->n_started++);
                tpm_write_u16(&writer, 0);
        } else if (rc == TSS2_RC_SUCCESS && code == TPM2_CC_ContextSave) {
                write_context(fake, &writer);
        } else if (rc == TSS2_RC_SUCCESS && code == FAKE_SLOW) {
                tpm_write_u8(&writer, fake->tag);
        }
        fake->n_command = 0;
        backend_answered(&fake->backend, bytes, tpm_write_end(&writer));
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
        fake->n_command = MIN(n_command, sizeof(fake->command));
        memcpy(fake->command, command, fake->n_command);
        fake->tag = command[n_command - 1];
        fake->locality = locality;
        code = fake_code(fake);
        if (fake->n_log < FAKE_LOG_MAX)
                fake->log[fake->n_log++] = code;
        if (!fake->mute && code != FAKE_SLOW && code != FAKE_LONG)
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
        if (code == TPM2_CC_CreatePrimary)
                tpm_write_u32(&writer, TPM2_RH_OWNER);
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

void bench_begin(Bench *bench, uint32_t max_connections) {
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
        bench->loop = loop_new(NULL);
        assert_non_null(bench->loop);
        bench->fake.backend.ops = &fake_ops;
        bench->fake.backend.loop = bench->loop;
        bench->fake.backend.localities = true;
        bench->broker = broker_new(bench->loop, &bench->fake.backend, &config, NULL);
        assert_non_null(bench->broker);
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
}
