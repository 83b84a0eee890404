/* SPDX-License-Identifier: BSD-2-Clause */

/* The parts that the library does not export: D-Bus messages, and a bus that means no good. */
#include "tcti/conf.h"
#include "tcti/dbus.h"
#include "tcti/link.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <tss2/tss2_tcti.h>
#include <unistd.h>

#include <cmocka.h>

static char reason[WHY_MAX]; /* why there was no connection */

/* A reply as dbus-daemon writes it; big endian on demand. */
typedef struct Made {
        uint8_t bytes[512];
        size_t n;
        bool big;
} Made;

static void add(Made *made, uint64_t value, size_t n) {
        while (made->n % n)
                made->bytes[made->n++] = 0;
        for (size_t i = 0; i < n; i++)
                made->bytes[made->n + i] = value >> 8 * (made->big ? n - 1 - i : i);
        made->n += n;
}

static void set_u32(Made *made, size_t at, uint32_t value) {
        Made here = { .n = at, .big = made->big };

        add(&here, value, 4);
        memcpy(made->bytes + at, here.bytes + at, 4);
}

static void add_string(Made *made, const char *string, size_t n_size) {
        add(made, strlen(string), n_size);
        memcpy(made->bytes + made->n, string, strlen(string) + 1);
        made->n += strlen(string) + 1;
}

static void add_field(Made *made, uint8_t code, char type, const char *string, uint32_t number) {
        while (made->n % 8)
                made->bytes[made->n++] = 0;
        add(made, code, 1);
        add_string(made, (char[]){ type, 0 }, 1);
        if (type == 'u' || type == 't')
                add(made, number, type == 'u' ? 4 : 8);
        else
                add_string(made, string, type == 'g' ? 1 : 4);
}

static uint32_t n_said_fds; /* in the header */

static Made make_reply(bool big, uint8_t type, uint32_t serial, const char *error, const char *signature,
                       uint64_t value) {
        Made made = { .big = big };
        size_t body;

        memcpy(made.bytes, (uint8_t[]){ big ? 'B' : 'l', type, 1, 1 }, 4);
        made.n = 4;
        add(&made, 0, 4);
        add(&made, 77, 4);
        add(&made, 0, 4);
        add_field(&made, 7, 's', ":1.5", 0);
        add_field(&made, 5, 'u', NULL, serial);
        add_field(&made, 200, 't', NULL, 4711); /* which nobody knows */
        if (error)
                add_field(&made, 4, 's', error, 0);
        if (n_said_fds > 0)
                add_field(&made, 9, 'u', NULL, n_said_fds);
        if (*signature)
                add_field(&made, 8, 'g', signature, 0);
        set_u32(&made, 12, made.n - 16);
        while (made.n % 8)
                made.bytes[made.n++] = 0;
        body = made.n;
        if (*signature == 's')
                add_string(&made, "there is no room", 4);
        else if (*signature)
                add(&made, value, *signature == 't' ? 8 : 4);
        set_u32(&made, 4, made.n - body);
        return made;
}

static void test_messages_in_both_orders(void **state) {
        DbusMessage message;
        uint64_t number;

        for (unsigned big = 0; big < 2; big++) {
                Made made = make_reply(big, DBUS_RETURN, 3, NULL, "t", 0x1122334455667788);

                assert_int_equal(dbus_message_size(made.bytes), made.n);
                assert_true(dbus_message_parse(made.bytes, made.n, &message));
                assert_int_equal(message.type, DBUS_RETURN);
                assert_int_equal(message.reply_serial, 3);
                assert_null(message.error);
                assert_true(dbus_message_number(&message, "t", &number));
                assert_true(number == 0x1122334455667788);
                assert_false(dbus_message_number(&message, "u", &number));
                made = make_reply(big, DBUS_ERROR, 4, "a.b.C", "", 0);
                assert_true(dbus_message_parse(made.bytes, made.n, &message));
                assert_string_equal(message.error, "a.b.C");
                assert_false(dbus_message_number(&message, "u", &number));
        }
}

/* Each byte set to what it is not: the parser may refuse or accept, but reads nothing outside (run with sanitizers). */
static void test_mutated_messages(void **state) {
        const uint8_t values[] = { 0, 1, 7, 0x7F, 0x80, 0xFF };
        unsigned n_refused = 0;

        for (unsigned big = 0; big < 2; big++) {
                const Made made = make_reply(big, DBUS_RETURN, 3, "x.y", "t", 1);

                for (size_t i = 0; i < made.n; i++)
                        for (size_t k = 0; k < sizeof(values); k++) {
                                uint8_t *copy = malloc(made.n);
                                DbusMessage message;
                                uint64_t number;

                                memcpy(copy, made.bytes, made.n);
                                copy[i] = values[k];
                                if (dbus_message_size(copy) != made.n || !dbus_message_parse(copy, made.n, &message))
                                        n_refused++;
                                else
                                        dbus_message_number(&message, "t", &number);
                                free(copy);
                        }
                for (size_t n = 0; n < made.n; n++) {
                        uint8_t *copy = malloc(n + 1);
                        DbusMessage message;

                        memcpy(copy, made.bytes, n);
                        assert_false(dbus_message_parse(copy, n, &message));
                        free(copy);
                }
        }
        assert_in_range(n_refused, 100, 2000);
}

static void test_sizes_that_lie(void **state) {
        Made made = make_reply(false, DBUS_RETURN, 3, NULL, "t", 1);

        set_u32(&made, 4, 0xFFFFFFF0);
        assert_int_equal(dbus_message_size(made.bytes), 0);
        set_u32(&made, 4, 8);
        set_u32(&made, 12, 0xFFFFFFF9);
        assert_int_equal(dbus_message_size(made.bytes), 0);
        set_u32(&made, 12, DBUS_MESSAGE_LIMIT);
        assert_int_equal(dbus_message_size(made.bytes), 0);
}

/* A bus in a thread, which says what the test wants */

typedef enum Mood {
        FRIENDLY,     /* signals first, then the reply with a descriptor */
        NO_FD,        /* the reply, without one */
        MANY_FDS,     /* sixteen of them */
        FILE_FD,      /* one that is no socket */
        WRONG_SERIAL, /* a reply to something else, then the end */
        ENDLESS,      /* messages, but never the reply */
        HUGE_MESSAGE,
        GARBAGE,
        REJECTED, /* authentication fails */
        NO_FDS_AGREED,
        LONG_LINE,
        SILENT_END, /* hangs up after the call */
        AN_ERROR,
        UNKNOWN_NAME,
        DENIED,
        ANOTHER_ERROR,
        FDS_THAT_LIE,
        REJECTED_ONCE,
} Mood;

static char folder[64];
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static int listener;
static Mood mood;
static int stream_end; /* the daemon's end of what it handed out */

static bool read_until(int fd, const char *end) {
        char text[256];
        size_t n = 0;

        while (n < sizeof(text) - 1 && recv(fd, text + n, 1, 0) == 1) {
                text[++n] = '\0';
                if (n >= strlen(end) && strcmp(text + n - strlen(end), end) == 0)
                        return true;
        }
        return false;
}

static void say(int fd, const void *bytes, size_t n) {
        (void)!send(fd, bytes, n, MSG_NOSIGNAL);
}

static bool read_call(int fd) {
        uint8_t bytes[1024];
        size_t n;

        if (recv(fd, bytes, 16, MSG_WAITALL) != 16)
                return false;
        n = dbus_message_size(bytes);
        return n > 16 && n <= sizeof(bytes) && recv(fd, bytes + 16, n - 16, MSG_WAITALL) == (ssize_t)n - 16;
}

static void say_with_fds(int fd, const Made *made, const int *fds, size_t n_fds) {
        union {
                struct cmsghdr align;
                uint8_t bytes[CMSG_SPACE(16 * sizeof(int))];
        } control = { 0 };
        struct iovec iov = { .iov_base = (void *)made->bytes, .iov_len = made->n };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control };
        struct cmsghdr *c;

        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
        (void)!sendmsg(fd, &message, MSG_NOSIGNAL);
}

static void answer_create(int fd) {
        static const char *const errors[] = {
                "com.intel.tss2.Tabrmd.Error.General",
                "org.freedesktop.DBus.Error.ServiceUnknown",
                "org.freedesktop.DBus.Error.AccessDenied",
                "org.freedesktop.DBus.Error.LimitsExceeded",
        };
        Made signal = make_reply(false, 4, 0, NULL, "", 0);
        int pair[2], fds[16];
        Made reply;

        n_said_fds = mood == MANY_FDS ? 16 : mood == FDS_THAT_LIE ? 2 : 1;
        reply = make_reply(false, DBUS_RETURN, mood == WRONG_SERIAL ? 99 : 2, NULL, "t", 0xABCD);
        n_said_fds = 0;

        switch (mood) {
        case SILENT_END:
                return;
        case HUGE_MESSAGE:
                set_u32(&reply, 4, 0x7FFFFFFF);
                say(fd, reply.bytes, reply.n);
                return;
        case GARBAGE:
                memset(reply.bytes, 'x', sizeof(reply.bytes));
                say(fd, reply.bytes, sizeof(reply.bytes));
                return;
        case ENDLESS:
                for (unsigned i = 0; i < 1000; i++)
                        say(fd, signal.bytes, signal.n);
                return;
        case AN_ERROR:
        case UNKNOWN_NAME:
        case DENIED:
        case ANOTHER_ERROR:
                reply = make_reply(true, DBUS_ERROR, 2, errors[mood - AN_ERROR], "s", 0);
                say(fd, reply.bytes, reply.n);
                return;
        case NO_FD:
                say(fd, reply.bytes, reply.n);
                return;
        default:
                break;
        }
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
                return;
        stream_end = pair[0];
        for (size_t i = 0; i < 16; i++)
                fds[i] = mood == FILE_FD ? STDIN_FILENO : pair[1];
        say(fd, signal.bytes, signal.n);
        say_with_fds(fd, &reply, fds, mood == MANY_FDS ? 16 : 1);
        close(pair[1]);
}

static void serve(int fd) {
        Made hello = make_reply(false, DBUS_RETURN, 1, NULL, "", 0);
        char line[400];

        if (!read_until(fd, "\r\n"))
                return;
        memset(line, 'O', sizeof(line));
        if (mood == LONG_LINE)
                say(fd, line, sizeof(line));
        else
                say(fd, mood == REJECTED ? "REJECTED\r\n" : "OK 1234deadbeef\r\n", mood == REJECTED ? 10 : 17);
        if (!read_until(fd, "\r\n"))
                return;
        say(fd, mood == NO_FDS_AGREED ? "ERROR\r\n" : "AGREE_UNIX_FD\r\n", mood == NO_FDS_AGREED ? 7 : 15);
        if (!read_until(fd, "BEGIN\r\n") || !read_call(fd))
                return;
        say(fd, hello.bytes, hello.n);
        if (!read_call(fd))
                return;
        answer_create(fd);
        if (mood == FRIENDLY || mood == MANY_FDS) {
                Made reply = make_reply(true, DBUS_RETURN, 3, NULL, "u", 0);

                if (read_call(fd))
                        say(fd, reply.bytes, reply.n);
                reply = make_reply(true, DBUS_ERROR, 4, "com.intel.tss2.Tabrmd.Error.NotImplemented", "", 0);
                if (read_call(fd))
                        say(fd, reply.bytes, reply.n);
                reply = make_reply(true, DBUS_ERROR, 5, "com.intel.tss2.Tabrmd.Error.NotPermitted", "", 0);
                if (read_call(fd))
                        say(fd, reply.bytes, reply.n);
        }
}

static void serve_one(void) {
        int fd = accept(listener, NULL, NULL);

        serve(fd);
        /* What is not read yet must not turn the end into a reset. */
        shutdown(fd, SHUT_WR);
        close(fd);
}

static void *bus(void *unused) {
        if (mood == REJECTED_ONCE) {
                mood = REJECTED;
                serve_one();
                mood = FRIENDLY;
        }
        serve_one();
        return NULL;
}

/* Return: whether there is a connection then; else see reason. */
static bool with_bus(Mood m, void (*then)(Link *link)) {
        char text[400];
        pthread_t thread;
        Why why = { 0 };
        Link link;
        Conf conf;
        bool ok;

        mood = m;
        stream_end = -1;
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(listener, 1), 0);
        snprintf(text, sizeof(text), "tcp:host=x;unix:path=/nonexistent;unix:guid=1,path=%%2f%s%s%s",
                 address.sun_path + 1, m == REJECTED_ONCE ? ";unix:path=" : "",
                 m == REJECTED_ONCE ? address.sun_path : "");
        setenv("DBUS_SESSION_BUS_ADDRESS", text, 1);
        pthread_create(&thread, NULL, bus, NULL);

        assert_true(conf_parse("bus_type=session", &conf, &why));
        link_init(&link);
        ok = link_open(&link, &conf, &why);
        memcpy(reason, why.text, sizeof(reason));
        if (ok && then)
                then(&link);
        link_close(&link);
        pthread_join(thread, NULL);
        if (stream_end >= 0)
                close(stream_end);
        close(listener);
        unlink(address.sun_path);
        assert_int_equal(ok, *reason == '\0');
        return ok;
}

static void use_link(Link *link) {
        int own = link->dbus.fd;
        char c = 0;

        assert_true(link->id == 0xABCD);
        assert_int_equal(write(stream_end, "x", 1), 1);
        assert_int_equal(read(link->fd, &c, 1), 1);
        assert_int_equal(c, 'x');
        assert_int_equal(link_cancel(link), TSS2_RC_SUCCESS);
        assert_int_equal(link_cancel(link), 0xB0002);
        assert_int_equal(link_set_locality(link, 1), 0xB000C);
        if (mood == MANY_FDS) /* the program has closed it, and opened another by its number */
                assert_int_equal(dup2(STDERR_FILENO, own), own);
        assert_int_equal(link_set_locality(link, 1), TSS2_TCTI_RC_NO_CONNECTION);
        assert_false(link->up); /* it may have been done, and the daemon knows us by the bus alone */
        assert_int_equal(close(own), mood == MANY_FDS ? 0 : -1);
}

static int next_fd(void) {
        int fd = dup(STDERR_FILENO);

        close(fd);
        return fd;
}

static void test_buses(void **state) {
        static const struct {
                Mood mood;
                const char *reason;
        } bad[] = {
                { NO_FD, "no answer" },
                { FILE_FD, "no connection in the answer" },
                { WRONG_SERIAL, "no answer" },
                { ENDLESS, "no answer" },
                { HUGE_MESSAGE, "no answer" },
                { GARBAGE, "no answer" },
                { REJECTED, "it does not take this user in" },
                { NO_FDS_AGREED, "it does not take this user in" },
                { LONG_LINE, "it does not take this user in" },
                { SILENT_END, "no answer" },
                { AN_ERROR, "com.intel.tss2.Tabrmd: there is no room (its log says more)" },
                { UNKNOWN_NAME, "com.intel.tss2.Tabrmd: nobody has that name (is tpm2-abrmd running?" },
                { DENIED, "com.intel.tss2.Tabrmd: Permission denied (is this user in group tss?)" },
                { ANOTHER_ERROR, "org.freedesktop.DBus.Error.LimitsExceeded: there is no room" },
                { FDS_THAT_LIE, "no answer" },
        };
        int before = next_fd();

        assert_true(with_bus(FRIENDLY, use_link));
        assert_true(with_bus(MANY_FDS, use_link));
        assert_true(with_bus(REJECTED_ONCE, use_link));
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                assert_false(with_bus(bad[i].mood, NULL));
                assert_memory_equal(reason, "session bus: ", 13);
                assert_non_null(strstr(reason, bad[i].reason));
        }
        assert_int_equal(next_fd(), before); /* nothing stays open, whatever came */
}

static void test_no_bus(void **state) {
        static const struct {
                const char *text;
                bool usable; /* nobody is there, but somebody could be */
        } addresses[] = {
                { "unix:path=/nonexistent", true },
                { "unix:abstract=nobody-there", true },
                { "unix:path=/nonexist%65nT%2f", true },
                { "unix:path=%2F", true },
                { "unix:path=/nonexistent%zz", false },
                { "unix:path=/nonexistent%6", false },
                { "unix:path=/nonexistent%4,guid=1", false },
                { "unix:path=/nonexistent%+1", false },
                { "unix:path=/nonexistent% 1", false },
                { "unix:path=/nonexistent%0x1", false },
                { "unix:path=/nonexistent%", false },
                { "unix:path=/nonexistent%00", false },
                { "unix:abstract=%00", false },
                { "unix:", false },
                { "unix:runtime=yes", true },
                { "rubbish", false },
                { ";;;", false },
        };
        const Conf conf = { .kind = CONF_BUS, .session_bus = true, .bus_name = "a.b" };
        Link link;

        setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
        for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
                Why why = { 0 };

                setenv("DBUS_SESSION_BUS_ADDRESS", addresses[i].text, 1);
                link_init(&link);
                assert_false(link_open(&link, &conf, &why));
                assert_false(why.absent); /* it was asked for */
                assert_int_equal(!strstr(why.text, "no address that this library can use"), addresses[i].usable);
                link_close(&link);
        }
}

static int setup(void **state) {
        snprintf(folder, sizeof(folder), "/tmp/test-parts-XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/bus", folder);
        return 0;
}

static int teardown(void **state) {
        return rmdir(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_messages_in_both_orders),
                cmocka_unit_test(test_mutated_messages),
                cmocka_unit_test(test_sizes_that_lie),
                cmocka_unit_test(test_buses),
                cmocka_unit_test(test_no_bus),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
