/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"

TSS2_RC rm_space_open(Rm *rm, uint32_t uid, uint32_t *ret_space) {
        uint32_t i = rm->free_space;

        if (i != RM_NONE)
                rm->free_space = rm_space(rm, i)->next;
        else if (rm->n_spaces_used < rm->limits.spaces)
                i = rm->n_spaces_used++;
        else
                return RM_RC(TPM2_RC_OBJECT_MEMORY);

        *rm_space(rm, i) = (RmSpace){ .open = true, .uid = uid, .first_object = RM_NONE, .next = RM_NONE };
        *ret_space = i;
        return TSS2_RC_SUCCESS;
}

void rm_space_close(Rm *rm, uint32_t i) {
        RmSpace *space = rm_space(rm, i);

        while (space->first_object != RM_NONE)
                rm_object_doom(rm, space->first_object);
        for (uint32_t s = 0; s < rm->n_sessions_used; s++)
                if (rm->sessions[s].space == i)
                        rm_session_close(rm, s);
        space->open = false;
        space->next = rm->free_space;
        rm->free_space = i;
}

/* Those of a command that is not over are the command's. */
void rm_flush_space(Rm *rm, uint32_t i, uint32_t *ret_n_objects, uint32_t *ret_n_sessions) {
        *ret_n_objects = *ret_n_sessions = 0;
        while (rm_space(rm, i)->first_object != RM_NONE) {
                rm_object_doom(rm, rm_space(rm, i)->first_object);
                (*ret_n_objects)++;
        }
        for (uint32_t s = 0; s < rm->n_sessions_used; s++)
                if (rm->sessions[s].space == i && rm->sessions[s].state > RM_SESSION_PENDING) {
                        rm_session_doom(rm, s);
                        (*ret_n_sessions)++;
                }
}

uint32_t rm_space_find(Rm *rm, uint32_t space, TPM2_HANDLE vhandle) {
        uint32_t i = rm_space(rm, space)->first_object;

        while (i != RM_NONE && rm_object(rm, i)->vhandle < vhandle)
                i = rm_object(rm, i)->next;
        return i != RM_NONE && rm_object(rm, i)->vhandle == vhandle ? i : RM_NONE;
}

TSS2_RC rm_space_admit_object(Rm *rm, uint32_t i) {
        uint32_t share = rm->limits.objects - rm->limits.objects / 2;
        uint32_t n_of_uid = 0;

        if (rm_space(rm, i)->n_objects >= rm->limits.objects_per_space)
                return RM_RC(TPM2_RC_OBJECT_MEMORY);
        for (uint32_t k = 0; k < rm->n_spaces_used; k++)
                if (rm_space(rm, k)->open && rm_space(rm, k)->uid == rm_space(rm, i)->uid)
                        n_of_uid += rm_space(rm, k)->n_objects;
        return n_of_uid < share ? TSS2_RC_SUCCESS : RM_RC(TPM2_RC_OBJECT_MEMORY);
}

TSS2_RC rm_space_admit_session(Rm *rm, uint32_t i) {
        uint32_t others = rm->active_sessions_max / 8 > 4 ? rm->active_sessions_max / 8 : 4;
        uint32_t share = rm->active_sessions_max > others ? rm->active_sessions_max - others : 1;
        uint32_t n_of_space = 0;
        uint32_t n_of_uid = 0;

        for (uint32_t k = 0; k < rm->n_sessions_used; k++) {
                const RmSession *session = &rm->sessions[k];

                if (session->space == RM_NONE)
                        continue;
                n_of_space += session->space == i;
                n_of_uid += session->uid == rm_space(rm, i)->uid;
        }
        if (n_of_space >= rm->limits.sessions_per_space)
                return RM_RC(TPM2_RC_SESSION_MEMORY);
        return n_of_uid < share ? TSS2_RC_SUCCESS : RM_RC(TPM2_RC_SESSION_HANDLES);
}

void rm_space_link(Rm *rm, uint32_t i) {
        RmObject *object = rm_object(rm, i);
        uint32_t *link = &rm_space(rm, object->space)->first_object;
        TPM2_HANDLE vhandle = TPM_TRANSIENT_FIRST;

        /* The list ascends, so the first gap in it is the lowest free handle, which is what a TPM gives too. */
        while (*link != RM_NONE && rm_object(rm, *link)->vhandle == vhandle) {
                link = &rm_object(rm, *link)->next;
                vhandle++;
        }
        object->vhandle = vhandle;
        object->state = RM_OBJECT_LIVE;
        object->next = *link;
        *link = i;
}

void rm_space_unlink(Rm *rm, uint32_t i) {
        uint32_t *link = &rm_space(rm, rm_object(rm, i)->space)->first_object;

        while (*link != RM_NONE && *link != i)
                link = &rm_object(rm, *link)->next;
        if (*link == i)
                *link = rm_object(rm, i)->next;
        rm_object(rm, i)->next = RM_NONE;
}
