/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/world.h"

#include "test/lib/fake-chips.h"
#include "test/lib/invariants.h"
#include "test/worlds/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 500 /* of one job: the longest there is has some twenty */

const Fault FAULTS[] = {
        { "", FAULT_NONE, 0 },
        { "OBJECT_MEMORY", FAULT_WARNING, TPM2_RC_OBJECT_MEMORY },
        { "OBJECT_HANDLES", FAULT_WARNING, TPM2_RC_OBJECT_HANDLES },
        { "SESSION_MEMORY", FAULT_WARNING, TPM2_RC_SESSION_MEMORY },
        { "SESSION_HANDLES", FAULT_WARNING, TPM2_RC_SESSION_HANDLES },
        { "MEMORY", FAULT_WARNING, TPM2_RC_MEMORY },
        { "CONTEXT_GAP", FAULT_WARNING, TPM2_RC_CONTEXT_GAP },
        { "RETRY", FAULT_WARNING, TPM2_RC_RETRY },
        { "YIELDED", FAULT_WARNING, TPM2_RC_YIELDED },
        { "TESTING", FAULT_WARNING, TPM2_RC_TESTING },
        { "NV_RATE", FAULT_REFUSAL, TPM2_RC_NV_RATE },
        { "FAILURE", FAULT_REFUSAL, TPM2_RC_FAILURE },
        { "INITIALIZE", FAULT_RESET, TPM2_RC_INITIALIZE },
        { "lost-before", FAULT_LOST_BEFORE, 0 },
        { "lost-after", FAULT_LOST_AFTER, 0 },
};
const unsigned N_FAULTS = sizeof(FAULTS) / sizeof(FAULTS[0]);

World world;

static const RmLimits LIMITS = {
        .spaces = CLIENTS,
        .objects = 4 * OBJECTS,
        .objects_per_space = OBJECTS,
        .sessions_per_space = SESSIONS,
        .abandoned = 1,
};

void world_fail(const char *format, ...) {
        va_list arguments;

        if (world_failed())
                return;
        va_start(arguments, format);
        vsnprintf(world.failure, sizeof(world.failure), format, arguments);
        va_end(arguments);
}

static size_t run(Side side, const uint8_t *bytes, size_t n, uint8_t *answer) {
        return fake_tpm_run(world.tpms[side], bytes, n, answer, TPM_MESSAGE_MAX);
}

/* Of a context gap a TPM warns these commands alone. */
static bool may_answer(const Fault *fault, TPM2_CC code) {
        return fault->rc != TPM2_RC_CONTEXT_GAP || code == TPM2_CC_ContextSave || code == TPM2_CC_ContextLoad ||
               code == TPM2_CC_StartAuthSession;
}

/* Return: whether the fault of the step strikes this TPM command. */
static bool strikes(const Fault *fault, const RmOutput *output) {
        bool own = output->own_command;

        world.own_sent |= own;
        if (world.n_sent++ != world.step.at || fault->kind == FAULT_NONE || (own && fault->kind == FAULT_REFUSAL))
                return false;
        if (!may_answer(fault, output->code))
                return false;
        world.struck = true;
        world.struck_own = own;
        return true;
}

/* Return: the size of the answer; 0: it is lost. */
static size_t transmit(const RmOutput *output, Message *answer) {
        const Fault *fault = &FAULTS[world.step.fault];

        world.n_transmits++;
        if (!strikes(fault, output))
                return run(SIDE_REAL, output->bytes, output->n_bytes, answer->bytes);
        switch (fault->kind) {
        case FAULT_WARNING:
        case FAULT_REFUSAL:
                if (!world.struck_own && !world_is_transitory(fault->rc))
                        model_refused(output->bytes, output->n_bytes);
                *answer = cmd_simple(fault->rc);
                return answer->n;
        case FAULT_RESET:
                fake_tpm_reset(world.tpms[SIDE_REAL]);
                model_reset();
                return run(SIDE_REAL, output->bytes, output->n_bytes, answer->bytes);
        case FAULT_LOST_AFTER:
                run(SIDE_REAL, output->bytes, output->n_bytes, answer->bytes);
                break;
        default:
                break;
        }
        world.lost = true;
        if (!world.struck_own)
                model_lost(output->bytes, output->n_bytes);
        return 0;
}

static void trace(const RmOutput *output, const Message *answer) {
        Message command = { .n = output->n_bytes };

        memcpy(command.bytes, output->bytes, output->n_bytes);
        printf("        %s 0x%08x", output->own_command ? "command" : "ours   ", message_rc(&command));
        if (command.n > TPM_HEADER_SIZE)
                printf(" %08x...", message_handle(&command));
        if (answer->n == 0)
                printf(" -> lost\n");
        else
                printf(" -> 0x%x %s\n", message_rc(answer), world.struck ? "(after the fault)" : "");
}

static uint64_t count_flushed(void) {
        const RmCounters *counters = rm_counters(world.rm);

        return counters->abandoned_flushed + counters->client_saved_flushed;
}

void world_check(void) {
        const char *broken = rm_invariant_broken(world.rm);

        if (broken)
                world_fail("%s", broken);
        if (count_flushed() != world.n_flushed)
                model_flushed();
        world.n_flushed = count_flushed();
}

/* @space: RM_NONE for a chore */
static Message drive(RmJob *job, uint32_t space, TSS2_RC *ret_rc) {
        static Message answer;
        RmOutput output;
        RmStep step = rm_job_step(world.rm, job, NULL, 0, &output);
        Message reply;

        for (unsigned i = 0; step != RM_STEP_REPLY; i++) {
                const char *broken = NULL;

                if (i == STEPS_MAX)
                        world_fail("the job does not end");
                if (step == RM_STEP_PAUSE && !world_failed()) {
                        step = rm_job_step(world.rm, job, NULL, 0, &output);
                        continue;
                }
                if (output.own_command)
                        broken = rm_border_broken(world.rm, space, output.bytes, output.n_bytes);
                if (broken)
                        world_fail("%s", broken);
                answer.n = world_failed() ? 0 : transmit(&output, &answer);
                /* After a reopening the resource manager starts it. */
                if (output.code == TPM2_CC_Startup && !output.own_command && answer.n > 0 &&
                    message_rc(&answer) == TPM2_RC_SUCCESS)
                        world.model.down = false;
                if (world.verbose)
                        trace(&output, &answer);
                if (answer.n > 0) {
                        step = rm_job_step(world.rm, job, answer.bytes, answer.n, &output);
                } else {
                        rm_job_lost(world.rm, job, &output);
                        step = RM_STEP_REPLY;
                }
        }
        reply.n = output.n_bytes;
        memcpy(reply.bytes, output.bytes, output.n_bytes);
        *ret_rc = output.rc;
        world_check();
        return reply;
}

Message world_command(Client *client, const Message *command) {
        RmJob *job = rm_job_begin(world.rm, client->space, command->bytes, command->n);
        Message reply = cmd_simple(TPM2_RC_FAILURE);
        TSS2_RC rc;

        world.n_commands++;
        if (!job) {
                world_fail("all job slots are taken");
                return reply;
        }
        reply = drive(job, client->space, &rc);
        if (reply.n < TPM_HEADER_SIZE || message_rc(&reply) != rc)
                world_fail("the reply is none");
        else if (world.verbose)
                printf("    the client hears 0x%x\n", rc);
        return reply;
}

bool world_chore(RmChore chore, unsigned at_most) {
        RmJob *job;

        for (unsigned i = 0; i < at_most && (job = rm_job_begin_chore(world.rm, chore)); i++) {
                TSS2_RC rc;

                drive(job, RM_NONE, &rc);
                if (world.verbose)
                        printf("    chore %u ends with 0x%x\n", chore, rc);
                if (rc != TSS2_RC_SUCCESS)
                        return false;
        }
        return true;
}

Message world_direct(Side side, const Message *command) {
        Message answer;

        answer.n = run(side, command->bytes, command->n, answer.bytes);
        return answer;
}

unsigned world_list(Side side, TPM2_HT type, TPM2_HANDLE *ret_handles, unsigned size) {
        Message command = cmd_get_capability(TPM2_CAP_HANDLES, (uint32_t)type << TPM2_HR_SHIFT, size);
        Message answer = world_direct(side, &command);

        return message_rc(&answer) ? 0 : message_handles(&answer, ret_handles, size);
}

/*
 * Two slots, a gap of 7 and short contexts make a world small; of a chip it has the slots, and how memory works. Of a
 * gap, the TPM needs a number for each slot, and one more: with five slots, 7 would leave room for two saved sessions.
 */
static FakeTpm *tpm_new(Side side, const char *chip) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        config.object_slots = config.session_slots = 2;
        config.memory = 0;
        if (chip && !fake_chip(chip, 0, &config))
                return NULL;
        if (side == SIDE_REFERENCE)
                config.object_slots = CLIENTS * (OBJECTS + 2);
        if (side == SIDE_REFERENCE)
                config.session_slots = CLIENTS * (SESSIONS + 2);
        config.active_sessions = 8;
        config.object_context = 64;
        config.session_context = FAKE_TPM_CONFIG.session_context;
        config.gap = side == SIDE_REFERENCE ? 0xFFFF : config.session_slots > 3 ? 15 : 7;
        return fake_tpm_new(&config);
}

bool world_open(const char *chip) {
        size_t size = rm_size(&LIMITS);
        void *block = aligned_alloc(4096, size);
        Message startup = cmd_startup(TPM2_SU_CLEAR);

        memset(&world, 0, sizeof(world));
        for (Side side = 0; side < SIDES; side++)
                world.tpms[side] = tpm_new(side, chip);
        if (!block || !world.tpms[SIDE_REAL] || !world.tpms[SIDE_REFERENCE]) {
                free(block);
                return false;
        }
        memset(block, 0, size);
        world.rm = rm_init(block, &LIMITS);
        world_direct(SIDE_REFERENCE, &startup);
        if (!world_chore(RM_CHORE_START, 1) || !world_chore(RM_CHORE_DUE, 1))
                return false;
        for (unsigned i = 0; i < CLIENTS; i++)
                if (rm_space_open(world.rm, 1000 + i, &world.model.clients[i].space) != TSS2_RC_SUCCESS)
                        return false;
        world.n_commands = world.n_transmits = 0;
        return true;
}

void world_close(void) {
        for (Side side = 0; side < SIDES; side++)
                world.tpms[side] = fake_tpm_free(world.tpms[side]);
        free(world.rm);
        world.rm = NULL;
}
