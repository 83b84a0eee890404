/* SPDX-License-Identifier: BSD-2-Clause */
#include "fuzz.h"

#include "resmgr/capability.h"
#include "resmgr/report.h"
#include "test/lib/fake-tpm.h"
#include "test/lib/invariants.h"
#include "test/lib/tpm-commands.h"

/*
 * The resource manager on a TPM that lies. Clients, chores, pauses and cancels come from the input, and after each
 * thing sent a byte says how much of the answer is true. Whatever happens, the block stays whole, each answer to a
 * client is one, and nothing of another client's goes out; and once the lies stop, all that clients had can be cleaned
 * up.
 *
 * Input: sizes u8, then operations
 */
#define SPACES 4
#define PARKED 3
#define POOL 6

static const RmLimits limits = {
        .spaces = SPACES, .objects = 12, .objects_per_space = 5, .sessions_per_space = 5, .abandoned = 3
};

static Rm *rm;
static void *block;
static FakeTpm *tpm;
static Input input;
static bool honest;
static uint32_t spaces[SPACES]; /* RM_NONE: closed */
static RmJob *parked[PARKED];
static unsigned owner[PARKED];
static Message pool[POOL]; /* answers that held something worth presenting again */

static void check(void) {
        const char *broken = rm_invariant_broken(rm);

        if (broken)
                fprintf(stderr, "%s\n", broken);
        DEMAND(!broken);
}

static void check_reply(const RmJob *job, const RmOutput *output) {
        TpmReader reader = TPM_READER(output->bytes, output->n_bytes);
        TpmHeader header;

        if (!job->client)
                return;
        header = tpm_read_header(&reader);
        DEMAND(!reader.bad && header.size == output->n_bytes && header.code == output->rc);
}

static Message ask(const RmOutput *output) {
        Message answer;

        answer.n = fake_tpm_run(tpm, output->bytes, output->n_bytes, answer.bytes, sizeof(answer.bytes));
        return answer;
}

/* Return: false when no answer comes. */
static bool tell(uint8_t how, const RmOutput *output, Message *answer) {
        if (how >= 252)
                return false; /* not executed, either */
        if (how >= 228 && how < 236) {
                *answer = cmd_simple(input_u8(&input) << 8 | how);
                answer->bytes[TPM_HEADER_SIZE - 1] = input_u8(&input);
                return true;
        }
        *answer = ask(output);
        if (how >= 248 || answer->n == 0)
                return false;
        if (how >= 244) {
                answer->n = TPM_HEADER_SIZE + input_bytes(&input, answer->bytes + TPM_HEADER_SIZE, input_u8(&input));
        } else if (how >= 240) {
                answer->n = TPM_HEADER_SIZE + input_u8(&input) % (answer->n - TPM_HEADER_SIZE + 8);
        } else if (how >= 236) {
                answer->bytes[input_u8(&input) % answer->n] = input_u8(&input);
                return true;
        }
        tpm_put_u32(answer->bytes + 2, answer->n);
        return true;
}

/* Return: false when no answer comes. */
static bool make_answer(const RmOutput *output, Message *answer) {
        uint8_t how = honest ? 0 : input_u8(&input);

        return tell(how, output, answer);
}

static void keep(const Message *reply) {
        if (message_rc(reply) == TPM2_RC_SUCCESS && reply->n > TPM_HEADER_SIZE + 16)
                pool[reply->n % POOL] = *reply;
}

/* To its end, or to where it lends the TPM to others. Return: false when it was parked. */
static bool drive(RmJob *job, unsigned client) {
        RmOutput output;
        RmStep step = rm_job_step(rm, job, NULL, 0, &output);
        Message answer;

        for (unsigned n = 0;; n++) {
                check();
                DEMAND(n < 3 * RM_TRANSMITS_MAX);
                if (step == RM_STEP_REPLY) {
                        check_reply(job, &output);
                        answer.n = output.n_bytes;
                        memcpy(answer.bytes, output.bytes, output.n_bytes);
                        if (job->client)
                                keep(&answer);
                        return true;
                }
                if (step == RM_STEP_PAUSE) {
                        for (unsigned k = 0; output.yielding && !honest && k < PARKED; k++)
                                if (!parked[k]) {
                                        parked[k] = job;
                                        owner[k] = client;
                                        return false;
                                }
                        step = rm_job_step(rm, job, NULL, 0, &output);
                        continue;
                }
                if (output.own_command) {
                        const char *broken = rm_border_broken(rm, job->space, output.bytes, output.n_bytes);

                        if (broken)
                                fprintf(stderr, "%s\n", broken);
                        DEMAND(!broken);
                }
                if (make_answer(&output, &answer)) {
                        memset((uint8_t *)output.bytes, 0xA5, output.n_bytes);
                        step = rm_job_step(rm, job, answer.bytes, answer.n, &output);
                } else {
                        rm_job_lost(rm, job, &output);
                        step = RM_STEP_REPLY;
                }
        }
}

static TPM2_HANDLE any_handle(void) {
        static const TPM2_HANDLE kinds[] = { 0x80000000, 0x80000000, 0x80000000, 0x02000000,
                                             0x03000000, 0x81000000, 0x40000001, 0x80FFFFF8 };
        uint8_t which = input_u8(&input);

        return kinds[which >> 5] + (which & 7);
}

static Message any_auth(void) {
        const TestAuth auths[2] = { { any_handle(), input_u8(&input) }, { any_handle(), 1 } };

        return cmd_get_random_auth(4, auths, 1 + (auths[0].attributes & 2) / 2);
}

static Message any_command(void) {
        static const TPM2_CC with_handle[] = { TPM2_CC_FlushContext, TPM2_CC_ContextSave, TPM2_CC_ReadPublic,
                                               TPM2_CC_PolicyGetDigest, FAKE_CC_VENDOR_USE };
        uint8_t which = input_u8(&input);
        const Message *kept = &pool[which % POOL];

        switch (which % 20) {
        case 0:
        case 1:
                return cmd_create_primary(TPM2_RH_OWNER, which);
        case 2:
                return cmd_hash_start();
        case 3:
                return cmd_sequence_update(any_handle(), "abc");
        case 4:
                return cmd_sequence_complete(any_handle(), TPM2_RH_NULL);
        case 5:
        case 6:
                return cmd_start_session(which & 1 ? TPM2_SE_POLICY : TPM2_SE_HMAC);
        case 7:
        case 8:
        case 9:
                return cmd_with_handle(with_handle[input_u8(&input) % 5], any_handle());
        case 10:
        case 11:
                return kept->n > TPM_HEADER_SIZE
                               ? cmd_context_load(kept->bytes + TPM_HEADER_SIZE, kept->n - TPM_HEADER_SIZE)
                               : cmd_get_random(4);
        case 12:
                return cmd_certify(any_handle(), any_handle());
        case 13:
        case 14:
                return any_auth();
        case 15:
                return cmd_get_capability(input_u8(&input) & 7, any_handle(), input_u8(&input));
        case 16:
                return which & 32 ? cmd_clear() : cmd_hierarchy_control(TPM2_RH_OWNER, which >> 7);
        case 17:
                return cmd_startup(which & 64 ? TPM2_SU_CLEAR : TPM2_SU_STATE);
        case 18:
                return cmd_simple(FAKE_CC_VENDOR_MAKE);
        default:
                return cmd_hmac(any_handle(), "abc");
        }
}

static Message damaged(Message command) {
        uint8_t how = input_u8(&input);

        if (how >= 248)
                command.n = TPM_HEADER_SIZE + input_bytes(&input, command.bytes + TPM_HEADER_SIZE, input_u8(&input));
        else if (how >= 240)
                command.n = TPM_HEADER_SIZE + input_u8(&input) % (command.n - TPM_HEADER_SIZE + 1);
        else if (how >= 224)
                command.bytes[6 + input_u8(&input) % (command.n - 6)] = input_u8(&input);
        tpm_put_u32(command.bytes + 2, command.n);
        return command;
}

static bool has_job(unsigned client) {
        for (unsigned k = 0; k < PARKED; k++)
                if (parked[k] && owner[k] == client)
                        return true;
        return false;
}

static void run_command(unsigned client) {
        Message command = damaged(any_command());
        RmJob *job;

        if (spaces[client] == RM_NONE || has_job(client) || command.n > rm_max_command(rm))
                return;
        job = rm_job_begin(rm, spaces[client], command.bytes, command.n);
        if (job)
                drive(job, client);
}

static void run_parked(unsigned k, bool cancel) {
        RmJob *job = parked[k];
        RmOutput output;

        if (!job)
                return;
        parked[k] = NULL;
        if (cancel) {
                rm_job_cancel(rm, job, TPM2_RC_CANCELED, &output);
                check_reply(job, &output);
        } else {
                drive(job, owner[k]);
        }
}

static void close_space(unsigned client) {
        if (spaces[client] == RM_NONE || has_job(client))
                return;
        rm_space_close(rm, spaces[client]);
        spaces[client] = RM_NONE;
}

static void run_chore(RmChore chore, unsigned at_most) {
        RmJob *job;

        for (unsigned n = 0; n < at_most && (job = rm_job_begin_chore(rm, chore)); n++)
                drive(job, SPACES);
}

static void operate(void) {
        uint8_t what = input_u8(&input);
        unsigned client = what % SPACES;

        switch (what >> 2) {
        default:
                run_command(client);
                break;
        case 48 ... 51:
                run_parked(client % PARKED, what & 4);
                break;
        case 52 ... 57:
                run_chore(RM_CHORE_START + 1 + (what >> 2) % 6, 1 + client);
                break;
        case 58:
                close_space(client);
                break;
        case 59:
                if (spaces[client] == RM_NONE)
                        rm_space_open(rm, 1000 + client / 2, &spaces[client]);
                break;
        case 60:
                rm_forget_residents(rm);
                break;
        case 61:
                fake_tpm_reset(tpm);
                break;
        case 62:
                rm_set_reserve(rm, client, 3 - client % 4);
                break;
        }
        check();
}

static unsigned list(TPM2_HT type, TPM2_HANDLE *ret_handles, unsigned size) {
        unsigned n = 0, n_more;

        do {
                TPM2_HANDLE first = n > 0 ? (ret_handles[n - 1] & TPM2_HR_HANDLE_MASK) + 1 : 0;
                Message command = cmd_get_capability(TPM2_CAP_HANDLES, (uint32_t)type << 24 | first, size - n);
                Message answer;

                answer.n = fake_tpm_run(tpm, command.bytes, command.n, answer.bytes, sizeof(answer.bytes));
                n_more = message_handles(&answer, ret_handles + n, size - n);
                n += n_more;
        } while (n_more > 0 && n < size);
        return n;
}

/* Nothing is left over but sessions that were saved by clients that are gone. */
static void check_left_over(void) {
        TPM2_HANDLE handles[16];
        unsigned n = list(TPM2_HT_TRANSIENT, handles, 16);
        RmSessionReport session;
        RmReport report;
        uint32_t at = 0;

        rm_report(rm, &report);
        DEMAND(n == 0 && report.n_objects == 0);
        DEMAND(report.n_sessions[RM_LIVE] + report.n_sessions[RM_CLIENT_SAVED] == 0);
        n = list(TPM2_HT_LOADED_SESSION, handles, 16);
        while (rm_report_session(rm, &at, &session)) {
                DEMAND(session.state != RM_DOOMED);
                n -= session.loaded;
        }
        DEMAND(n == 0);
}

/* An honest TPM, and nobody who wants anything. */
static void finish(void) {
        honest = true;
        rm_retry(rm);
        for (unsigned k = 0; k < PARKED; k++)
                run_parked(k, false);
        for (unsigned i = 0; i < SPACES; i++)
                close_space(i);
        run_chore(RM_CHORE_START, 1); /* what it believes of the TPM may be a lie, too */
        run_chore(RM_CHORE_DUE, 64);
        run_chore(RM_CHORE_CLEANUP, 256);
        DEMAND(!rm_job_begin_chore(rm, RM_CHORE_DUE) && !rm_job_begin_chore(rm, RM_CHORE_CLEANUP));
        check_left_over();
}

static FakeTpmConfig config_of(uint8_t sizes) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        config.object_slots = 2 + (sizes & 3);
        config.session_slots = 2 + (sizes >> 2 & 1);
        config.active_sessions = sizes & 8 ? 6 : 12;
        config.gap = sizes & 16 ? 31 : 255;
        config.memory = sizes & 32 ? TPMA_MEMORY_OBJECTCOPIEDTORAM : 0;
        config.page = sizes & 64 ? 3 : 254;
        return config;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
        FakeTpmConfig config;
        size_t size = rm_size(&limits);

        input = (Input){ bytes, n_bytes, 0 };
        config = config_of(input_u8(&input));
        tpm = fake_tpm_new(&config);
        block = block ?: aligned_alloc(4096, size);
        DEMAND(tpm && block);
        memset(block, 0, size);
        rm = rm_init(block, &limits);
        DEMAND(rm);
        memset(parked, 0, sizeof(parked));
        memset(pool, 0, sizeof(pool));
        honest = true;
        run_chore(RM_CHORE_START, 1);
        honest = false;
        for (unsigned i = 0; i < SPACES; i++)
                if (rm_space_open(rm, 1000 + i / 2, &spaces[i]) != TSS2_RC_SUCCESS)
                        spaces[i] = RM_NONE;
        while (input_left(&input))
                operate();
        finish();
        tpm = fake_tpm_free(tpm);
        return 0;
}
