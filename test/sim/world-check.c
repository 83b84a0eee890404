/* SPDX-License-Identifier: BSD-2-Clause */
#include "world-private.h"

#include "resmgr/report.h"
#include "test/lib/invariants.h"

/* libtpms has three of each. */
#define SLOTS 3

static bool listed(const TPM2_HANDLE *handles, unsigned n, TPM2_HANDLE handle) {
        for (unsigned i = 0; i < n; i++)
                if (handles[i] == handle)
                        return true;
        return false;
}

/* Whatever claims to be in the TPM is there. */
static void check_claims(void) {
        TPM2_HANDLE handles[64];
        unsigned n = world_list(TPM2_HT_TRANSIENT, handles, 64);

        for (uint32_t k = 0; k < world.rm->n_residents; k++) {
                const RmObject *object = rm_object(world.rm, world.rm->residents[k]);

                if (object->residency == RM_RESIDENT && !object->probe && !listed(handles, n, object->phandle))
                        world_fail("object %08x claims to be in the TPM, at %08x", object->vhandle, object->phandle);
        }
        n = world_list(TPM2_HT_LOADED_SESSION, handles, 64);
        for (uint32_t i = 0; i < world.rm->n_sessions_used; i++) {
                const RmSession *session = &world.rm->sessions[i];

                /* Of one that is to be flushed it does not matter where it is. */
                if (session->state > RM_SESSION_PENDING && session->state != RM_SESSION_DOOMED &&
                    session->residency == RM_RESIDENT && !listed(handles, n, session->handle))
                        world_fail("session %08x claims to be loaded", session->handle);
        }
}

void world_check(void) {
        const char *broken = rm_invariant_broken(world.rm);

        if (broken)
                world_fail("%s", broken);
        /* To ask the TPM would end the exclusivity of an audit session, which a lone client would notice. */
        if (!world.wild && !world.run->lone && !world.rm->due_start && !world.rm->due_reconcile)
                check_claims();
}

void world_check_border(const uint8_t *bytes, size_t n_bytes) {
        const Request *request = world.broker->current;
        const char *broken = NULL;

        if (request && request->connection && request->own_out && request->connection->space != RM_NONE)
                broken = rm_border_broken(world.rm, request->connection->space, bytes, n_bytes);
        if (broken)
                world_fail("%s", broken);
}

/* Return: whether the tables have it; the upper byte of a handle does not tell sessions apart. */
static bool find_session(TPM2_HANDLE handle, RmSessionReport *ret_session) {
        uint32_t at = 0;

        while (rm_report_session(world.rm, &at, ret_session))
                if ((ret_session->handle ^ handle) << 8 == 0)
                        return true;
        return false;
}

/* Everything in the TPM is in the tables. */
static void check_known(void) {
        TPM2_HANDLE handles[64];
        unsigned n = world_list(TPM2_HT_TRANSIENT, handles, 64);
        RmSessionReport session;

        for (unsigned i = 0; i < n; i++)
                if (rm_object_find_resident(world.rm, handles[i]) == RM_NONE)
                        world_fail("object %08x in the TPM is nobody's", handles[i]);
        for (TPM2_HT type = TPM2_HT_LOADED_SESSION; type <= TPM2_HT_SAVED_SESSION; type++) {
                n = world_list(type, handles, 64);
                for (unsigned i = 0; i < n; i++)
                        if (!find_session(handles[i], &session))
                                world_fail("session %08x in the TPM is nobody's", handles[i]);
        }
}

/* Handles of a type that the TPM lists, but for those that it refused to save or flush. */
static unsigned count_listed(TPM2_HT type) {
        TPM2_HANDLE handles[64];

        return refusals_count_others(&world.refusals, handles, world_list(type, handles, 64));
}

void world_check_idle(void) {
        unsigned limit = SLOTS - world.run->reserve;

        if (world.wild || world.run->lone || world.broker->current || world.rm->due_start || world.rm->due_reconcile)
                return;
        check_known();
        if (!world.misled && (count_listed(TPM2_HT_TRANSIENT) > limit || count_listed(TPM2_HT_LOADED_SESSION) > limit))
                world_fail("more is loaded than the reserve leaves");
        for (uint32_t k = 0; k < world.rm->n_residents; k++)
                if (rm_object(world.rm, world.rm->residents[k])->residency == RM_UNKNOWN)
                        world_fail("nothing is out, and where an object is is unknown");
}

/* Nobody is there any more. What the TPM refused to flush is left over, and counted. */
static void check_end_of_objects(void) {
        TPM2_HANDLE handles[64];
        unsigned n = world_list(TPM2_HT_TRANSIENT, handles, 64);
        RmReport report;

        for (unsigned i = 0; i < n; i++)
                if (!refusals_include(&world.refusals, handles[i]))
                        world_fail("object %08x is left in the TPM", handles[i]);
        rm_report(world.rm, &report);
        if (report.n_objects != n)
                world_fail("%u objects are left in the tables, and %u in the TPM", report.n_objects, n);
        world.outcome->n_refused += n;
}

static void check_end_of_sessions(void) {
        TPM2_HANDLE handles[64];
        unsigned n = world_list(TPM2_HT_LOADED_SESSION, handles, 64);
        RmSessionReport session;
        uint32_t at = 0;

        for (unsigned i = 0; i < n; i++) {
                if (!find_session(handles[i], &session))
                        world_fail("session %08x is left in the TPM", handles[i]);
                else if (session.kind != RM_KIND_ABANDONED && session.kind != RM_KIND_DOOMED)
                        world_fail("session %08x is left in the TPM, of kind %u", handles[i], session.kind);
        }
        while (rm_report_session(world.rm, &at, &session)) {
                bool refused = session.kind == RM_KIND_DOOMED && refusals_include(&world.refusals, session.handle);

                world.outcome->n_refused += refused;
                if (!refused && session.kind != RM_KIND_ABANDONED && session.kind != RM_KIND_LEFT_OVER)
                        world_fail("session %08x is left in the tables, of kind %u", session.handle, session.kind);
        }
}

void world_check_end(void) {
        check_end_of_objects();
        check_end_of_sessions();
        if (!list_is_empty(&world.broker->connections) || !list_is_empty(&world.broker->paused) ||
            !list_is_empty(&world.broker->scheduler.waiting) || world.broker->current)
                world_fail("the broker is not at rest");
}
