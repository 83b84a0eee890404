/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/state.h"

#include "resmgr/capability.h"
#include "test/lib/fake-tpm-private.h"

#include <string.h>

/* Of the sessions, so many are saved; a TPM of a small world has 8. */
#define SESSIONS_SAVED 16

/* Copies */

size_t state_size(void) {
        const Rm *rm = world.rm;

        return sizeof(Model) + fake_tpm_snapshot_size(world.tpms[SIDE_REAL]) +
               fake_tpm_snapshot_size(world.tpms[SIDE_REFERENCE]) + sizeof(Rm) +
               rm->limits.spaces * (sizeof(RmSpace) + sizeof(RmUser)) +
               (SESSIONS_SAVED + rm->limits.objects) * sizeof(RmEntry) + RM_FIXED_MAX * sizeof(RmFixed) +
               rm->n_cells * sizeof(RmCell);
}

typedef void Move(void *where, void *state, size_t n);

static void move_out(void *where, void *state, size_t n) {
        memcpy(state, where, n);
}

static void move_in(void *where, void *state, size_t n) {
        memcpy(where, state, n);
}

/* Jobs are over between steps, and what is not in use is written before it is read. */
static void move_rm(Move *move, uint8_t *state) {
        Rm *rm = world.rm;

        move(rm, state, sizeof(Rm));
        state += sizeof(Rm);
        move(rm_space(rm, 0), state, rm->n_spaces_used * sizeof(RmSpace));
        state += rm->n_spaces_used * sizeof(RmSpace);
        move(rm_user(rm, 0), state, rm->n_users_used * sizeof(RmUser));
        state += rm->n_users_used * sizeof(RmUser);
        for (RmKind kind = 0; kind < RM_KINDS; kind++) {
                size_t n = (rm_end(rm, kind) - rm_first(kind)) * sizeof(RmEntry);

                move(rm_entry(rm, rm_first(kind)), state, n);
                state += n;
        }
        move(rm_fixed(rm, 0), state, rm->n_fixed * sizeof(RmFixed));
        state += rm->n_fixed * sizeof(RmFixed);
        move(rm_cell(rm, 0), state, rm->n_cells_used * sizeof(RmCell));
}

void state_save(void *ret_state) {
        uint8_t *bytes = ret_state;

        memcpy(bytes, &world.model, sizeof(Model));
        bytes += sizeof(Model);
        for (Side side = 0; side < SIDES; side++) {
                fake_tpm_snapshot(world.tpms[side], bytes);
                bytes += fake_tpm_snapshot_size(world.tpms[side]);
        }
        move_rm(move_out, bytes);
        if (world.rm->n_sessions_used > SESSIONS_SAVED)
                world_fail("more sessions than a copy holds");
}

void state_restore(const void *state) {
        const uint8_t *bytes = state;

        memcpy(&world.model, bytes, sizeof(Model));
        bytes += sizeof(Model);
        for (Side side = 0; side < SIDES; side++) {
                fake_tpm_restore(world.tpms[side], bytes);
                bytes += fake_tpm_snapshot_size(world.tpms[side]);
        }
        move_rm(move_in, (uint8_t *)bytes);
}

/* Hashes. @first: the client that comes first; see state_hash(). */

static void mix(uint64_t *hash, uint64_t value) {
        uint64_t x = (*hash ^ value) * 0x9E3779B97F4A7C15u;

        *hash = (x ^ x >> 29) * 0xBF58476D1CE4E5B9u;
}

static uint64_t owner_of(uint32_t space, unsigned first) {
        if (space == RM_NONE)
                return CLIENTS;
        return (world.model.clients[first].space == space) ? 0 : 1;
}

static bool leaves_before(uint32_t i, uint32_t other) {
        RmCandidate a = rm_entry_candidate(world.rm, i), b = rm_entry_candidate(world.rm, other);

        return rm_leaves_before(&world.rm->visits[rm_kind(i)], &a, &b);
}

static void mix_use(uint64_t *hash, const RmUse *use, RmKind kind) {
        const RmVisits *visits = &world.rm->visits[kind];

        mix(hash, use->last == 0 ? UINT64_MAX : visits->n - use->last);
        mix(hash, use->command >= visits->command);
        mix(hash, (uint64_t)use->interval << 32 | use->deviation);
}

/* Its uses, and where it is in the shadows. */
static void mix_uses(uint64_t *hash, uint32_t i) {
        RmKind kind = rm_kind(i);
        const RmVisits *visits = &world.rm->visits[kind];

        if (!world.exact)
                return;
        mix_use(hash, &rm_entry(world.rm, i)->use, kind);
        for (RmRule rule = 0; rule < RM_RULES; rule++)
                for (uint32_t k = 0; k < visits->shadows[rule].n; k++) {
                        const RmCandidate *candidate = &visits->shadows[rule].slots[k];

                        if (candidate->entry != i)
                                continue;
                        mix(hash, (uint64_t)rule << 48 | (uint64_t)k << 32 | candidate->price);
                        mix_use(hash, &candidate->use, kind);
                }
}

/* Without times of uses, which rule decides is all that is told of the shadows. */
static void mix_visits(uint64_t *hash, RmKind kind) {
        const RmVisits *visits = &world.rm->visits[kind];

        mix(hash, visits->rule);
        if (!world.exact)
                return;
        mix(hash, visits->n_slots);
        mix(hash, visits->first_interval);
        for (RmRule rule = 0; rule < RM_RULES; rule++)
                mix(hash, visits->paid[rule]);
}

/* What a saved context holds, as fake-tpm-context.c writes it. */
typedef struct Content {
        uint64_t sequence;
        uint64_t words[3]; /* identity, value, state; or digest, uses */
} Content;

static Content content_of(const RmContext *copy) {
        TpmReader reader = TPM_READER(rm_cell(world.rm, copy->first)->bytes, RM_CELL_PAYLOAD);
        Content content = { .sequence = tpm_read_u64(&reader) };

        tpm_read_bytes(&reader, 4 + 4 + 2 + 8);
        for (unsigned i = 0; i < 3; i++)
                content.words[i] = tpm_read_u64(&reader);
        return content;
}

static Thing *thing_of(const RmEntry *object) {
        uint32_t i = object->vhandle - TPM_TRANSIENT_FIRST;

        for (unsigned c = 0; c < CLIENTS; c++)
                if (world.model.clients[c].space == object->space && i < OBJECTS)
                        return &world.model.clients[c].objects[i];
        return NULL;
}

/* Whether an object of that identity and value is what its client knows, and the reference has. */
static uint64_t is_right(const Thing *thing, uint64_t identity, uint64_t value) {
        const FakeObject *object =
                thing ? fake_object_find(world.tpms[SIDE_REFERENCE], thing->handles[SIDE_REFERENCE]) : NULL;

        if (!object)
                return 2;
        return thing->changes ? object->value == value : thing->identity == identity;
}

static uint64_t position_of(uint32_t object) {
        uint32_t k = 0;

        while (k < world.rm->n_residents[RM_OBJECT] && world.rm->residents[RM_OBJECT][k] != object)
                k++;
        return k;
}

static uint64_t rank_of_object(uint32_t i) {
        uint64_t rank = 0;

        for (uint32_t k = 0; k < world.rm->n_residents[RM_OBJECT]; k++)
                rank += leaves_before(world.rm->residents[RM_OBJECT][k], i);
        return rank;
}

static void mix_object(uint64_t *hash, uint32_t i) {
        const RmEntry *object = rm_entry(world.rm, i);
        const Thing *thing = thing_of(object);
        const FakeObject *loaded = fake_object_find(world.tpms[SIDE_REAL], object->handle);

        mix_uses(hash, i);
        mix(hash, object->vhandle);
        mix(hash, object->hierarchy);
        mix(hash, object->state | object->residency << 4 | object->sequence << 8 | object->clean << 9 |
                          object->probe << 10 | (object->refused != 0) << 11 | object->prove << 12 |
                          object->suspect << 13);
        if (object->residency != RM_ABSENT) {
                mix(hash, position_of(i) | rank_of_object(i) << 8 | (uint64_t)object->handle << 16);
                mix(hash, loaded ? is_right(thing, loaded->identity, loaded->value) : 3);
        }
        if (object->context.first != RM_NONE) {
                Content content = content_of(&object->context);

                mix(hash, is_right(thing, content.words[0], content.words[1]));
        }
}

static uint64_t rank_of_session(uint32_t at) {
        const RmEntry *session = rm_entry(world.rm, at);
        uint64_t rank = 0;

        for (uint32_t i = 0; i < world.rm->n_sessions_used; i++) {
                const RmEntry *other = rm_entry(world.rm, i);

                if (other->state == RM_FREE)
                        continue;
                rank += session->residency == RM_RESIDENT && other->residency == RM_RESIDENT && leaves_before(i, at);
                rank += (uint64_t)(other->saved > session->saved) << 8;
        }
        return rank;
}

/* What a session contains, beside what it should. */
static void mix_content(uint64_t *hash, TPM2_HANDLE handle, uint64_t digest, uint64_t uses) {
        const FakeTpm *reference = world.tpms[SIDE_REFERENCE];

        for (unsigned c = 0; c < CLIENTS; c++) {
                const Client *client = &world.model.clients[c];

                for (unsigned i = 0; i <= SESSIONS; i++) {
                        const Thing *thing = i < SESSIONS ? &client->sessions[i] : &client->session.of;
                        const FakeSession *session =
                                &reference->sessions[thing->handles[SIDE_REFERENCE] & TPM2_HR_HANDLE_MASK];

                        if (thing->used && thing->handles[SIDE_REAL] == handle &&
                            (i < SESSIONS || client->session.live))
                                mix(hash, (digest == session->digest) | (uses == session->uses) << 1);
                }
        }
}

static void mix_copy(uint64_t *hash, const RmEntry *session, const RmContext *copy) {
        const FakeTpm *tpm = world.tpms[SIDE_REAL];

        mix(hash, copy->first != RM_NONE);
        if (copy->first != RM_NONE) {
                Content content = content_of(copy);

                mix(hash, tpm->session_sequence - content.sequence);
                mix_content(hash, session->handle, content.words[0], content.words[1]);
        }
}

static void mix_session(uint64_t *hash, uint32_t i, unsigned first) {
        const RmEntry *session = rm_entry(world.rm, i);
        const FakeTpm *tpm = world.tpms[SIDE_REAL];
        const FakeSession *loaded = &tpm->sessions[session->handle & TPM2_HR_HANDLE_MASK];

        mix_uses(hash, i);
        mix(hash, session->handle);
        mix(hash, owner_of(session->space, first) | session->state << 4 | session->residency << 8 |
                          (session->refused != 0) << 12 |
                          (session->renewed == world.rm->tick + world.rm->n_samples) << 13);
        mix(hash, (session->uid == 1000) == (first == 0));
        mix(hash, rank_of_session(i));
        mix(hash, session->number == 0 ? 0 : tpm->session_sequence - session->number);
        mix_content(hash, session->handle, loaded->digest, loaded->uses);
        mix_copy(hash, session, &session->context);
        mix_copy(hash, session, &session->client_context);
}

/* The counts of the TPM's clock are as they were when it was started last. */
static bool knows_clock(void) {
        const FakeTpm *tpm = world.tpms[SIDE_REAL];

        return world.rm->clock_known && world.rm->reset_count == tpm->reset_count &&
               world.rm->restart_count == tpm->restart_count;
}

static void mix_rm(uint64_t *hash, unsigned first) {
        Rm *rm = world.rm;

        for (unsigned c = 0; c < CLIENTS; c++) {
                const RmSpace *space = rm_space(rm, world.model.clients[first ^ c].space);

                mix(hash, space->hopeless_at == rm->tick ? space->hopeless : 0);
                mix(hash, space->held.objects);
                for (uint32_t i = space->first_object; i != RM_NONE; i = rm_entry(rm, i)->next)
                        mix_object(hash, i);
        }
        for (uint32_t k = 0; k < rm->n_residents[RM_OBJECT]; k++)
                if (rm_entry(rm, rm->residents[RM_OBJECT][k])->state == RM_DOOMED)
                        mix_object(hash, rm->residents[RM_OBJECT][k]);
        for (TPM2_HANDLE handle = 0; handle < world.tpms[SIDE_REAL]->config.active_sessions; handle++) {
                uint32_t i = rm_session_find(rm, handle);

                if (i != RM_NONE)
                        mix_session(hash, i, first);
                if (i != RM_NONE && world.exact)
                        mix(hash, i);
        }
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                mix_visits(hash, kind);
        mix(hash, (uint64_t)rm->slots[RM_OBJECT] << 32 | rm->slots[RM_SESSION]);
        mix(hash, rm->due_start | (uint64_t)rm->down << 40 | rm->due_reconcile << 1 | rm->due_probe << 2 |
                          rm->shut_down << 3 | rm->audited << 4 | rm->capability_audited << 5 | rm->fixed_stale << 6 |
                          (uint64_t)knows_clock() << 7 | rm->n_fixed << 8);
        for (uint32_t i = 0; i < rm->table.n_commands; i++)
                if (rm->table.commands[i].n_trust > 0)
                        mix(hash, i << 16 | rm->table.commands[i].extra << 12 | rm->table.commands[i].n_trust);
}

static void mix_tpm(uint64_t *hash) {
        const FakeTpm *tpm = world.tpms[SIDE_REAL];

        mix(hash, tpm->started | tpm->shut_down << 1 | tpm->hierarchies[FAKE_OWNER].enabled << 2);
        mix(hash, tpm->session_sequence & tpm->config.gap);
        for (unsigned i = 0; i < tpm->config.object_slots; i++)
                mix(hash, tpm->objects[i].state == FAKE_OBJECT_NONE ? 0 : tpm->objects[i].hierarchy);
        for (unsigned i = 0; i < tpm->config.active_sessions; i++) {
                const FakeSession *session = &tpm->sessions[i];

                mix(hash, session->state == FAKE_SESSION_NONE ? 0 : session->state | session->policy << 4);
                if (session->state == FAKE_SESSION_SAVED)
                        mix(hash, tpm->session_sequence - session->sequence);
        }
}

static void mix_thing(uint64_t *hash, const Thing *thing, bool session) {
        mix(hash, thing->used | thing->unsure << 1 | thing->changes << 2 | (thing->handles[SIDE_REFERENCE] != 0) << 3 |
                          (uint64_t)(session ? thing->handles[SIDE_REAL] : 0) << 8);
}

/* Contexts of objects die with a Clear; the reference tells the rest. */
static void mix_saved(uint64_t *hash, const Saved *saved, bool session) {
        mix_thing(hash, &saved->of, session);
        mix(hash, saved->live | saved->abandoned << 1);
        if (saved->of.used)
                mix(hash, saved->clears == world.model.clears);
}

static void mix_model(uint64_t *hash, unsigned first) {
        mix(hash, world.model.down);
        for (unsigned c = 0; c < CLIENTS; c++) {
                const Client *client = &world.model.clients[first ^ c];

                for (unsigned i = 0; i < OBJECTS; i++)
                        mix_thing(hash, &client->objects[i], false);
                for (unsigned i = 0; i < SESSIONS; i++)
                        mix_thing(hash, &client->sessions[i], true);
                mix(hash, client->refused);
                mix_saved(hash, &client->object, false);
                mix_saved(hash, &client->session, true);
        }
}

uint64_t state_hash(void) {
        uint64_t hashes[CLIENTS];

        for (unsigned first = 0; first < CLIENTS; first++) {
                hashes[first] = 1;
                mix_rm(&hashes[first], first);
                mix_tpm(&hashes[first]);
                mix_model(&hashes[first], first);
        }
        return hashes[0] < hashes[1] ? hashes[0] : hashes[1];
}

unsigned state_n_unknown(void) {
        unsigned n = 0;

        for (uint32_t k = 0; k < world.rm->n_residents[RM_OBJECT]; k++)
                n += rm_entry(world.rm, world.rm->residents[RM_OBJECT][k])->residency == RM_UNKNOWN;
        for (uint32_t i = 0; i < world.rm->n_sessions_used; i++)
                n += rm_entry(world.rm, i)->state != RM_FREE && rm_entry(world.rm, i)->residency == RM_UNKNOWN;
        return n;
}

bool state_is_hopeless(const Client *client) {
        const RmSpace *space = rm_space(world.rm, client->space);

        return space->hopeless != 0 && space->hopeless_at == world.rm->tick;
}

Thing *state_probed(TPM2_HANDLE handle) {
        for (uint32_t k = 0; k < world.rm->n_residents[RM_OBJECT]; k++) {
                const RmEntry *object = rm_entry(world.rm, world.rm->residents[RM_OBJECT][k]);

                if (object->probe && object->handle == handle)
                        return thing_of(object);
        }
        return NULL;
}

bool state_has_context(const Thing *thing) {
        for (uint32_t i = rm_first(RM_OBJECT); i < rm_end(world.rm, RM_OBJECT); i++) {
                const RmEntry *object = rm_entry(world.rm, i);

                if (object->state == RM_LIVE && thing_of(object) == thing)
                        return object->clean;
        }
        return false;
}
