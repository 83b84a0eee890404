/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/report.h"
#include "broker/test-fake.h"
#include "frontend/stream.h"
#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/fd.h"
#include "util/protocol.h"
#include "util/test-rights.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

#define CLIENTS 3

typedef struct Client {
        int fd;
        int inner; /* the stream's own */
        Stream *stream;
        unsigned n_closed;
} Client;

static Bench bench;
static Client clients[CLIENTS];

static void client_closed(Stream *stream, void *userdata) {
        Client *client = userdata;

        assert_ptr_equal(stream, client->stream);
        client->stream = NULL;
        client->n_closed++;
}

static void client_open(Client *client, bool reserved_codes, uint32_t localities) {
        const StreamConfig config = {
                .loop = bench.loop,
                .broker = bench.broker,
                .localities = localities,
                .reserved_codes = reserved_codes,
        };
        const Peer peer = { .uid = 0 };
        int fds[2], size = 1;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* the kernel's minimum */
        *client = (Client){ .fd = fds[1], .inner = fds[0] };
        client->stream = stream_new(&config, fds[0], &peer, client_closed, client, NULL);
        assert_non_null(client->stream);
}

/* Clients that have not said hello. */
static int setup_bare(void **state) {
        bench_begin(&bench, CLIENTS + 1);
        bench_start(&bench);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(&clients[i], true, 1u << 3);
        return 0;
}

static int teardown(void **state) {
        for (unsigned i = 0; i < CLIENTS; i++) {
                clients[i].stream = stream_free(clients[i].stream);
                clients[i].fd = fd_close(clients[i].fd);
        }
        bench_end(&bench);
        return 0;
}

static void put(unsigned i, const uint8_t *bytes, size_t n) {
        assert_int_equal(send(clients[i].fd, bytes, n, MSG_NOSIGNAL), n);
}

static void put_header(unsigned i, uint32_t size, uint32_t code) {
        uint8_t bytes[TPM_HEADER_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_u16(&writer, TPM2_ST_NO_SESSIONS);
        tpm_write_u32(&writer, size);
        tpm_write_u32(&writer, code);
        put(i, bytes, sizeof(bytes));
}

static void put_command(unsigned i, TPM2_CC code, uint8_t tag) {
        uint8_t bytes[64];

        put(i, bytes, fake_command(bytes, code, tag));
}

/* Whether a whole response is there; it is taken, and its code and last byte told. */
static bool get(unsigned i, TSS2_RC *ret_rc, uint8_t *ret_last) {
        uint8_t bytes[256];
        ssize_t n = recv(clients[i].fd, bytes, TPM_HEADER_SIZE, MSG_PEEK);
        TpmReader reader = TPM_READER(bytes, n > 0 ? (size_t)n : 0);
        TpmHeader header = tpm_read_header(&reader);

        if (reader.bad)
                return false;
        assert_in_range(header.size, TPM_HEADER_SIZE, sizeof(bytes));
        assert_int_equal(recv(clients[i].fd, bytes, header.size, 0), header.size);
        *ret_rc = header.code;
        *ret_last = bytes[header.size - 1];
        return true;
}

static void expect(unsigned i, TSS2_RC expected) {
        TSS2_RC rc = 0;
        uint8_t last;

        bench_until(get(i, &rc, &last));
        assert_int_equal(rc, expected);
}

static void expect_end(unsigned i) {
        uint8_t byte;

        bench_until(clients[i].n_closed == 1);
        assert_int_equal(recv(clients[i].fd, &byte, 1, 0), 0);
}

static size_t hello(uint8_t bytes[static 64], uint32_t flags) {
        TpmWriter writer = TPM_WRITER(bytes, 64);

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM_STREAM_CC_HELLO);
        tpm_write_u32(&writer, flags);
        return tpm_write_end(&writer);
}

static void expect_greeting(unsigned i) {
        uint8_t last = 0;
        TSS2_RC rc = 1;

        bench_until(get(i, &rc, &last));
        assert_int_equal(rc, TSS2_RC_SUCCESS);
        assert_int_equal(last, TPM_STREAM_LAYERS);
}

static int setup(void **state) {
        uint8_t bytes[64];

        setup_bare(state);
        for (unsigned i = 0; i < CLIENTS; i++) {
                put(i, bytes, hello(bytes, TPM_STREAM_LAYERS));
                expect_greeting(i);
        }
        return 0;
}

/* The fake answers the command it holds, which is the one so tagged. */
static void answer(uint8_t tag) {
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.tag, tag);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
}

/* Waiting costs nothing, whatever is waited for. */
static void assert_no_spin(void) {
        struct timespec before, after;
        double seconds;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
        bench_run_ms(1000);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
        seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
        assert_true(seconds < 0.2);
}

static void test_command(void **state) {
        uint8_t bytes[64];
        size_t n = fake_command(bytes, FAKE_SLOW, 7);

        put(0, bytes, n);
        answer(7);
        expect(0, TSS2_RC_SUCCESS);

        for (size_t i = 0; i < n; i++) {
                put(0, bytes + i, 1);
                bench_settle();
        }
        answer(7);
        expect(0, TSS2_RC_SUCCESS);

        put_header(0, TPM_HEADER_SIZE, TPM2_CC_SelfTest); /* the smallest there is */
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        expect(0, TSS2_RC_SUCCESS);
}

static void test_largest(void **state) {
        uint8_t bytes[TPM_MESSAGE_DEFAULT] = { 0 };
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_u16(&writer, TPM2_ST_NO_SESSIONS);
        tpm_write_u32(&writer, sizeof(bytes));
        tpm_write_u32(&writer, FAKE_SLOW);
        bytes[sizeof(bytes) - 1] = 9;
        put(0, bytes, 1000);
        bench_settle();
        put(0, bytes + 1000, sizeof(bytes) - 1000);
        answer(9);
        expect(0, TSS2_RC_SUCCESS);

        put_header(0, TPM_MESSAGE_DEFAULT + 1, FAKE_SLOW);
        expect(0, RM_RC(TPM2_RC_COMMAND_SIZE));
        expect_end(0);
}

static void test_pipeline(void **state) {
        uint8_t bytes[4 * 64];
        size_t n = 0;

        for (uint8_t tag = 1; tag <= 4; tag++)
                n += fake_command(bytes + n, FAKE_SLOW, tag);
        put(0, bytes, n);
        shutdown(clients[0].fd, SHUT_WR);
        for (uint8_t tag = 1; tag <= 4; tag++) {
                answer(tag);
                expect(0, TSS2_RC_SUCCESS);
        }
        expect_end(0);
}

/* F5: a client that sends half a header, or half a command, waits alone. */
static void test_half(void **state) {
        uint8_t bytes[64];
        size_t n = fake_command(bytes, FAKE_SLOW, 1);

        put(0, bytes, 5);
        put(1, bytes, n - 1);
        put_command(2, FAKE_SLOW, 3);
        answer(3);
        expect(2, TSS2_RC_SUCCESS);
        assert_no_spin();

        shutdown(clients[0].fd, SHUT_WR);
        expect_end(0);
        shutdown(clients[1].fd, SHUT_WR);
        expect_end(1);
        assert_int_equal(fake_count(&bench.fake, FAKE_SLOW), 1);
}

static void test_half_close(void **state) {
        put_command(0, FAKE_SLOW, 1);
        bench_until(fake_waits(&bench.fake));
        shutdown(clients[0].fd, SHUT_WR);
        assert_no_spin();
        assert_int_equal(clients[0].n_closed, 0);
        answer(1);
        expect(0, TSS2_RC_SUCCESS);
        expect_end(0);

        put_command(1, FAKE_SLOW, 2);
        shutdown(clients[1].fd, SHUT_WR); /* before it was read */
        answer(2);
        expect(1, TSS2_RC_SUCCESS);
        expect_end(1);
}

static void test_hang_up(void **state) {
        put_command(0, FAKE_SLOW, 1);
        bench_until(fake_waits(&bench.fake));
        put_command(1, FAKE_SLOW, 2);
        put_command(2, FAKE_SLOW, 3);
        bench_settle();
        clients[0].fd = fd_close(clients[0].fd);
        clients[1].fd = fd_close(clients[1].fd);
        bench_until(clients[0].n_closed == 1 && clients[1].n_closed == 1);
        assert_no_spin();
        answer(1); /* carried to its end */
        answer(3); /* the waiting one is dropped */
        expect(2, TSS2_RC_SUCCESS);
}

/* F6: a client that does not read its answers is not read from, and its bytes stay in the kernel. */
static void test_never_reading(void **state) {
        unsigned n_sent = 0, n_got = 0;
        uint8_t bytes[64], last;
        size_t n = fake_command(bytes, FAKE_SLOW, 1);
        gint64 hang = g_get_monotonic_time() + FAKE_HANG_SECONDS * G_USEC_PER_SEC;
        bool full = false;
        TSS2_RC rc;

        bench.fake.refuse_open = true;
        fake_lose(&bench.fake); /* all is answered at once now */
        while (!full && g_get_monotonic_time() < hang) {
                ssize_t r = send(clients[0].fd, bytes, n, MSG_NOSIGNAL);

                full = r < 0;
                if (r < 0)
                        assert_int_equal(errno, EAGAIN);
                else
                        assert_int_equal(r, n);
                n_sent += !full;
                bench_settle();
        }
        assert_true(full);
        put_command(1, FAKE_SLOW, 1);
        expect(1, RM_RC(TPM2_RC_INITIALIZE));
        assert_no_spin();

        while (n_got < n_sent && g_get_monotonic_time() < hang) {
                n_got += get(0, &rc, &last);
                bench_settle();
        }
        assert_int_equal(n_got, n_sent);
        put_command(0, FAKE_SLOW, 1);
        expect(0, RM_RC(TPM2_RC_INITIALIZE));
}

static void test_never_reading_hangs_up(void **state) {
        uint8_t bytes[64];
        size_t n = fake_command(bytes, FAKE_SLOW, 1);

        bench.fake.refuse_open = true;
        fake_lose(&bench.fake);
        while (send(clients[0].fd, bytes, n, MSG_NOSIGNAL) > 0)
                bench_settle();
        clients[0].fd = fd_close(clients[0].fd);
        bench_until(clients[0].n_closed == 1);
}

static void test_garbage(void **state) {
        uint8_t bytes[2048] = { 0 };

        put(0, bytes, sizeof(bytes)); /* size 0 */
        expect(0, RM_RC(TPM2_RC_COMMAND_SIZE));
        expect_end(0);
        put_header(1, 9, FAKE_SLOW);
        expect(1, RM_RC(TPM2_RC_COMMAND_SIZE));
        expect_end(1);
        put_header(2, 0xffffffff, FAKE_SLOW);
        expect(2, RM_RC(TPM2_RC_COMMAND_SIZE));
        expect_end(2);
        assert_int_equal(bench.fake.n_log, 0);
}

/* The beginning of another protocol, which waits for an answer to its first line; and after a command. */
static void test_other_protocols(void **state) {
        static const uint8_t LINES[][7] = { "\0AUTH\r\n", "GET /\r\n" };
        uint8_t last = 0;
        TSS2_RC rc = 0;

        put(0, LINES[0], 7);
        expect(0, RM_RC(TPM2_RC_COMMAND_SIZE));
        expect_end(0);
        put(1, LINES[1], 3); /* its size begins with "T" */
        expect(1, RM_RC(TPM2_RC_COMMAND_SIZE));
        expect_end(1);
        put(2, LINES[0], 2); /* TPM_ST of 1.2 begin so, too */
        bench_settle();
        assert_false(get(2, &rc, &last));
        put(2, LINES[0] + 2, 1);
        expect(2, RM_RC(TPM2_RC_COMMAND_SIZE));
        expect_end(2);
        assert_int_equal(bench.fake.n_log, 0);
}

static void test_other_protocol_behind_a_command(void **state) {
        put_command(0, FAKE_SLOW, 5);
        put(0, (const uint8_t *)"\0AUTH", 5);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        expect(0, TSS2_RC_SUCCESS);
        expect(0, RM_RC(TPM2_RC_COMMAND_SIZE));
        expect_end(0);
}

static uint32_t count_charges(void) {
        BrokerReport report;

        broker_report(bench.broker, &report);
        return report.n_connections;
}

/* The offender is told, and pays until its socket is closed. */
static void test_descriptors(void **state) {
        uint8_t byte;
        TSS2_RC rc;

        assert_int_equal(count_charges(), CLIENTS);
        assert_int_equal(rights_send(clients[0].fd, STDERR_FILENO), 1);
        while (clients[0].n_closed == 0)
                g_main_context_iteration(NULL, TRUE);
        assert_int_equal(count_charges(), CLIENTS);
        bench_until(count_charges() == CLIENTS - 1);
        assert_true(get(0, &rc, &byte));
        assert_int_equal(rc, RM_RC(TPM2_RC_COMMAND_SIZE));
        assert_int_equal(clients[0].n_closed, 1); /* it may hear a reset: what it passed lies unread */

        put_header(1, TPM_HEADER_SIZE - 1, TPM2_CC_GetRandom); /* the others are served */
        expect(1, RM_RC(TPM2_RC_COMMAND_SIZE));
}

/* The last reply finds the socket full: it still comes whole, and the stream ends after it. */
static void test_full_at_the_end(void **state) {
        const uint8_t JUNK[TPM_HEADER_SIZE] = { 0 };
        uint8_t bytes[TPM_HEADER_SIZE];
        unsigned n_junk[2] = { 0 };

        put_command(0, FAKE_SLOW, 1);
        bench_until(fake_waits(&bench.fake));
        shutdown(clients[0].fd, SHUT_WR);
        bench_settle();
        for (unsigned i = 0; i < 2; i++)
                while (send(clients[i].inner, JUNK, sizeof(JUNK), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(JUNK))
                        n_junk[i]++;
        answer(1);
        put_header(1, 9, FAKE_SLOW);
        assert_no_spin();
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(clients[i].n_closed, 0);
                for (; n_junk[i] > 0; n_junk[i]--)
                        assert_int_equal(recv(clients[i].fd, bytes, sizeof(bytes), 0), sizeof(bytes));
                expect(i, i == 0 ? TSS2_RC_SUCCESS : RM_RC(TPM2_RC_COMMAND_SIZE));
                expect_end(i);
        }
}

static void test_cancel(void **state) {
        uint8_t bytes[64];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        put_header(1, TPM_STREAM_CANCEL_SIZE, TPM_STREAM_CC_CANCEL); /* nothing to cancel: dropped */
        put_command(0, FAKE_SLOW, 1);
        bench_until(fake_waits(&bench.fake));

        /* one that waits, the cancel in the same segment, and one more command behind it */
        writer.n_bytes = fake_command(bytes, FAKE_SLOW, 2);
        tpm_write_u16(&writer, TPM2_ST_NO_SESSIONS);
        tpm_write_u32(&writer, TPM_STREAM_CANCEL_SIZE);
        tpm_write_u32(&writer, TPM_STREAM_CC_CANCEL);
        writer.n_bytes += fake_command(bytes + writer.n_bytes, FAKE_SLOW, 3);
        put(1, bytes, writer.n_bytes);
        expect(1, TPM2_RC_CANCELED);

        /* one that runs, and can be cancelled */
        bench.fake.can_cancel = true;
        put_header(0, TPM_STREAM_CANCEL_SIZE, TPM_STREAM_CC_CANCEL);
        bench_until(bench.fake.n_cancels == 1);
        fake_answer(&bench.fake, TPM2_RC_CANCELED);
        expect(0, TPM2_RC_CANCELED);
        answer(3);
        expect(1, TSS2_RC_SUCCESS);

        put_header(0, TPM_STREAM_CANCEL_SIZE + 1, TPM_STREAM_CC_CANCEL);
        put(0, bytes, 1);
        expect(0, RM_RC(TPM2_RC_COMMAND_SIZE));
        put_command(0, FAKE_SLOW, 4);
        answer(4);
        expect(0, TSS2_RC_SUCCESS);
}

/* What stands behind an outstanding command waits there, and wakes nobody. */
static void test_bytes_behind(void **state) {
        uint8_t bytes[64];
        size_t n = fake_command(bytes, FAKE_SLOW, 2);

        put_command(0, FAKE_SLOW, 1);
        bench_until(fake_waits(&bench.fake));
        for (unsigned i = 0; i < 20; i++)
                put(0, bytes, n);
        assert_no_spin();
        answer(1);
        expect(0, TSS2_RC_SUCCESS);
        for (unsigned i = 0; i < 20; i++) {
                answer(2);
                expect(0, TSS2_RC_SUCCESS);
        }
}

static void test_locality(void **state) {
        uint8_t locality[] = { 3, 1 };

        put_header(0, TPM_STREAM_SET_LOCALITY_SIZE, TPM_STREAM_CC_SET_LOCALITY);
        put(0, &locality[0], 1);
        expect(0, TSS2_RC_SUCCESS);
        put_command(0, FAKE_SLOW, 1);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.locality, 3);
        answer(1);
        expect(0, TSS2_RC_SUCCESS);

        put_header(0, TPM_STREAM_SET_LOCALITY_SIZE, TPM_STREAM_CC_SET_LOCALITY);
        put(0, &locality[1], 1);
        expect(0, RM_RC(TPM2_RC_LOCALITY));
        put_header(0, TPM_STREAM_SET_LOCALITY_SIZE - 1, TPM_STREAM_CC_SET_LOCALITY);
        expect(0, RM_RC(TPM2_RC_COMMAND_SIZE));
        put_command(0, FAKE_SLOW, 2);
        answer(2);
        expect(0, TSS2_RC_SUCCESS);
}

/* Where the reserved codes are off, they are commands like any other. */
static void test_codes_off(void **state) {
        uint8_t locality = 3, last;
        TSS2_RC rc;

        stream_free(clients[0].stream);
        fd_close(clients[0].fd);
        client_open(&clients[0], false, 1u << 3);
        put_header(0, TPM_STREAM_SET_LOCALITY_SIZE, TPM_STREAM_CC_SET_LOCALITY);
        put(0, &locality, 1);
        bench_until(get(0, &rc, &last));
        put_header(0, TPM_STREAM_CANCEL_SIZE, TPM_STREAM_CC_CANCEL);
        bench_until(get(0, &rc, &last));
        put_command(0, FAKE_SLOW, 1);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.locality, 0);
}

/* A cancel that comes by another way finds the command that was sent before it. */
static void test_poll(void **state) {
        put_command(0, FAKE_SLOW, 1);
        bench_until(fake_waits(&bench.fake));
        put_command(1, FAKE_SLOW, 2);
        stream_poll(clients[1].stream);
        assert_int_equal(connection_cancel(stream_connection(clients[1].stream)), TSS2_RC_SUCCESS);
        expect(1, TPM2_RC_CANCELED);

        clients[2].fd = fd_close(clients[2].fd);
        stream_poll(clients[2].stream);
        assert_int_equal(clients[2].n_closed, 0); /* still there for its caller */
        assert_int_equal(connection_cancel(stream_connection(clients[2].stream)), TSS2_RC_SUCCESS);
        bench_until(clients[2].n_closed == 1);
}

static void test_stream_free(void **state) {
        put_command(0, FAKE_SLOW, 1);
        put_command(1, FAKE_SLOW, 2);
        bench_until(fake_waits(&bench.fake));
        clients[1].stream = stream_free(clients[1].stream);
        clients[0].stream = stream_free(clients[0].stream);
        assert_int_equal(clients[0].n_closed, 0);
        put_command(2, FAKE_SLOW, 3);
        answer(1);
        answer(3);
        expect(2, TSS2_RC_SUCCESS);
}

static void test_refused(void **state) {
        const StreamConfig config = { .loop = bench.loop, .broker = bench.broker };
        const Peer peer = { 0 };
        g_autoptr(GError) error = NULL;
        Client extra;
        int fd = dup(clients[0].fd);

        client_open(&extra, true, 1);
        assert_null(stream_new(&config, fd, &peer, client_closed, NULL, &error));
        assert_non_null(error);
        assert_int_equal(close(fd), 0); /* left to the caller */
        stream_free(extra.stream);
        fd_close(extra.fd);
}

/* A client that does not know layers hears a TPM's own codes. */
static void test_codes_without_layers(void **state) {
        put_header(0, TPM_STREAM_SET_LOCALITY_SIZE, TPM_STREAM_CC_SET_LOCALITY);
        put(0, (const uint8_t[]){ 1 }, 1);
        expect(0, TPM2_RC_LOCALITY);
        put_header(0, TPM_HEADER_SIZE, TPM_STREAM_CC_HELLO);
        expect(0, TPM2_RC_COMMAND_SIZE);
        bench.fake.backend.localities = false;
        put_header(0, TPM_STREAM_SET_LOCALITY_SIZE, TPM_STREAM_CC_SET_LOCALITY);
        put(0, (const uint8_t[]){ 3 }, 1);
        expect(0, TPM2_RC_COMMAND_CODE); /* "not implemented", which TPMs have no code for */
        put_header(0, TPM_HEADER_SIZE - 1, FAKE_SLOW);
        expect(0, TPM2_RC_COMMAND_SIZE);
        expect_end(0);
}

/* What the TPM says itself is passed on as it is, whatever client and layer. */
static void test_codes_of_the_tpm(void **state) {
        const TSS2_RC codes[] = { TPM2_RC_LOCALITY, TPM2_RC_REFERENCE_H0, TPM2_RC_CANCELED };

        for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
                put_command(0, FAKE_SLOW, 1);
                bench_until(fake_waits(&bench.fake));
                fake_answer(&bench.fake, codes[i]);
                expect(0, codes[i]);
        }
}

/* Both can be sent in one go, and are answered in order. Layers can be given up again. */
static void test_hello_in_front(void **state) {
        uint8_t bytes[3 * 64];
        size_t n = hello(bytes, TPM_STREAM_LAYERS);

        n += fake_command(bytes + n, FAKE_SLOW, 5);
        put(0, bytes, n);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(recv(clients[0].fd, bytes, sizeof(bytes), MSG_PEEK), -1); /* it comes with the answer */
        answer(5);
        expect_greeting(0);
        expect(0, TSS2_RC_SUCCESS);
        put_header(0, TPM_HEADER_SIZE, TPM_STREAM_CC_HELLO);
        expect(0, RM_RC(TPM2_RC_COMMAND_SIZE));
        put(0, bytes, hello(bytes, 0));
        expect_greeting(0);
        put_header(0, TPM_HEADER_SIZE, TPM_STREAM_CC_HELLO);
        expect(0, TPM2_RC_COMMAND_SIZE);
}

/* It is answered alone when no command follows it at once, whatever does. */
static void test_hello_alone(void **state) {
        uint8_t bytes[3 * 64];
        size_t n;

        for (unsigned byte = 0; byte < TPM_STREAM_HELLO_SIZE; byte++) {
                hello(bytes, TPM_STREAM_LAYERS);
                put(0, bytes + byte, 1);
                bench_settle();
        }
        expect_greeting(0);

        n = hello(bytes, TPM_STREAM_LAYERS);
        n += hello(bytes + n, TPM_STREAM_LAYERS);
        put(0, bytes, n);
        expect_greeting(0);
        expect_greeting(0);

        put(0, bytes, hello(bytes, TPM_STREAM_LAYERS));
        put_header(0, TPM_STREAM_CANCEL_SIZE, TPM_STREAM_CC_CANCEL);
        expect_greeting(0);

        n = hello(bytes, TPM_STREAM_LAYERS);
        put(0, bytes, n + 5); /* half a header */
        expect_greeting(0);

        put(1, bytes, hello(bytes, TPM_STREAM_LAYERS));
        shutdown(clients[1].fd, SHUT_WR);
        expect_greeting(1);
        expect_end(1);
}

/* Hello and a command, cut in two anywhere: both are answered, in order. */
static void test_hello_and_half_a_command(void **state) {
        uint8_t bytes[2 * 64];
        size_t n = hello(bytes, TPM_STREAM_LAYERS);

        n += fake_command(bytes + n, FAKE_SLOW, 5);
        for (size_t cut = 1; cut < n; cut++) {
                put(0, bytes, cut);
                bench_settle();
                put(0, bytes + cut, n - cut);
                answer(5);
                expect_greeting(0);
                expect(0, TSS2_RC_SUCCESS);
        }
}

/* What a later client adds to it does no harm. */
static void test_longer_hello(void **state) {
        uint8_t bytes[64] = { 0 };
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM_STREAM_CC_HELLO);
        tpm_write_u32(&writer, UINT32_MAX);
        tpm_write_u64(&writer, UINT64_MAX);
        put(0, bytes, tpm_write_end(&writer));
        expect_greeting(0);
        put_header(0, TPM_HEADER_SIZE, TPM_STREAM_CC_HELLO);
        expect(0, RM_RC(TPM2_RC_COMMAND_SIZE));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_command, setup, teardown),
                cmocka_unit_test_setup_teardown(test_largest, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pipeline, setup, teardown),
                cmocka_unit_test_setup_teardown(test_half, setup, teardown),
                cmocka_unit_test_setup_teardown(test_half_close, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hang_up, setup, teardown),
                cmocka_unit_test_setup_teardown(test_never_reading, setup, teardown),
                cmocka_unit_test_setup_teardown(test_never_reading_hangs_up, setup, teardown),
                cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_protocols, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_protocol_behind_a_command, setup, teardown),
                cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
                cmocka_unit_test_setup_teardown(test_full_at_the_end, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bytes_behind, setup, teardown),
                cmocka_unit_test_setup_teardown(test_locality, setup, teardown),
                cmocka_unit_test_setup_teardown(test_codes_off, setup, teardown),
                cmocka_unit_test_setup_teardown(test_poll, setup, teardown),
                cmocka_unit_test_setup_teardown(test_stream_free, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_codes_without_layers, setup_bare, teardown),
                cmocka_unit_test_setup_teardown(test_codes_of_the_tpm, setup_bare, teardown),
                cmocka_unit_test_setup_teardown(test_hello_in_front, setup_bare, teardown),
                cmocka_unit_test_setup_teardown(test_hello_alone, setup_bare, teardown),
                cmocka_unit_test_setup_teardown(test_hello_and_half_a_command, setup_bare, teardown),
                cmocka_unit_test_setup_teardown(test_longer_hello, setup_bare, teardown),
        };

        return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
