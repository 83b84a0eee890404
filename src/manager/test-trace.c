/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/record.h"
#include "manager/trace.h"
#include "resmgr/report.h"
#include "tpm/writer.h"
#include "util/fd.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define HANG_SECONDS 20
#define SECRET "open sesame"
#define FLOOD 20000

/* In the place of the broker: whom it would tell, and what its TPM lists. */
static void (*told)(void *userdata, const BrokerRecord *record);
static void *told_userdata;
static TpmCommandTable table;

void broker_watch_commands(Broker *broker, void (*record)(void *userdata, const BrokerRecord *record), void *userdata) {
        told = record;
        told_userdata = userdata;
}

const Rm *broker_rm(const Broker *broker) {
        return NULL;
}

TpmCommand rm_report_parse(const Rm *rm, const uint8_t *command, size_t n_command) {
        return tpm_command_parse(&table, command, n_command);
}

static Loop *loop;
static Traces *traces;

static int setup(void **state) {
        const uint8_t bytes[] = { 0x02, 0, 1, 0x5E, 0, 0, 1, 0x7B }; /* Unseal, GetRandom */
        TpmReader list = TPM_READER(bytes, sizeof(bytes));

        memset(&table, 0, sizeof(table));
        tpm_command_table_add(&table, &list, 2);
        loop = loop_new(NULL);
        traces = traces_new(loop, NULL);
        return loop ? 0 : -1;
}

static int teardown(void **state) {
        traces = traces_free(traces);
        loop = loop_free(loop);
        return told == NULL ? 0 : -1;
}

#define until(condition)                                                                                               \
        do {                                                                                                           \
                gint64 hang_ = g_get_monotonic_time() + HANG_SECONDS * G_USEC_PER_SEC;                                 \
                while (!(condition)) {                                                                                 \
                        g_main_context_iteration(NULL, FALSE);                                                         \
                        assert_true(g_get_monotonic_time() < hang_);                                                   \
                }                                                                                                      \
        } while (0)

static int open_trace(TraceOptions options) {
        g_autoptr(GError) error = NULL;
        int fd = traces_open(traces, &options, &error);

        assert_true((fd >= 0) == (error == NULL));
        return fd;
}

/* Unseal with a password, by a client, or by the daemon for itself. */
static void happen(bool tpm) {
        static const Peer peer = { .uid = 1000, .pid = 4711, .name = "tpm2_unseal" };
        uint8_t command[256], response[4096] = { 0 };
        TpmWriter to = TPM_WRITER(command, sizeof(command)), from = TPM_WRITER(response, sizeof(response));
        const size_t n = strlen(SECRET);
        BrokerRecord record = {
                .tpm = tpm,
                .client = tpm ? 0 : 12,
                .peer = tpm ? NULL : &peer,
                .locality = 3,
                .wait_us = 70,
                .took_us = 900,
                .answered_us = (uint64_t)g_get_monotonic_time() - 1000000,
                .n_transmits = 2,
                .command = command,
                .response = response,
        };

        tpm_write_begin(&to, TPM2_ST_SESSIONS, TPM2_CC_Unseal);
        tpm_write_u32(&to, 0x80000001);
        tpm_write_u32(&to, (uint32_t)(9 + n));
        tpm_write_u32(&to, TPM2_RS_PW);
        tpm_write_u16(&to, 0);
        tpm_write_u8(&to, 1);
        tpm_write_u16(&to, (uint16_t)n);
        tpm_write_bytes(&to, (const uint8_t *)SECRET, n);
        record.n_command = tpm_write_end(&to);

        tpm_write_begin(&from, TPM2_ST_SESSIONS, TPM2_RC_SUCCESS);
        tpm_write_u32(&from, 2000);
        tpm_write_bytes(&from, (const uint8_t *)SECRET, n);
        from.n_bytes += 2000 - n;
        tpm_write_u32(&from, 0x0000);
        tpm_write_u8(&from, 0);
        record.n_response = tpm_write_end(&from);
        assert_true(record.n_command > 0 && record.n_response > 2000);
        if (told)
                told(told_userdata, &record);
}

typedef struct Record {
        guint8 kind, locality;
        guint64 when, lost, client, wait_us, took_us;
        guint32 uid, pid, n_transmits;
        char name[64];
        gsize n_command, n_response;
        guint32 code; /* of the command */
        bool secret;  /* it is somewhere in the bytes */
} Record;

/* Return: false: there is none. */
static bool take(int fd, Record *ret_record) {
        static uint8_t bytes[MANAGER_RECORD_MAX];
        g_autoptr(GVariant) command = NULL, response = NULL, variant = NULL;
        ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        const char *name;
        TpmReader reader;

        if (n < 0) {
                assert_int_equal(errno, EAGAIN);
                return false;
        }
        variant = g_variant_ref_sink(
                g_variant_new_from_data(G_VARIANT_TYPE(MANAGER_RECORD_TYPE), bytes, (gsize)n, FALSE, NULL, NULL));
        assert_true(g_variant_is_normal_form(variant));
        g_variant_get(variant, "(ytttuu&syttu@ay@ay)", &ret_record->kind, &ret_record->when, &ret_record->lost,
                      &ret_record->client, &ret_record->uid, &ret_record->pid, &name, &ret_record->locality,
                      &ret_record->wait_us, &ret_record->took_us, &ret_record->n_transmits, &command, &response);
        g_strlcpy(ret_record->name, name, sizeof(ret_record->name));
        ret_record->n_command = g_variant_get_size(command);
        ret_record->n_response = g_variant_get_size(response);
        reader = TPM_READER(g_variant_get_data(command), ret_record->n_command);
        ret_record->code = tpm_read_header(&reader).code;
        ret_record->secret = memmem(bytes, (size_t)n, SECRET, strlen(SECRET)) != NULL;
        return true;
}

static void test_what_is_told(void **state) {
        fd_auto plain = open_trace((TraceOptions){ 0 });
        fd_auto all = open_trace((TraceOptions){ .tpm = true, .payload = true });
        gint64 before = g_get_real_time();
        Record record;

        happen(true);
        happen(false);
        assert_true(take(plain, &record));
        assert_int_equal(record.kind, MANAGER_RECORD_CLIENT);
        assert_true(record.when + 1000900 >= (guint64)before && record.when + 1000900 <= (guint64)g_get_real_time());
        assert_int_equal(record.lost, 0);
        assert_int_equal(record.client, 12);
        assert_int_equal(record.uid, 1000);
        assert_int_equal(record.pid, 4711);
        assert_string_equal(record.name, "tpm2_unseal");
        assert_int_equal(record.locality, 3);
        assert_int_equal(record.wait_us, 70);
        assert_int_equal(record.took_us, 900);
        assert_int_equal(record.n_transmits, 2);
        assert_int_equal(record.code, TPM2_CC_Unseal);
        assert_int_equal(record.n_command, 38);
        assert_int_equal(record.n_response, 2019);
        assert_false(record.secret);
        assert_false(take(plain, &record));

        assert_true(take(all, &record));
        assert_int_equal(record.kind, MANAGER_RECORD_TPM);
        assert_int_equal(record.client, 0);
        assert_int_equal(record.pid, getpid());
        assert_true(record.secret);
        assert_true(take(all, &record));
        assert_int_equal(record.kind, MANAGER_RECORD_CLIENT);
        assert_true(record.secret);
        assert_false(take(all, &record));
        assert_null(memmem(traces, malloc_usable_size(traces), SECRET, strlen(SECRET)));
}

static void test_who_is_slow_loses(void **state) {
        fd_auto slow = open_trace((TraceOptions){ 0 });
        fd_auto quick = open_trace((TraceOptions){ .payload = true });
        unsigned n_slow = 0;
        Record record;

        for (unsigned i = 0; i < FLOOD; i++) {
                happen(false);
                assert_true(take(quick, &record));
                assert_int_equal(record.lost, 0);
        }
        while (take(slow, &record)) {
                assert_int_equal(record.lost, 0);
                n_slow++;
        }
        assert_in_range(n_slow, 1, FLOOD - 1);
        assert_int_equal(traces_n_dropped(traces), FLOOD - n_slow);
        /* the loop notices that there is room; the next one tells, and then it is told */
        while (g_main_context_iteration(NULL, FALSE))
                continue;
        happen(false);
        happen(false);
        assert_true(take(slow, &record));
        assert_int_equal(record.lost, FLOOD - n_slow);
        assert_true(take(slow, &record));
        assert_int_equal(record.lost, 0);
        assert_int_equal(traces_n_dropped(traces), FLOOD - n_slow);
}

static void test_places(void **state) {
        int fds[TRACES_MAX];
        Record record;

        assert_null(told);
        for (unsigned i = 0; i < TRACES_MAX; i++)
                fds[i] = open_trace((TraceOptions){ 0 });
        assert_int_equal(open_trace((TraceOptions){ 0 }), -1);
        /* nothing is sent to the one that hangs up, and its place is free all the same */
        fds[1] = fd_close(fds[1]);
        until((fds[1] = open_trace((TraceOptions){ 0 })) >= 0);
        assert_int_equal(open_trace((TraceOptions){ 0 }), -1);
        /* what a subscriber says is not heard */
        assert_int_equal(send(fds[2], "x", 1, MSG_NOSIGNAL), 1);
        while (g_main_context_iteration(NULL, FALSE))
                continue;
        happen(false);
        assert_true(take(fds[2], &record));
        /* something is sent before a hang-up is noticed */
        fds[3] = fd_close(fds[3]);
        happen(false);
        fds[3] = open_trace((TraceOptions){ 0 });
        assert_true(fds[3] >= 0);
        assert_int_equal(traces_n_dropped(traces), 0);
        for (unsigned i = 0; i < TRACES_MAX; i++) {
                assert_non_null(told);
                fd_close(fds[i]);
        }
        until(!told);
}

/* A place is as new for the next one. */
static void test_loss_is_ones_own(void **state) {
        int fd = open_trace((TraceOptions){ 0 });
        Record record;

        for (unsigned i = 0; i < FLOOD; i++)
                happen(false);
        assert_true(traces_n_dropped(traces) > 0);
        fd_close(fd);
        until(!told);
        fd = open_trace((TraceOptions){ 0 });
        happen(false);
        assert_true(take(fd, &record));
        assert_int_equal(record.lost, 0);
        fd_close(fd);
        until(!told);
}

static void test_end_of_the_daemon(void **state) {
        fd_auto fd = open_trace((TraceOptions){ 0 });
        char byte;

        traces = traces_free(traces);
        assert_null(told);
        assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_what_is_told, setup, teardown),
                cmocka_unit_test_setup_teardown(test_who_is_slow_loses, setup, teardown),
                cmocka_unit_test_setup_teardown(test_places, setup, teardown),
                cmocka_unit_test_setup_teardown(test_loss_is_ones_own, setup, teardown),
                cmocka_unit_test_setup_teardown(test_end_of_the_daemon, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
