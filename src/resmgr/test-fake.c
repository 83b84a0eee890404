/* SPDX-License-Identifier: BSD-2-Clause */

/* What libtpms cannot be: other sizes, a narrow context gap, vendor commands, storms; see test-rm.h and fake-tpm.h. */
#include "resmgr/test-rm.h"
#include "test/lib/fake-tpm.h"

#if defined(__SANITIZE_ADDRESS__)
#define RUNNING_ON_SANITIZERS 1
#elif defined(__has_feature)
#define RUNNING_ON_SANITIZERS __has_feature(address_sanitizer)
#else
#define RUNNING_ON_SANITIZERS 0
#endif

static FakeTpm *tpm;

static size_t run_fake(const uint8_t *command, size_t n_command, uint8_t *response, size_t size) {
        return fake_tpm_run(tpm, command, n_command, response, size);
}

static void start_with(FakeTpmConfig config) {
        tpm = fake_tpm_new(&config);
        assert_non_null(tpm);
        rm_test_tpm = run_fake;
        assert_int_equal(rm_test_setup_with(&LIMITS), 0);
}

static void stop(void) {
        rm_test_close();
        tpm = fake_tpm_free(tpm);
}

static Message read_public(unsigned client, TPM2_HANDLE handle) {
        return succeed(client, cmd_with_handle(TPM2_CC_ReadPublic, handle));
}

/* X1, F24: vendor commands get their handles mapped, wherever in the list of commands they stand. */
static void test_x1_f24_vendor_commands_beyond_one_page(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        TPM2_HANDLE a, b;
        Message first, second;

        config.page = 20;
        config.vendor_commands = 60;
        start_with(config);
        assert_true(rm_implements(rm, FAKE_CC_VENDOR_USE));
        assert_true(rm_implements(rm, FAKE_CC_VENDOR_MORE + 50));
        a = handle_of(0, cmd_simple(FAKE_CC_VENDOR_MAKE));
        b = handle_of(1, cmd_simple(FAKE_CC_VENDOR_MAKE));
        assert_int_equal(a, 0x80000000);
        assert_int_equal(b, 0x80000000);
        for (unsigned i = 0; i < 3; i++) /* out of the slots with them */
                handle_of(2, cmd_create_primary(TPM2_RH_OWNER, i));
        first = succeed(0, cmd_with_handle(FAKE_CC_VENDOR_USE, a));
        second = succeed(1, cmd_with_handle(FAKE_CC_VENDOR_USE, b));
        assert_int_equal(first.n, second.n);
        assert_memory_not_equal(first.bytes, second.bytes, first.n);
        assert_int_equal(rc_of(3, cmd_with_handle(FAKE_CC_VENDOR_USE, a)), 0xB0910);
        stop();
}

/* What passes between resource manager and TPM for a command that is repeated. */
typedef struct Exchange {
        Message request;
        Message answer; /* of the TPM, which is asked once; n == 0: it was not yet */
} Exchange;

/* Runs a command of the first client that must reach the TPM as it did before. Return: the handle in the reply */
static TPM2_HANDLE repeat(Exchange *exchange, const Message *command) {
        RmOutput output;
        RmJob *job = rm_job_begin(rm, spaces[0], command->bytes, command->n);
        TpmReader reply;

        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        if (exchange->answer.n == 0) {
                Message *answer = &exchange->answer;

                memcpy(exchange->request.bytes, output.bytes, output.n_bytes);
                exchange->request.n = output.n_bytes;
                answer->n = run_fake(output.bytes, output.n_bytes, answer->bytes, sizeof(answer->bytes));
        }
        assert_int_equal(output.n_bytes, exchange->request.n);
        assert_true(memcmp(output.bytes, exchange->request.bytes, output.n_bytes) == 0);
        assert_int_equal(rm_job_step(rm, job, exchange->answer.bytes, exchange->answer.n, &output), RM_STEP_REPLY);
        assert_int_equal(output.rc, TPM2_RC_SUCCESS);
        reply = TPM_READER(output.bytes, output.n_bytes);
        tpm_read_bytes(&reply, TPM_HEADER_SIZE);
        return tpm_read_u32(&reply);
}

/*
 * F25: 2^24 objects on one connection. The resource manager sees all of them; the TPM makes the first one, and its
 * answers are repeated: they would be the same, and take more than half of the time.
 */
static void test_f25_handle_values_never_run_out(void **state) {
        TPM2_HANDLE first;
        unsigned n = RUNNING_ON_SANITIZERS ? 1u << 18 : 1u << 24;
        const Message create = cmd_create_primary(TPM2_RH_OWNER, 1);
        Exchange created = { 0 }, flushed = { 0 };
        Message flush;

        start_with(FAKE_TPM_CONFIG);
        check_claims = false;
        first = handle_of(0, create);
        flush = cmd_with_handle(TPM2_CC_FlushContext, first + 1);
        for (unsigned i = 0; i < n; i++) {
                assert_int_equal(repeat(&created, &create), first + 1);
                repeat(&flushed, &flush);
        }
        read_public(0, first);
        stop();
}

static void test_s17_gap_of_255(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        TPM2_HANDLE idle, busy[5];
        Message saved;

        config.gap = 255;
        start_with(config);
        idle = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, handle_of(0, cmd_start_session(TPM2_SE_HMAC))));
        for (unsigned i = 0; i < 5; i++)
                busy[i] = handle_of(1, cmd_start_session(TPM2_SE_POLICY));
        for (unsigned i = 0; n_saves < 2000; i++) {
                succeed(1, cmd_with_handle(TPM2_CC_PolicyGetDigest, busy[i % 5]));
                if (i % 1000 >= 500) /* half of the time, there is idle time */
                        chores(RM_CHORE_RENEW);
        }
        succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, idle));
        succeed(0, load_context(&saved));
        stop();
}

static void test_two_to_seven_slots(void **state) {
        for (unsigned n_slots = 2; n_slots <= 7; n_slots++) {
                FakeTpmConfig config = FAKE_TPM_CONFIG;
                Message names[9];

                config.object_slots = config.session_slots = n_slots;
                start_with(config);
                for (unsigned i = 0; i < 9; i++) {
                        names[i] = read_public(i % 4, handle_of(i % 4, cmd_create_primary(TPM2_RH_OWNER, i)));
                        handle_of(i % 4, cmd_start_session(TPM2_SE_POLICY));
                }
                for (unsigned round = 0; round < 4; round++)
                        for (unsigned i = 0; i < 9; i++) {
                                Message name = read_public(i % 4, 0x80000000 + i / 4);

                                assert_memory_equal(name.bytes, names[i].bytes, name.n);
                                succeed(i % 4, cmd_with_handle(TPM2_CC_PolicyGetDigest, TPM2_HR_POLICY_SESSION | i));
                        }
                assert_int_equal(report().object_slots, n_slots);
                assert_int_equal(report().session_slots, n_slots);
                stop();
        }
}

static void test_many_sessions(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;
        unsigned n = 0;

        config.active_sessions = 200;
        start_with(config);
        rm->limits.sessions_per_space = 200;
        while (rc_of(0, cmd_start_session(TPM2_SE_HMAC)) == TPM2_RC_SUCCESS)
                n++;
        assert_int_equal(n, 200 - 200 / 8);
        for (unsigned i = 0; i < 200 / 8 - 6; i++) /* but for those kept for root */
                handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        assert_int_equal(rc_of(1, cmd_start_session(TPM2_SE_HMAC)), RM_RC(TPM2_RC_SESSION_HANDLES));
        stop();
}

/* Every command of ours and of the client's is answered RETRY a few times, over and over. */
static void test_storm_of_retries(void **state) {
        Message names[6];

        start_with(FAKE_TPM_CONFIG);
        for (unsigned i = 0; i < 6; i++)
                names[i] = read_public(i % 3, handle_of(i % 3, cmd_create_primary(TPM2_RH_OWNER, i)));
        for (unsigned i = 0; i < 60; i++) {
                const FakeFault storm = { .kind = FAKE_RC,
                                          .rc = (TPM2_RC[]){ TPM2_RC_RETRY, TPM2_RC_YIELDED, TPM2_RC_TESTING }[i % 3],
                                          .after = i % 4,
                                          .count = 3 };
                Message name;

                assert_true(fake_tpm_inject(tpm, &storm));
                check_claims = false; /* its questions would get the answers */
                name = read_public(i % 3, 0x80000000 + i % 6 / 3);
                fake_tpm_heal(tpm);
                check_claims = true;
                assert_memory_equal(name.bytes, names[i % 6].bytes, name.n);
        }
        stop();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_x1_f24_vendor_commands_beyond_one_page),
                cmocka_unit_test(test_f25_handle_values_never_run_out),
                cmocka_unit_test(test_s17_gap_of_255),
                cmocka_unit_test(test_two_to_seven_slots),
                cmocka_unit_test(test_many_sessions),
                cmocka_unit_test(test_storm_of_retries),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
