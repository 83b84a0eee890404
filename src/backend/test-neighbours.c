/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/neighbours.h"

#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY 65534
#define SKIPPED 77 /* exit status of a child */

/* A file in a folder of its own stands for the node: the system tells of both alike. */
typedef struct Street {
        char folder[64];
        char *node;
        Loop *loop;
        Neighbours *neighbours;
        unsigned n_changes;
} Street;

static Street street;
static gint64 passed; /* since the test began, besides what really did */

gint64 g_get_monotonic_time(void) {
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (gint64)now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000 + passed;
}

static void on_change(void *userdata) {
        street.n_changes++;
}

static void make_node(void) {
        int fd = open(street.node, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

        assert_return_code(fd, errno);
        fd_close(fd);
}

static int street_begin(void **state) {
        passed = 0;
        street = (Street){ .folder = "/tmp/test-neighbours-XXXXXX" };
        assert_non_null(mkdtemp(street.folder));
        street.node = g_strdup_printf("%s/tpmrm0", street.folder);
        street.loop = loop_new(NULL);
        assert_non_null(street.loop);
        return 0;
}

static int street_end(void **state) {
        street.neighbours = neighbours_free(street.neighbours);
        street.loop = loop_free(street.loop);
        (void)unlink(street.node);
        rmdir(street.folder);
        g_free(street.node);
        return 0;
}

static void watch(void) {
        street.neighbours = neighbours_new(street.loop, street.node, on_change, NULL);
}

/* The sign so much later than now, once all that happened is known. */
static NeighboursSign sign_in(gint64 us) {
        while (g_main_context_iteration(NULL, FALSE))
                ;
        return neighbours_sign(street.neighbours, g_get_monotonic_time() + us);
}

static NeighboursSign sign_now(void) {
        return sign_in(0);
}

static int visit(void) {
        int fd = open(street.node, O_RDWR | O_CLOEXEC);

        assert_return_code(fd, errno);
        return fd;
}

static void use(int fd) {
        assert_int_equal(write(fd, "x", 1), 1);
}

/* Somebody may have had it open before; he is known once he uses it. */
static void test_start(void **state) {
        int early;

        make_node();
        early = visit();
        watch();
        assert_int_equal(sign_now(), NEIGHBOURS_START);
        assert_int_equal(sign_in(NEIGHBOURS_START_US), NEIGHBOURS_NONE);
        use(early);
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        assert_int_equal(street.n_changes, 1);
        assert_int_equal(sign_in(NEIGHBOURS_SILENT_US - G_USEC_PER_SEC), NEIGHBOURS_OPEN);
        fd_close(early);
        assert_int_equal(sign_in(NEIGHBOURS_START_US), NEIGHBOURS_RECENT);
        assert_int_equal(sign_in(NEIGHBOURS_GRACE_US), NEIGHBOURS_NONE);
}

/* For as long as he has it open, whatever he does; and some time more, since who came once comes again. */
static void test_visit(void **state) {
        int visitor;

        make_node();
        watch();
        visitor = visit();
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        assert_int_equal(street.n_changes, 1);
        use(visitor);
        assert_int_equal(sign_in(100 * NEIGHBOURS_SILENT_US), NEIGHBOURS_OPEN);
        assert_int_equal(street.n_changes, 1);
        fd_close(visitor);
        assert_int_equal(sign_in(NEIGHBOURS_START_US), NEIGHBOURS_RECENT);
        assert_int_equal(sign_in(NEIGHBOURS_GRACE_US), NEIGHBOURS_NONE);
        fd_close(visit());
        assert_int_equal(sign_in(NEIGHBOURS_GRACE_US - G_USEC_PER_SEC), NEIGHBOURS_RECENT);
}

static void test_two_visitors(void **state) {
        int first, second;

        make_node();
        watch();
        first = visit();
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        second = visit();
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        fd_close(first);
        assert_int_equal(sign_in(NEIGHBOURS_SILENT_US - G_USEC_PER_SEC), NEIGHBOURS_OPEN);
        use(second);
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        fd_close(second);
        assert_int_equal(sign_in(NEIGHBOURS_START_US), NEIGHBOURS_RECENT);
}

/* Both leave at once, which is told as one: who may be left is believed in for an hour, and no longer. */
static void test_two_leave_at_once(void **state) {
        int visitors[2];

        make_node();
        watch();
        for (unsigned i = 0; i < 2; i++) {
                visitors[i] = visit();
                assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        }
        fd_close(visitors[0]);
        fd_close(visitors[1]);
        assert_int_equal(sign_in(NEIGHBOURS_SILENT_US), NEIGHBOURS_NONE);
        fd_close(visit());
        assert_int_equal(sign_in(NEIGHBOURS_SILENT_US), NEIGHBOURS_NONE);
}

/* Who was given up stays so, whoever else comes later: what is counted wrong once does not count for ever. */
static void test_given_up(void **state) {
        int visitors[2], early;

        make_node();
        early = visit();
        watch();
        use(early);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
                visitors[i] = visit();
        }
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        fd_close(visitors[0]);
        fd_close(visitors[1]);
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        passed += NEIGHBOURS_SILENT_US;
        assert_int_equal(sign_now(), NEIGHBOURS_NONE);
        fd_close(visit());
        assert_int_equal(sign_now(), NEIGHBOURS_RECENT);
        use(early);
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        fd_close(early);
        assert_int_equal(sign_now(), NEIGHBOURS_RECENT);
}

/* Two come at once, which is told as one, and one of them leaves: the other is known again by his next command. */
static void test_two_come_at_once(void **state) {
        int visitors[2];

        make_node();
        watch();
        for (unsigned i = 0; i < 2; i++)
                visitors[i] = visit();
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        fd_close(visitors[0]);
        assert_int_equal(sign_in(NEIGHBOURS_START_US), NEIGHBOURS_RECENT);
        use(visitors[1]);
        assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
        fd_close(visitors[1]);
        assert_int_equal(sign_in(NEIGHBOURS_START_US), NEIGHBOURS_RECENT);
}

/* It comes after us, and goes, and comes again, as with its driver. */
static void test_node_comes_late(void **state) {
        watch();
        assert_int_equal(sign_now(), NEIGHBOURS_UNSEEN);
        assert_string_equal(neighbours_reason(street.neighbours), g_strerror(ENOENT));
        for (unsigned i = 0; i < 2; i++) {
                int visitor;

                make_node();
                assert_int_equal(sign_now(), NEIGHBOURS_START);
                assert_string_equal(neighbours_reason(street.neighbours), "");
                assert_int_equal(sign_in(NEIGHBOURS_START_US), NEIGHBOURS_NONE);
                visitor = visit();
                assert_int_equal(sign_now(), NEIGHBOURS_OPEN);
                assert_return_code(unlink(street.node), errno);
                assert_int_equal(sign_now(), NEIGHBOURS_UNSEEN);
                fd_close(visitor);
                assert_int_equal(sign_now(), NEIGHBOURS_UNSEEN);
        }
}

/* To be watched, it has to be readable. */
static void test_not_readable(void **state) {
        bool root = geteuid() == 0;

        make_node();
        assert_return_code(chmod(street.folder, 0755), errno);
        assert_return_code(chmod(street.node, 0), errno);
        if (root && seteuid(NOBODY) < 0)
                skip();
        watch();
        if (root)
                assert_return_code(seteuid(0), errno);
        assert_int_equal(sign_now(), NEIGHBOURS_UNSEEN);
        assert_string_equal(neighbours_reason(street.neighbours), g_strerror(EACCES));
        assert_return_code(chmod(street.node, 0644), errno);
        assert_int_equal(sign_now(), NEIGHBOURS_START);
}

/* More happened than the system keeps: nobody knows who is there. */
static void test_overflow(void **state) {
        g_autofree char *text = NULL;
        unsigned n;
        int visitors[2];

        assert_true(g_file_get_contents("/proc/sys/fs/inotify/max_queued_events", &text, NULL, NULL));
        n = (unsigned)strtoul(text, NULL, 10);
        make_node();
        watch();
        assert_int_equal(sign_in(NEIGHBOURS_START_US), NEIGHBOURS_NONE);
        for (unsigned i = 0; i < n / 2 + 8; i++)
                fd_close(visit());
        visitors[0] = visit();
        visitors[1] = visit();
        assert_int_equal(sign_in(NEIGHBOURS_SILENT_US - G_USEC_PER_SEC), NEIGHBOURS_OPEN);
        assert_int_equal(sign_in(NEIGHBOURS_SILENT_US), NEIGHBOURS_NONE);
        fd_close(visitors[0]);
        fd_close(visitors[1]);
}

static void test_nodes(void **state) {
        static const struct {
                const char *conf, *node;
        } rows[] = {
                { "device", "/dev/tpmrm0" },
                { "device:", "/dev/tpmrm0" },
                { "device:/dev/tpm0", "/dev/tpmrm0" },
                { "/dev/tpm12", "/dev/tpmrm12" },
                { "pcap:device:/dev/tpm1", "/dev/tpmrm1" },
                { "libtss2-tcti-device.so.0:/dev/tpm0", "/dev/tpmrm0" },
                { "device:/somewhere/tpm3", "/somewhere/tpmrm3" },
                /* Its own resource manager lies below us; or the library chooses. */
                { "device:/dev/tpmrm0", NULL },
                { "device:/dev/tpm", NULL },
                { "device:/dev/tpm0x", NULL },
                { "libtss2-tcti-device.so.0", NULL },
                { "swtpm:path=/x/tpm", NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *node = neighbours_node(rows[i].conf);

                if (rows[i].node)
                        assert_string_equal(node, rows[i].node);
                else
                        assert_null(node);
        }
}

/* A link is followed to the device that it names, whatever it is called itself. */
static void test_link(void **state) {
        static const struct {
                const char *link, *device, *node; /* in the folder */
        } rows[] = {
                { "the-tpm", "tpm7", "tpmrm7" },
                { "tpm0", "tpm7", "tpmrm7" },
                { "tpm0", "tpmrm7", NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *device = g_strdup_printf("%s/%s", street.folder, rows[i].device);
                g_autofree char *link = g_strdup_printf("%s/%s", street.folder, rows[i].link);
                g_autofree char *conf = g_strdup_printf("device:%s", link);
                g_autofree char *node = NULL;

                assert_true(g_file_set_contents(device, "", 0, NULL));
                assert_return_code(symlink(device, link), errno);
                node = neighbours_node(conf);
                (void)unlink(device);
                (void)unlink(link);
                if (rows[i].node)
                        assert_string_equal(strrchr(node, '/') + 1, rows[i].node);
                else
                        assert_null(node);
        }
}

/* A kernel that shows nothing of the device does not say what it does with it. */
static void test_kernel_that_says_nothing(void **state) {
        assert_true(neighbours_kernel("device:/dev/tpm4711").sessions);
        assert_true(neighbours_kernel("libtss2-tcti-device.so.0").sessions);
}

/* Return: whether no more files can be watched from now on, in this process. */
static bool use_up_watches(void) {
        fd_auto fd =
                unshare(CLONE_NEWUSER) == 0 ? open("/proc/sys/user/max_inotify_watches", O_WRONLY | O_CLOEXEC) : -1;

        return fd >= 0 && write(fd, "0", 1) == 1;
}

/* "No space left on device" would be taken for something else. */
static void test_no_watches_left(void **state) {
        int status;
        pid_t pid;

        make_node();
        pid = fork();
        if (pid == 0) {
                const char *reason;

                if (!use_up_watches())
                        _exit(SKIPPED);
                watch();
                reason = neighbours_reason(street.neighbours);
                _exit(strstr(reason, "fs.inotify.max_user_watches") ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == SKIPPED)
                skip(); /* no namespaces for users here */
        assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, street_begin, street_end)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_start),
                TEST(test_visit),
                TEST(test_two_visitors),
                TEST(test_two_leave_at_once),
                TEST(test_given_up),
                TEST(test_two_come_at_once),
                TEST(test_node_comes_late),
                TEST(test_not_readable),
                TEST(test_overflow),
                TEST(test_link),
                TEST(test_no_watches_left),
                cmocka_unit_test(test_nodes),
                cmocka_unit_test(test_kernel_that_says_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
