/* SPDX-License-Identifier: BSD-2-Clause */
#include "world-private.h"

#include "chip.h"
#include "resmgr/report.h"
#include "test/lib/invariants.h"

static void fail_if(const char *broken) {
        if (broken)
                world_fail("%s", broken);
}

/* What the TPM lists, asked once. */
static TPM2_HANDLE listed[128];
static unsigned n_listed;

static bool is_listed(TPM2_HANDLE handle) {
        for (unsigned i = 0; i < n_listed; i++)
                if (listed[i] == handle)
                        return true;
        return false;
}

static void check_claims(void) {
        n_listed = world_list(TPM2_HT_TRANSIENT, listed, 64);
        n_listed += world_list(TPM2_HT_LOADED_SESSION, listed + n_listed, 64);
        fail_if(rm_claim_broken(world.rm, is_listed));
}

/* What we do is no trace of others, whatever the TPM answers, and whether it answers at all. */
static void check_traces(void) {
        const RmCounters *counters = rm_counters(world.rm);

        if (!world.visited && (counters->foreign_found > 0 || counters->foreign_saves > 0))
                world_fail("traces of neighbours, who never came");
}

void world_check(void) {
        check_traces();
        fail_if(rm_invariant_broken(world.rm));
        /* To ask the TPM would end the exclusivity of an audit session, which a lone client would notice. */
        if (!world.wild && !world.run->lone && !rm_is_in_doubt(world.rm))
                check_claims();
}

void world_check_border(const uint8_t *bytes, size_t n_bytes) {
        const Request *request = world.broker->runner.current;

        if (request && request->owner && request->own_out && request->owner->space != RM_NONE)
                fail_if(rm_border_broken(world.rm, request->owner->space, bytes, n_bytes));
}

/* Everything in the TPM is in the tables. */
static void check_known(void) {
        static const TPM2_HT types[] = { TPM2_HT_TRANSIENT, TPM2_HT_LOADED_SESSION, TPM2_HT_SAVED_SESSION };
        TPM2_HANDLE handles[64];

        for (unsigned k = 0; k < 3; k++) {
                unsigned n = world_list(types[k], handles, 64);

                for (unsigned i = 0; i < n; i++)
                        if (!rm_has_handle(world.rm, handles[i]))
                                world_fail("%08x in the TPM is nobody's", handles[i]);
        }
}

/* Handles of a type that the TPM lists, but for those that it has just refused to save or flush. */
static unsigned count_listed(TPM2_HT type) {
        TPM2_HANDLE handles[64];

        return refusals_count_others(&world.refusals, handles, world_list(type, handles, 64));
}

void world_check_idle(void) {
        const Reserve *reserve = &world.broker->runner.reserver.kept;

        if (world.wild || world.run->lone || world.broker->runner.current || rm_is_in_doubt(world.rm))
                return;
        check_known();
        if (!world.misled && (count_listed(TPM2_HT_TRANSIENT) > chip_slots() - reserve->n_objects ||
                              count_listed(TPM2_HT_LOADED_SESSION) > chip_slots() - reserve->n_sessions))
                world_fail("more is loaded than the reserve leaves");
        fail_if(rm_rest_broken(world.rm));
}

/* Nobody is there any more. */
static void check_end_of_objects(void) {
        TPM2_HANDLE handles[64];
        unsigned n = world_list(TPM2_HT_TRANSIENT, handles, 64);
        RmReport report;

        if (n > 0)
                world_fail("object %08x is left in the TPM", handles[0]);
        rm_report(world.rm, &report);
        if (report.n_objects > 0)
                world_fail("%u objects are left in the tables", report.n_objects);
}

/* Return: whether the tables have it; the upper byte of a handle does not tell sessions apart. */
static bool find_session(TPM2_HANDLE handle, RmSessionReport *ret_session) {
        uint32_t at = 0;

        while (rm_report_session(world.rm, &at, ret_session))
                if ((ret_session->handle ^ handle) << 8 == 0)
                        return true;
        return false;
}

static void check_end_of_sessions(void) {
        TPM2_HANDLE handles[64];
        unsigned n = world_list(TPM2_HT_LOADED_SESSION, handles, 64);
        RmSessionReport session;
        uint32_t at = 0;

        for (unsigned i = 0; i < n; i++) {
                if (!find_session(handles[i], &session))
                        world_fail("session %08x is left in the TPM", handles[i]);
                else if (session.state != RM_ABANDONED)
                        world_fail("session %08x is left in the TPM, in state %u", handles[i], session.state);
        }
        while (rm_report_session(world.rm, &at, &session))
                if (session.state != RM_ABANDONED && session.state != RM_LEFT_OVER)
                        world_fail("session %08x is left in the tables, in state %u", session.handle, session.state);
}

void world_check_end(void) {
        check_end_of_objects();
        check_end_of_sessions();
        if (!list_is_empty(&world.broker->connections.all) || !list_is_empty(&world.broker->runner.paused) ||
            scheduler_peek(&world.broker->runner.scheduler) || world.broker->runner.current)
                world_fail("the broker is not at rest");
}
