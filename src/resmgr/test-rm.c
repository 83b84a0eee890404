/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/test-rm.h"

#include "test/lib/invariants.h"

const RmLimits LIMITS = {
        .spaces = 16, .objects = 64, .objects_per_space = 12, .sessions_per_space = 40, .abandoned = RM_NONE
};

Rm *rm;
void *block;
size_t n_block;
unsigned n_sent;
unsigned n_saves;
unsigned n_pauses;
uint32_t spaces[8];
bool check_claims = true;

bool (*intercept)(const Message *command, Message *ret_response);
uint64_t (*took)(TPM2_CC code);
size_t (*rm_test_tpm)(const uint8_t *command, size_t n_command, uint8_t *response, size_t size) = inprocess_run;

/*
 * What pretend_saves() adds to the numbers that the TPM gives out, each time more, and takes off those that it gets.
 * The TPM itself has given out few.
 */
static uint64_t pretended[8];
static unsigned n_pretended;

/* Return: the number in a context of a session that begins there, or NULL. */
static uint8_t *number_of_session(Message *message) {
        TpmReader reader = TPM_READER(message->bytes, message->n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + sizeof(uint64_t));
        return tpm_handle_is_session(tpm_read_u32(&reader)) ? message->bytes + TPM_HEADER_SIZE : NULL;
}

static uint64_t message_number(const uint8_t *bytes) {
        TpmReader reader = TPM_READER(bytes, sizeof(uint64_t));

        return tpm_read_u64(&reader);
}

static void add_to_number(uint8_t *bytes, uint64_t n) {
        uint64_t number = message_number(bytes) + n;

        tpm_put_u32(bytes, number >> 32);
        tpm_put_u32(bytes + sizeof(uint32_t), (uint32_t)number);
}

Message direct(Message command) {
        uint32_t code = message_rc(&command);
        uint8_t *number = code == TPM2_CC_ContextLoad ? number_of_session(&command) : NULL;
        Message response;

        for (unsigned i = n_pretended; number && i > 0; i--)
                if (message_number(number) > pretended[i - 1]) {
                        add_to_number(number, -pretended[i - 1]);
                        break;
                }
        response.n = rm_test_tpm(command.bytes, command.n, response.bytes, sizeof(response.bytes));
        number = code == TPM2_CC_ContextSave ? number_of_session(&response) : NULL;
        if (number && n_pretended > 0)
                add_to_number(number, pretended[n_pretended - 1]);
        return response;
}

bool tpm_lists(TPM2_HANDLE handle) {
        bool session = handle >> TPM2_HR_SHIFT == TPM2_HT_POLICY_SESSION;
        Message list = direct(cmd_get_capability(TPM2_CAP_HANDLES, session ? handle ^ 0x01000000 : handle, 1));
        TpmReader reader = TPM_READER(list.bytes, list.n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 5);
        return tpm_read_u32(&reader) == 1 && tpm_read_u32(&reader) == handle;
}

unsigned tpm_count(TPM2_HT type) {
        Message list = direct(cmd_get_capability(TPM2_CAP_HANDLES, (uint32_t)type << TPM2_HR_SHIFT, 254));
        TpmReader reader = TPM_READER(list.bytes, list.n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 5);
        return tpm_read_u32(&reader);
}

void assert_no_false_claim(void) {
        assert_null(rm_claim_broken(rm, tpm_lists));
}

Message run(RmJob *job) {
        Message command, response;
        RmOutput output;
        RmStep step = rm_job_step(rm, job, NULL, 0, &output);
        TPM2_CC code;

        while (step != RM_STEP_REPLY) {
                if (step == RM_STEP_PAUSE) {
                        n_pauses++;
                        step = rm_job_step(rm, job, NULL, 0, &output);
                        continue;
                }
                command.n = output.n_bytes;
                memcpy(command.bytes, output.bytes, output.n_bytes);
                code = output.code;
                n_sent++;
                n_saves += output.code == TPM2_CC_ContextSave;
                if (!intercept || !intercept(&command, &response))
                        response = direct(command);
                if (check_claims)
                        assert_no_false_claim();
                assert_true(rm_invariant_broken(rm) == NULL);
                memset((uint8_t *)output.bytes, 0xA5, output.n_bytes);
                if (took)
                        rm_job_took(job, took(code));
                step = rm_job_step(rm, job, response.bytes, response.n, &output);
        }
        response.n = output.n_bytes;
        memcpy(response.bytes, output.bytes, output.n_bytes);
        return response;
}

void chores(RmChore chore) {
        RmJob *job;

        while ((job = rm_job_begin_chore(rm, chore)))
                run(job);
}

Message call(unsigned client, Message command) {
        RmJob *job;

        chores(RM_CHORE_DUE);
        job = rm_job_begin(rm, spaces[client], command.bytes, command.n);
        assert_non_null(job);
        return run(job);
}

Message succeed(unsigned client, Message command) {
        Message response = call(client, command);

        assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
        return response;
}

uint32_t rc_of(unsigned client, Message command) {
        Message response = call(client, command);

        return message_rc(&response);
}

TPM2_HANDLE handle_of(unsigned client, Message command) {
        Message response = succeed(client, command);

        return message_handle(&response);
}

RmReport report(void) {
        RmReport now;

        rm_report(rm, &now);
        return now;
}

unsigned n_sessions(void) {
        const RmReport now = report();
        unsigned n = 0;

        for (unsigned kind = 0; kind < RM_STATES; kind++)
                n += now.n_sessions[kind];
        return n;
}

RmSessionReport session_report(TPM2_HANDLE handle) {
        RmSessionReport found = { .handle = 0 }, session;
        uint32_t at = 0;

        while (rm_report_session(rm, &at, &session))
                if (session.handle == handle)
                        found = session;
        assert_int_equal(found.handle, handle);
        return found;
}

unsigned n_objects_of(unsigned client) {
        uint32_t n, n_of_sessions;

        rm_report_space(rm, spaces[client], &n, &n_of_sessions);
        return n;
}

bool is_due(void) {
        RmJob *job = rm_job_begin_chore(rm, RM_CHORE_DUE);
        RmOutput output;

        if (job)
                rm_job_cancel(rm, job, TPM2_RC_CANCELED, &output);
        return job != NULL;
}

void doubt_tables(void) {
        const Message command = cmd_get_random(4);
        RmJob *job = rm_job_begin(rm, spaces[7], command.bytes, command.n);
        RmOutput output;

        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        rm_job_lost(rm, job, &output);
        assert_true(is_due());
}

void pretend_saves(uint64_t n) {
        assert_in_range(n_pretended, 0, 7);
        pretended[n_pretended] = n + (n_pretended > 0 ? pretended[n_pretended - 1] : 0);
        n_pretended++;
        rm->numbers[RM_SESSION].newest += n;
}

void pretend_no_saves(void) {
        n_pretended = 0;
}

Message load_context(const Message *saved) {
        return cmd_context_load(saved->bytes + TPM_HEADER_SIZE, saved->n - TPM_HEADER_SIZE);
}

static void start(const RmLimits *limits) {
        memset(block, 0, n_block);
        rm = rm_init(block, limits);
        run(rm_job_begin_chore(rm, RM_CHORE_START));
        for (unsigned i = 0; i < 8; i++)
                rm_space_open(rm, 1000 + i, &spaces[i]);
}

int rm_test_setup_with(const RmLimits *limits) {
        n_block = rm_size(limits);
        block = aligned_alloc(4096, n_block);
        if (!block)
                return -1;
        intercept = NULL;
        took = NULL;
        check_claims = true;
        n_pretended = 0;
        start(limits);
        n_sent = n_saves = n_pauses = 0;
        return 0;
}

void rm_test_restart(void) {
        start(&LIMITS);
}

int rm_test_setup(void **state) {
        rm_test_tpm = inprocess_run;
        inprocess_start();
        return rm_test_setup_with(&LIMITS);
}

void rm_test_close(void) {
        intercept = NULL;
        for (unsigned i = 0; i < 8; i++)
                rm_space_close(rm, spaces[i]);
        chores(RM_CHORE_DUE);
        chores(RM_CHORE_CLEANUP);
        /* Whatever a test did: nothing of it is left loaded. */
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        assert_int_equal(report().n_objects_loaded, 0);
        free(block);
}

int rm_test_teardown(void **state) {
        rm_test_close();
        inprocess_stop();
        return 0;
}

unsigned count_handles(const Message *list, uint8_t *ret_more) {
        TpmReader reader = TPM_READER(list->bytes, list->n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE);
        *ret_more = tpm_read_u8(&reader);
        tpm_read_u32(&reader);
        return tpm_read_u32(&reader);
}
