# SPDX-License-Identifier: BSD-2-Clause
"""
Breaks the code on purpose, one place at a time, and sees whether anything notices: the simulation without and with
faults, or else unit tests. A mutant that nothing notices fails the run.

usage: mutants.py DIR [NAME...]     DIR is for the build, and is made
"""

import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEEDS = "1000"
UNIT = ["resmgr-victim", "bench-residency",
        "resmgr-objects", "resmgr-sessions", "resmgr-capability", "resmgr-faults", "resmgr-power", "resmgr-regressions",
        "resmgr-edges", "resmgr-edges-repair", "resmgr-edges-fake", "resmgr-report", "resmgr-room", "resmgr-doubt",
        "resmgr-hostile", "resmgr-forecast", "broker", "broker-account", "broker-order", "broker-scheduler",
        "broker-turns", "bench-schedule", "broker-room", "broker-sampler", "broker-outage", "broker-edges",
        "broker-report", "broker-states", "frontend-dbus", "frontend-stream", "frontend-stream-input",
        "backend-neighbours", "broker-reserve", "daemon-shared",
        "manager-redact", "manager", "manager-socket", "manager-trace", "backend", "helper", "util-foreign",
        "util-log", "util-platform", "daemon-notify", "tcti", "tcti-conf", "tcti-parts", "tcti-process",
        "tcti-restart", "tcti-io", "tcti-log"]

# name: what is forgotten; file; the text that is replaced; by what
MUTANTS = [
    ("sequence-not-saved", "a sequence object that was used is not saved again", "resmgr/command.c",
     "rm_entry(rm, i)->clean &= !rm_entry(rm, i)->sequence || saves;", ";"),
    ("owner-handle-area", "whose a session is that a command names", "resmgr/session.c",
     "rm_entry(rm, i)->state != RM_LIVE || rm_entry(rm, i)->space != space)", "rm_entry(rm, i)->state != RM_LIVE)"),
    ("owner-auth-area", "that a session for authorization is not the client's", "resmgr/command.c",
     "if (names && rm_job_name(rm, job, k) == RM_NONE)",
     "if (names && k < command->n_handles && rm_job_name(rm, job, k) == RM_NONE)"),
    ("owner-auth-harmless", "what stands in the place of what is not the client's", "resmgr/command.c",
     "handle = placeholder_for(handle);\n                else if", ";\n                else if"),
    ("owner-session", "whose a session is, anywhere", "resmgr/session.c", "rm_entry(rm, i)->space != space", "0"),
    ("owner-flush", "whose session it is that is flushed", "resmgr/session.c", "return session->space == space;",
     "return true;"),
    ("owner-flush-object", "whose object it is that is flushed", "resmgr/job.c",
     "return tpm_handle_is_transient(handle) ? rm_space_find(rm, job->space, handle) : RM_NONE;\n}\n\nbool "
     "rm_job_presents",
     "return tpm_handle_is_transient(handle) ? rm_object_find_resident(rm, handle) : RM_NONE;\n}\n\nbool "
     "rm_job_presents"),
    ("owner-save", "whose session it is whose context is saved", "resmgr/command.c",
     "i = rm_session_find_usable(rm, job->space, handle);\n        if (i == RM_NONE || rm_entry(rm, i)->handle != "
     "handle", "i = rm_session_find(rm, handle);\n        if (i == RM_NONE || rm_entry(rm, i)->handle != handle"),
    ("owner-object", "whose object a virtual handle is", "resmgr/space.c",
     "uint32_t i = rm_space(rm, space)->first_object;\n\n        while (i != RM_NONE && rm_entry(rm, i)->vhandle",
     "uint32_t i = rm_space(rm, vhandle & 1 ? 0 : space)->first_object;\n\n        while (i != RM_NONE && "
     "rm_entry(rm, i)->vhandle"),
    ("session-ended", "that a session whose continueSession is clear has ended", "resmgr/commit.c",
     "if (!(response->auths[k - command->n_handles].attributes & TPMA_SESSION_CONTINUESESSION))", "if (0)"),
    ("commit-early", "to wait for the answer: a flushed object is forgotten before", "resmgr/command.c",
     "if (!session && rm_entry(rm, i)->residency == RM_ABSENT) {\n                rm_entry_free(rm, i);\n            "
     "    return rm_reply_rc(job, TPM2_RC_SUCCESS);",
     "if (!session) {\n                TPM2_HANDLE before = rm_entry(rm, i)->handle;\n\n                "
     "rm_entry_free(rm, i);\n                return before ? RM_SEND(job, TPM2_CC_FlushContext, before) : "
     "rm_reply_rc(job, TPM2_RC_SUCCESS);"),
    ("commit-early-session", "to wait for the answer: a flushed session is forgotten before", "resmgr/command.c",
     "if (!rm_entry_set_unknown(rm, i))\n                return rm_reply_rc(job, RM_RC(TPM2_RC_SESSION_MEMORY));\n   "
     "     return session ?",
     "if (session)\n                rm_entry_free(rm, i);\n        else\n                rm_entry_set_unknown(rm, "
     "i);\n        return session ?"),
    ("quota-objects", "the last object of a quota", "resmgr/share.c",
     "space->held.objects >= rm->limits.objects_per_space", "space->held.objects > rm->limits.objects_per_space"),
    ("quota-sessions", "the last session of a quota", "resmgr/share.c", "n_of_space >= rm->limits.sessions_per_space",
     "n_of_space > rm->limits.sessions_per_space"),
    ("share-sessions", "that no user takes all sessions", "resmgr/share.c",
     "if (!may_have_more(rm_space(rm, space)->uid, sessions->n_of_uid, sessions->n_taken, n_all, others))", "if (0)"),
    ("handle-too-early", "that a virtual handle is taken", "resmgr/space.c",
     "rm_entry(rm, *link)->vhandle == vhandle) {", "rm_entry(rm, *link)->vhandle == vhandle && vhandle & 1) {"),
    ("left-at-close", "to flush what a client leaves", "resmgr/resmgr.c",
     "rm_entry_doom(rm, rm_space(rm, space)->first_object);",
     "rm_entry_free(rm, rm_space(rm, space)->first_object);"),
    ("resend-buffer", "that what was sent is not what the client asked", "resmgr/job.c",
     "memcpy(job->out, job->original, n);",
     "if (job->n_transmits == 0)\n                memcpy(job->out, job->original, n);"),
    ("alias", "that a handle which is given out twice proves the tables wrong", "resmgr/commit.c",
     "if (rm_object_find_resident(rm, phandle) != RM_NONE) {", "if (0) {"),
    ("alias-load", "... when a context is loaded", "resmgr/move.c",
     "if (rm_kind(i) == RM_OBJECT && rm_object_find_resident(rm, handle) != RM_NONE) {", "if (0) {"),
    ("disconnect", "that a client is gone", "broker/connection.c",
     "rm_space_close(runner->rm, connection->owner.space);", ";"),
    ("token-prefix", "to compare the whole of a session's context", "resmgr/job.c",
     "rm_context_equals(rm, &session->client_context, job->original + TPM_HEADER_SIZE,\n                             "
     "    job->n_original - TPM_HEADER_SIZE)", "1"),
    ("probe", "to ask what an extensive command has left", "resmgr/commit.c",
     "rm->due_probe = rm->n_residents[RM_OBJECT] > 0;", ";"),
    ("hierarchy", "which objects die with their hierarchy", "resmgr/commit.c",
     "object->hierarchy && flushes_hierarchy(job, object->hierarchy)", "0"),
    ("victim", "that what a command needs must stay", "resmgr/residency.c", "&& !rm_job_pins(rm, job, i)))",
     "&& !(kind == RM_SESSION && rm_job_pins(rm, job, i))))"),
    ("victim-session", "that a session that a command needs must stay", "resmgr/residency.c",
     "&& !rm_job_pins(rm, job, i)))", "&& !(kind == RM_OBJECT && rm_job_pins(rm, job, i))))"),
    ("overdue", "that what is overdue has left the working set", "resmgr/victim.c",
     " && elapsed <= latest(interval, deviation))", ")"),
    ("batch", "that many uses in a row are one visit", "resmgr/victim.c", "use->command >= visits->command_before;",
     "use->command == command;"),
    ("price", "what a move costs", "resmgr/victim.c", "wait_a * b->price > wait_b * a->price", "wait_a > wait_b"),
    ("price-told", "... to tell it", "broker/runner.c", "rm_job_took(request->job, took_us);", ";"),
    ("rule", "to go by the rule that does better", "resmgr/victim.c", "visits->rule = best;", "visits->rule += 0;"),
    ("shadow-forget", "that the index of an entry may come to mean another", "resmgr/victim.c",
     "shadow->slots[k] = shadow->slots[--shadow->n];", ";"),
    ("flushed", "that some commands take an object away", "resmgr/commit.c", "TPMA_CC_FLUSHED", "0"),
    ("audit", "that a command answered without the TPM ends no audit", "resmgr/commit.c",
     "rm->audited |= (response->auths[k].attributes & TPMA_SESSION_AUDIT) != 0;", ";"),
    ("not-started", "that a TPM that was not started holds nothing", "resmgr/repair.c", "rm_not_started(rm);", ";"),
    ("lost", "that after a lost answer the tables must be compared", "resmgr/step.c", "rm->due_reconcile = true;",
     ";"),
    ("gap", "to renew the oldest session when the context gap is full", "resmgr/repair.c",
     "{ TPM2_RC_CONTEXT_GAP, 1,", "{ 0x7777, 1,"),
    ("retry", "to try again what the TPM had no time for", "resmgr/repair.c", "{ TPM2_RC_YIELDED, 1,",
     "{ 0x7777, 1,"),
    ("resume-first", "that who was put off comes first", "broker/scheduler.c", "if (resumed)\n                return",
     "if (resumed && !scheduler_find(scheduler, now))\n                return"),
    ("waiters", "those who wait when the TPM is lost", "broker/runner.c",
     "while ((request = scheduler_peek(&runner->scheduler)))", "while (0 && (request = NULL))"),
    ("forget-residents", "that a TPM that was reopened may be empty", "broker/runner.c", "rm_reopened(runner->rm);",
     ";"),
    ("due", "what must be settled before the next command", "resmgr/command.c", "if (rm_push_due(rm, job)) {",
     "if (0) {"),
    ("half-list", "that half a list is none", "resmgr/gap.c", "tpm_reader_left(reader) == ret_list->n * n_entry",
     "true"),
    ("reserve", "that others find slots free", "resmgr/residency.c", "if (reserve == 0)", "if (1)"),
    ("reserve-rises", "that what others need may rise while clients are busy", "broker/runner.c",
     "if (runner_is_up(runner) && reserver_look(&runner->reserver, runner->turn->now))",
     "if (reserver_look(&runner->reserver, runner->turn->now) && 0)"),
    ("reserve-kinds", "that slots for sessions are others than those for objects", "resmgr/resmgr.c",
     "rm->reserve[RM_SESSION] = n_sessions;", "rm->reserve[RM_SESSION] = n_objects;"),
    ("foreign-saves", "that others save contexts, too", "resmgr/space.c",
     "rm->counters.foreign_saves += number - numbers->newest - n_ours;", "rm->counters.foreign_saves += 0;"),
    ("own-saves", "which contexts it saved itself", "resmgr/space.c",
     "uint64_t n_ours = ++rm->n_contexts - numbers->n_ours;", "uint64_t n_ours = 1;"),
    ("reserve-found", "that what is in no table may be ours", "resmgr/move.c",
     "rm->counters.foreign_found += !rm->due_reconcile;", "rm->counters.foreign_found++;"),
    ("neighbour-opens", "that who has opened the node may use it at any time", "backend/neighbours.c",
     "if (events & PLATFORM_OPENED)", "if (0)"),
    ("neighbour-was-there", "that somebody may have been there before", "backend/neighbours.c",
     "if (events & PLATFORM_USED && neighbours->n_open == 0)", "if (0)"),
    ("neighbour-once", "that two who leave at once are told as one", "backend/neighbours.c",
     "neighbours->uncertain = neighbours->n_open > 0;", ";"),
    ("neighbour-given-up", "who was given up", "backend/neighbours.c",
     "if (now - neighbours->used < NEIGHBOURS_SILENT_US)", "if (1)"),
    ("neighbour-storm", "that events may come as fast as they are read", "util/platform.c",
     "for (char *at = bytes; at < bytes + n;) {",
     "for (; n > 0; n = read(fd, bytes, sizeof(bytes)))\n        for (char *at = bytes; at < bytes + n;) {"),
    ("neighbour-missed", "that more may happen than is told", "backend/neighbours.c",
     "neighbours->stranger = neighbours->uncertain = true;", ";"),
    ("reserve-between", "... between any two commands", "broker/chores.c",
     "chores_begin_if(chores, true, RM_CHORE_RESERVE, ret_chore)", "NULL"),
    ("opening", "that a TPM may take its time to open", "broker/supervisor.c",
     "return supervisor->state == SUPERVISOR_UP;",
     "return supervisor->state == SUPERVISOR_UP ||\n               (supervisor->was_started && supervisor->state == "
     "SUPERVISOR_OPENING);"),
    ("flush-waits", "that what is flushed on request may be at work", "broker/flush.c",
     "list_append(&flushes->waiting, &flush->link);", "flush_run(flush, flushes->connections);"),
    ("flush-whose", "whose sessions are flushed on request", "resmgr/resmgr.c",
     "if (rm_entry(rm, k)->space == i && rm_exists(rm_entry(rm, k)))", "if (rm_exists(rm_entry(rm, k)))"),
    ("hits-once", "that a command may be sent more than once", "resmgr/command.c", "if (job->counted)", "if (0)"),
    ("codes-listed", "that a client could make up any number of codes", "broker/stats.c",
     "if (code == 0 || !rm_implements(rm, code))", "if (code == 0)"),
    ("redact-response", "that an answer may be what was unsealed", "manager/redact.c",
     "blank(&reader, bytes, response.n_parameters);", "tpm_read_bytes(&reader, response.n_parameters);"),
    ("redact-password", "that an authorization may be a password", "manager/redact.c",
     "tpm_read_u8(&reader);\n                blank_field(&reader, bytes);\n        }\n        if (reader.bad)",
     "tpm_read_u8(&reader);\n                tpm_read_bytes(&reader, tpm_read_u16(&reader));\n        }\n        if "
     "(reader.bad)"),
    ("visitor-unknown", "that the kernel has told who a visitor is", "manager/socket.c",
     ' || g_str_equal(mechanism, "ANONYMOUS")', ""),
    ("visitor-protocol", "to look at what a visitor says first", "manager/socket.c", "n > 0 && bytes[0] == 0", "n > 0"),
    ("stream-protocol", "that text is no command, before ten bytes of it are there", "frontend/stream.c",
     "if (stream->state == STREAM_READING && !stream_may_begin(stream, bytes, n)) {",
     "if (stream->state == STREAM_READING && n >= TPM_HEADER_SIZE && !stream_may_begin(stream, bytes, n)) {"),
    ("stream-drained", "that an event tells of something new", "frontend/stream.c",
     "        stream->drained = false;\n        if (events", "        if (events"),
    ("stream-end", "that the end of input is still to be read", "frontend/stream.c",
     "stream->drained = (size_t)n < n_room && !stream->hung_up;", "stream->drained = (size_t)n < n_room;"),
    ("input-ahead", "how much may be read behind a command", "frontend/stream-input.c",
     "input->n_command > 0 ? n_taken(input) + TPM_HEADER_SIZE : STREAM_INPUT_SHORT_MAX", "STREAM_INPUT_SHORT_MAX"),
    ("input-kept", "what came behind a command, once that is done", "frontend/stream-input.c",
     "take_out(input, 0, MIN(input->n_command, input->n_bytes));", "take_out(input, 0, input->n_bytes);"),
    ("held-waiting", "that what a client has who waits for room does not end", "resmgr/space.c",
     "        held_add(&user->waiting, by);\n        held_add(&rm->waiting, by);\n}\n\nvoid", "}\n\nvoid"),
    ("held-user", "to count what comes for its user", "resmgr/space.c",
     "        held_add(&user->held, by);\n", ""),
    ("property-for-root", "that others may read few properties", "manager/properties.c",
     "if (properties[i].everybody || policy_may_manage(uid))\n                        g_variant", "g_variant"),
    ("account-victim", "that a user with most accounts gives one up, and not who did least", "broker/account.c",
     "if (n < n_victims || (n == n_victims && !account_is_used_less(account, victim)))",
     "if (!account_is_used_less(account, victim))"),
    ("account-reference", "that an account may be another program's by now", "broker/account.c",
     "return account->serial == ref.serial ? account : &accounts->others;", "return account;"),
    ("account-sums", "to keep what was counted of a program that has no account any more", "broker/account.c",
     "usage_add(&others->usage, &account->usage);", ";"),
    ("trace-lost", "to say what a subscriber has lost", "manager/trace.c", "subscriber->n_dropped++;", ";"),
    ("locality-gone", "that a TPM may have lost its localities", "backend/backend.c",
     "if (locality != 0 && !backend->localities)", "if (0)"),
    ("hierarchy-state", "that a hierarchy that is enabled loses nothing", "resmgr/commit.c",
     "hierarchy == enable && tpm_read_u8(&reader) == TPM2_NO;", "hierarchy == enable;"),
    ("reconcile-unknown", "a session of which nobody knows what a lost command did to it", "resmgr/reconcile.c",
     "if (session->seen && session->residency == RM_RESIDENT)", "if (session->seen)"),
    ("repair-locality", "that a locality is lent to its client's command alone", "resmgr/step.c",
     "bool own_command = rm_top(job)->op == RM_OP_COMMAND;", "bool own_command = job->client;"),
    ("repair-locality-broker", "... in the broker", "broker/runner.c", "output->own_command ? request->locality : 0,",
     "request->locality,"),
    ("job-for-chores", "to keep a job for chores", "resmgr/job.c", "if (i >= (client ? RM_JOBS - 1 : RM_JOBS))",
     "if (i >= RM_JOBS)"),
    ("startup-sessions", "that a Startup whose answer is lost may have ended sessions", "resmgr/command.c",
     "if (command->info.kind == TPM_COMMAND_STARTUP ||\n                            (kind == RM_OBJECT &&",
     "if ((kind == RM_OBJECT && command->info.kind == TPM_COMMAND_STARTUP) ||\n                            (kind == "
     "RM_OBJECT &&"),
    ("shut-down", "that a Shutdown is undone by whatever is saved after it", "resmgr/commit.c",
     "rm->shut_down = true;", ";"),
    ("other-kind", "that a session is not found under the upper byte of the other kind", "resmgr/repair.c",
     "if (i != RM_NONE && rm_entry(rm, i)->handle == handle)", "if (i != RM_NONE)"),
    ("stop-running", "to flush what the command leaves that runs when the daemon ends", "broker/connection.c",
     "if (phase_is_over(runner->phase))\n                connection_close_space(connection);", ""),
    ("hopeless-which", "which command it was for which there is no room", "resmgr/repair.c",
     "if (hopeless == hash_command(job) &&", "if (hopeless != 0 &&"),
    ("hopeless-over", "that there was room since", "resmgr/commit.c", "rm_space(rm, job->space)->hopeless = 0;", ";"),
    ("prove", "to compare the Name of what was there before a reopening", "resmgr/reconcile.c",
     "memcmp(name, object->name, n) == 0", "1"),
    ("clock", "that a TPM that was reset holds nothing", "resmgr/reconcile.c",
     "reset_count != rm->reset_count || restart_count != rm->restart_count)", "0)"),
    ("put-back", "that a number that was there before tells of a state put back", "resmgr/space.c", "return trusted;",
     "return false;"),
    ("put-back-saved", "that what was saved after a state that was put back is void", "resmgr/space.c",
     "session->number >= number)", "0)"),
    ("list-sessions", "that sessions which nobody owns may take all slots", "resmgr/repair.c",
     "return rm_push(job, RM_OP_RECONCILE, RM_NONE) == RM_FLOW_AGAIN;", "return false;"),
    ("flush-unknown", "sessions that were left over and are not known", "resmgr/resmgr.c",
     "rm->due_reconcile = rm->flush_left_over = true;", ";"),
    ("where-doomed", "where a doomed session is", "resmgr/reconcile.c",
     "rm_entry_set_resident(rm, i, session->handle);", ";"),
    ("late", "to keep the back end of a command that is late", "broker/supervisor.c",
     "if (supervisor->is_out && supervisor->state == SUPERVISOR_UP) {", "if (0) {"),
    ("never-sent", "that what was never sent was not executed", "broker/runner.c",
     "runner_end_early(runner, request, RM_RC(TPM2_RC_INITIALIZE));\n                return;",
     "runner_end_early(runner, request, RM_RC(TPM2_RC_FAILURE));\n                return;"),
    ("raw", "what a TPM in failure mode answers", "resmgr/reconcile.c",
     "job->raw = job->client && is_answered(rc, job->command.header.code);", "job->raw = false;"),
    ("stuck-gap", "that the gap cannot be closed at the moment", "resmgr/gap.c", " || job->stuck", ""),
    ("stuck-handles", "that no session can be flushed at the moment", "resmgr/repair.c",
     "i == RM_NONE || job->stuck ||", "i == RM_NONE ||"),
    ("strangers", "to try again to flush what is in no table", "resmgr/resmgr.c",
     "rm->due_reconcile |= rm->strangers_left;", ";"),
    ("numbers-of-objects", "that contexts of objects have numbers", "resmgr/space.c", "if (is_new && number_falls(",
     "if (is_new && rm_kind(i) == RM_SESSION && number_falls("),
    ("numbers-that-lie", "that numbers may fall for no reason", "resmgr/space.c",
     "bool trusted = numbers->n_rises > 0 && numbers->n_rises >= numbers->n_trusted;", "bool trusted = true;"),
    ("reset-sessions", "that a reset ends saved sessions", "resmgr/reconcile.c", "reset && i > 0; i--)",
     "0 && i > 0; i--)"),
    ("any-order", "that a list may come in any order", "resmgr/gap.c", "index < lowest) {",
     "index < lowest && index + 1 >= next) {"),
    ("claim", "that little use is no claim", "broker/scheduler.c", 
     "MAX(user->used_us, scheduler_less(scheduler->clock_us, SCHEDULER_GRACE_US)) + us", "user->used_us + us"),
    ("watch", "the gap while clients are busy", "broker/runner.c", "chores_watch(&runner->chores);", ";"),
    ("gap-rounds", "that others use up a gap while no client asks for anything", "resmgr/gap.c",
     "return rm->tick + rm->n_samples;", "return rm->tick;"),
    ("hello-half", "that a command is half read when hello is answered", "frontend/stream.c",
     "stream->state != STREAM_READING || stream->input.n_command > 0)", "stream->state != STREAM_READING)"),
    ("hello-layers", "that a client which said nothing knows no layers", "frontend/stream-message.c",
     "if (layers || ", "if (true || "),
    ("hello-end", "to answer hello when nothing follows it", "frontend/stream.c",
     "        stream_greet(stream);\n        stream->reading = false;", "        stream->reading = false;"),
    ("leave-stale", "that the client has left whose command is answered", "broker/connection.c",
     "        if (connection->stale)\n                connection_go_on(connection);\n        else\n        ", ""),
    ("leave-locality", "the locality that a client had when it left", "broker/connection.c",
     "        connection->locality = 0;\n", ""),
    ("away-runs", "that a command of who is away has to end first", "broker/connection.c",
     "!connection->given_up || connection->stale ||", "!connection->given_up ||"),
    ("away-order", "who left first", "broker/connection.c", "connection->left < found->left",
     "connection->left > found->left"),
    ("foreign-success", "that a handle which is never loaded cannot be used", "resmgr/commit.c",
     " || (answer->rc == TPM2_RC_SUCCESS && job->foreign))", ")"),
    ("foreign-other", "what else is wrong with a session that is not the client's", "resmgr/commit.c",
     " &&\n                 (error == ERROR_VALUE || error == ERROR_HANDLE))", ")"),
    ("swtpm-key", "that a key of swtpm's configuration may be unknown", "backend/backend-swtpm.c",
     "                if (!pairs[i][0])\n", "                if (!pairs[i][0] || !value)\n"),
    ("conf-outage", "that a TCTI which cannot read its configuration will never be there", "helper/helper-tcti.c",
     "reason->is_conf = rc == TSS2_TCTI_RC_BAD_VALUE;", "reason->is_conf = false;"),
    ("bind-umask", "the umask that the process had", "util/platform.c", "(void)umask(before);", "(void)before;"),
    ("foreign-unread", "that descriptors are never received", "util/foreign.c",
     "if (n <= 0 || *passed)", "if (n <= 0)"),
    ("foreign-ahead", "to look at all that one call would read", "util/foreign.c",
     "foreign_peek(fd, iov, n_iov, passed)",
     "foreign_peek(fd, &(struct iovec){ iov->iov_base, 1 }, 1, passed)"),
    ("watchdog-half", "to feed the watchdog before its interval is over", "daemon/notify.c", "interval / 2000",
     "interval / 1000"),
    ("syslog-lost", "what a stuck syslog daemon did not take", "util/log.c",
     "                log_state.n_dropped++;\n", ""),
    ("fork-number", "that parent and child may have the same process number", "tcti/owner.c",
     "if (platform_wipe_on_fork(page, n))", "if (0)"),
    ("fork-finalize", "whose connection it is that a child ends", "tcti/link.c",
     "if (owner_is_us(&link->owner))\n                link_lose(link);", "link_lose(link);"),
    ("restart-executed", "that a command may have been executed whose response is lost", "tcti/tcti.c",
     "lose_connection(context, TPM2_RC_FAILURE);", "lose_connection(context, TPM2_RC_INITIALIZE);"),
    ("restart-hello", "to say hello on the next connection", "tcti/link.c",
     "link->hello = link->by_bus ?", "link->hello = link->by_bus || link->hello == LINK_HELLO_DONE ?"),
    ("restart-locality", "the locality that was set before the daemon was restarted", "tcti/link.c",
     "if (link->locality == 0 ||", "if (true ||"),
    ("restart-handle", "that the poll handle keeps its number", "tcti/link.c",
     "if (link->fd >= 0 && dup3(fd, link->fd, O_CLOEXEC) >= 0) {", "if (0) {"),
    ("closed-number", "that a program may have closed the connection, and opened its own by the number",
     "tcti/link.c", "return link->fd < 0 || io_mark(link->fd) == link->mark;", "return true;"),
    ("closed-bus", "the same of the connection to the bus", "tcti/dbus.c",
     "if (io_mark(dbus->fd) == dbus->mark)\n                fd_close(dbus->fd);", "fd_close(dbus->fd);"),
    ("log-number", "that standard error may be closed, and its number another's", "tcti/log.c",
     "return (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) && ", "return false && "),
    ("log-pipe", "that nobody may read what a program says", "tcti/log.c", "SIG_BLOCK, &signals, &before",
     "SIG_UNBLOCK, &signals, &before"),
    ("log-terminal", "that a terminal obeys more than the control characters of ASCII", "tcti/log.c",
     "if (c >= 0x80 && c < 0xA0 && last == 0xC2)", "if (0)"),
    ("locality-bus", "that a locality may have been set whose answer is lost", "tcti/link.c",
     "                if (rc == TSS2_TCTI_RC_NO_CONNECTION)\n                        link_lose(link);\n", ""),
    ("closed-stdout", "that a program may have closed its standard output", "tcti/io.c",
     "fd_above_stdio(socket(", "(socket("),
    ("suspect-context", "that what was saved before it showed that a state was put back may be the past's",
     "resmgr/move.c", "        if (rm_entry(rm, i)->suspect)\n                rm_entry_doubt(rm, i);\n", ""),
    ("rights-by-close", "that descriptors may lie in a socket that is closed", "util/foreign.c",
     "        if (foreign_is_refusing(fd))\n                return false;", "        return false;"),
    ("rights-charge", "that a socket which is still to be closed takes a place", "frontend/stream.c",
     "fine->charge = stream->connection ? connection_take_charge(stream->connection) : NULL;", "fine->charge = NULL;"),
    ("rights-linger", "to interrupt a close that lingers", "util/platform.c",
     "(void)timer_settime(timer, 0, &tick, NULL);", ";"),
    ("guard-silent", "that calls without a reply are floods, too", "door/guard.c",
     "may = silent ? sender_may_call_silently(sender, now) : sender->n_open < GUARD_SENDER_MAX;",
     "may = silent || sender->n_open < GUARD_SENDER_MAX;"),
    ("guard-answered", "that a call which was answered is not open any more", "door/guard.c",
     "sender->open[i] = sender->open[--sender->n_open];", ";"),
    ("order-patience", "that the first in the order is not passed for ever", "broker/order.c",
     "head->passed_us + order_cost(item) / 2 <= order_patience(head) &&", ""),
    ("order-lead", "that who passes has had no more than its share", "broker/order.c",
     "item->user_lead_us <= order_lead(head) && item->lead_us <= order_lead(head)", "true"),
    ("order-affinity", "whose contexts are in the TPM", "broker/order.c",
     "(item->missing_us == 0 && head->missing_us > 0 && !head->seldom) ||", ""),
    ("order-seldom", "that who asks seldom is not passed", "broker/order.c", " && !head->seldom", ""),
    ("order-length", "to do what is short before what is long", "broker/order.c",
     "order_cost(item) <= order_cost(head) / ORDER_SHORTER", "false"),
    ("order-headed", "how long it was passed already", "broker/choice.c", "head->headed = true;", ";"),
    ("turns-charge", "what a connection has had", "broker/scheduler.c",
     "scheduler_less(user->clock_us, SCHEDULER_GRACE_US)) + us;",
     "scheduler_less(user->clock_us, SCHEDULER_GRACE_US));"),
    ("turns-user-charge", "what a user has had", "broker/scheduler.c",
     "scheduler_less(scheduler->clock_us, SCHEDULER_GRACE_US)) + us;",
     "scheduler_less(scheduler->clock_us, SCHEDULER_GRACE_US));"),
    ("turns-user", "which user has had least", "broker/scheduler.c",
     "if (least && user->used_us >= least->used_us)", "if (least)"),
    ("turns-place", "which of a user's connections has had least", "broker/scheduler.c",
     "while (before != &user->waiting &&", "while (false && before != &user->waiting &&"),
    ("turns-served", "how long the TPM worked for others", "broker/scheduler.c",
     "scheduler->served_us += us;", ";"),
    ("turns-start", "that connections which come anew must not keep others waiting for ever", "broker/scheduler.c",
     "        user_advance(user, standing, us);",
     "        (void)user_advance;\n        user->start_us = user->clock_us;"),
    ("turns-outrun", "that the clock of users outruns none that is served", "broker/scheduler.c",
     "MIN(scheduler->clock_us + us / n_users, user->used_us)", "scheduler->clock_us + us / n_users"),
    ("turns-forgotten", "what a forgotten user's connections had", "broker/scheduler.c",
     "scheduler->served_us + SCHEDULER_GRACE_US;", "SCHEDULER_GRACE_US;"),
    ("turns-idle-end", "how long the TPM was to be kept for a client", "broker/scheduler.c",
     "MIN(now, scheduler->idle_until)", "now"),
    ("turns-cost", "that what is refused tells nothing of a cost", "broker/runner.c",
     "response && tpm_read_header(&reader).code == TPM2_RC_SUCCESS", "(void)reader, true"),
    ("turns-vain", "that the TPM was kept for a client in vain", "broker/choice.c",
     "owner->standing.n_vain >= VAIN_MOST", "false"),
    ("turns-idle-left", "for how long the head may be passed, while the TPM is idle", "broker/choice.c",
     "now + (gint64)left_us)", "now + (gint64)left_us + G_USEC_PER_SEC)"),
    ("turns-forgiven", "that no more is forgiven than half of what others had", "broker/scheduler.c",
     "MIN(scheduler_less(standing->used_us, front_us), user->pool_us)",
     "scheduler_less(standing->used_us, front_us)"),
    ("turns-seldom", "to forgive who asks seldom", "broker/scheduler.c",
     "away_us >= MAX((gint64)standing->busy_us, SELDOM_US)", "false"),
    ("turns-idle", "to keep the TPM for who is about to ask", "broker/choice.c",
     "stays_idle = next == 0 &&", "stays_idle = false &&"),
    ("turns-victim", "who comes last, when something has to leave", "resmgr/entry.c",
     ".is_expected = entry->expected_at == rm->tick,", ".is_expected = false,"),
]


def run(command, timeout=600):
    begin = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
                              errors="replace", check=False)
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        code, output = -1, "it never ends"
    return code, output, time.monotonic() - begin


class Workshop:
    """A copy of the tree, and its build."""

    def __init__(self, folder):
        self.tree = os.path.join(folder, "tree")
        self.build = os.path.join(folder, "build")
        os.makedirs(folder, exist_ok=True)
        shutil.rmtree(self.tree, ignore_errors=True)
        # With the time of the copy: what the last mutant of an earlier run left in the build is older.
        shutil.copytree(ROOT, self.tree, copy_function=shutil.copy, ignore=shutil.ignore_patterns("build*", ".git"))
        if not os.path.exists(os.path.join(self.build, "build.ninja")):
            subprocess.run(["meson", "setup", self.build, self.tree, "--buildtype=debug", "-Doptimization=1",
                            "-Dstrict=true"],
                           check=True, stdout=subprocess.DEVNULL)
        code, output, _ = run(["ninja", "-C", self.build])
        if code:
            sys.exit(output)
        noticed = self.notice() or self.test()
        if noticed:
            sys.exit("with nothing broken: %s" % noticed)

    def path(self, file):
        return os.path.join(self.tree, "src", file)

    def replace(self, file, old, new):
        with open(self.path(file), encoding="utf-8") as stream:
            text = stream.read()
        if old not in text:
            return False
        with open(self.path(file), "w", encoding="utf-8") as stream:
            stream.write(text.replace(old, new))
        return True

    def restore(self, file):
        shutil.copyfile(os.path.join(ROOT, "src", file), self.path(file))

    def simulate(self, *options):
        argv = [os.path.join(self.build, "test/sim/sim"), "--seeds", SEEDS, "--no-shrink", *options]
        code, output, seconds = run(argv, timeout=120)
        found = re.search(r"seed (\d+)[^:]*: (.*)", output)
        if code == 0:
            return None
        what = "seed %s: %s" % found.groups() if found else output.strip().splitlines()[-1]
        return "sim%s, %s (%.1f s)" % (" ".join(("",) + options), what, seconds)

    def notice(self):
        return [by for by in (self.simulate(), self.simulate("--faults")) if by]

    def test(self):
        code, output, seconds = run(["meson", "test", "-C", self.build, "--no-rebuild", *UNIT])
        failed = re.findall(r"(\S+)\s+(?:FAIL|TIMEOUT|ERROR)", output)
        return ["test %s (%.1f s)" % (", ".join(failed) or "run", seconds)] if code else []


def judge(workshop, what, file, old, new):
    """Return: what noticed, or None."""
    if not workshop.replace(file, old, new):
        return None, "%s has not the text to be replaced" % file
    code, output, _ = run(["ninja", "-C", workshop.build])
    if code:
        return None, "it does not build\n" + output
    return workshop.notice() or workshop.test(), None


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    workshop = Workshop(os.path.abspath(sys.argv[1]))
    names = sys.argv[2:]
    survived = []
    chosen = [mutant for mutant in MUTANTS if not names or mutant[0] in names]
    for name, what, file, old, new in chosen:
        noticed, problem = judge(workshop, what, file, old, new)
        workshop.restore(file)
        print("%s (%s): forget %s" % (name, file, what))
        for line in noticed or [problem or "NOTHING NOTICES"]:
            print("    " + line)
        sys.stdout.flush()
        if not noticed:
            survived.append(name)
    print("%d mutants, %d noticed%s" % (len(chosen), len(chosen) - len(survived),
                                        "; not: " + " ".join(survived) if survived else ""))
    sys.exit(1 if survived else 0)


main()
