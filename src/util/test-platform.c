/* SPDX-License-Identifier: BSD-2-Clause */

/* On Linux; see platform.h. */
#include "util/platform.h"

#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_peer(void **state) {
        int pair[2], pipe_fds[2];
        uid_t uid;
        pid_t pid;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_true(platform_peer(pair[0], &uid, &pid));
        assert_int_equal(uid, getuid());
        assert_int_equal(pid, getpid());
        assert_int_equal(pipe(pipe_fds), 0);
        assert_false(platform_peer(pipe_fds[0], &uid, &pid));
        assert_int_equal(errno, ENOTSOCK);
        for (unsigned i = 0; i < 2; i++) {
                close(pair[i]);
                close(pipe_fds[i]);
        }
}

static void test_process_name(void **state) {
        char name[32], little[5];

        assert_true(platform_process_name(getpid(), name, sizeof(name)));
        assert_string_equal(name, "test-platform");
        assert_true(platform_process_name(getpid(), little, sizeof(little)));
        assert_string_equal(little, "test");
        assert_false(platform_process_name(0x7FFFFFFF, name, sizeof(name)));
}

/* The file of a socket that is bound has its mode at once, whatever the umask. */
static void test_bind(void **state) {
        static const mode_t masks[] = { 0, 022, 0777 }, modes[] = { 0600, 0660, 0666 };
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char folder[] = "/tmp/test-platform-XXXXXX";
        struct stat st;

        assert_non_null(mkdtemp(folder));
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", folder);
        for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
                for (size_t k = 0; k < sizeof(modes) / sizeof(modes[0]); k++) {
                        mode_t before = umask(masks[i]);
                        fd_auto fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                        int r = platform_bind(fd, (struct sockaddr *)&address, sizeof(address), modes[k]);

                        assert_int_equal(umask(before), masks[i]);
                        assert_return_code(r, errno);
                        assert_int_equal(stat(address.sun_path, &st), 0);
                        assert_int_equal(st.st_mode & 0777, modes[k]);
                        unlink(address.sun_path);
                }
        }
        rmdir(folder);
}

static void test_hidden_process(void **state) {
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                platform_hide_process();
                _exit(prctl(PR_GET_DUMPABLE));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

/* The flags that the kernel has for the pages at @block. */
static void flags_of(const void *block, char flags[256]) {
        FILE *file = fopen("/proc/self/smaps", "re");
        char line[512], start[32];
        bool found = false;

        assert_non_null(file);
        snprintf(start, sizeof(start), "%lx-", (unsigned long)block);
        flags[0] = '\0';
        while (flags[0] == '\0' && fgets(line, sizeof(line), file)) {
                found = found || strncmp(line, start, strlen(start)) == 0;
                if (found && strncmp(line, "VmFlags:", 8) == 0)
                        snprintf(flags, 256, "%.255s", line);
        }
        fclose(file);
}

static void test_hidden_memory(void **state) {
        size_t size = 16 * (size_t)sysconf(_SC_PAGESIZE);
        void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        char flags[256];

        assert_true(block != MAP_FAILED);
        flags_of(block, flags);
        assert_null(strstr(flags, " dd"));
        platform_hide_memory(block, size);
        flags_of(block, flags);
        assert_non_null(strstr(flags, " dd"));
        munmap(block, size);
}

typedef struct Told {
        int watch;
        unsigned events; /* all so far */
        char name[64];
} Told;

static void tell(void *userdata, int watch, unsigned events, const char *name) {
        Told *told = userdata;

        told->watch = watch;
        told->events |= events;
        if (name)
                snprintf(told->name, sizeof(told->name), "%s", name);
}

static unsigned told_of(int fd, Told *told) {
        told->events = 0;
        platform_watch_read(fd, tell, told);
        return told->events;
}

static void test_watch(void **state) {
        char folder[] = "/tmp/test-platform-XXXXXX", path[64], other[64];
        fd_auto fd = platform_watch_new();
        int in_folder, file, node;
        Told told = { 0 };

        assert_return_code(fd, errno);
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/node", folder);
        snprintf(other, sizeof(other), "%s/other", folder);
        assert_int_equal(platform_watch_file(fd, path), -1);
        assert_int_equal(errno, ENOENT);
        in_folder = platform_watch_folder(fd, folder);
        assert_return_code(in_folder, errno);
        assert_int_equal(told_of(fd, &told), 0);

        file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        assert_return_code(file, errno);
        assert_int_equal(told_of(fd, &told), PLATFORM_NAMED);
        assert_int_equal(told.watch, in_folder);
        assert_string_equal(told.name, "node");
        node = platform_watch_file(fd, path);
        assert_int_equal(platform_watch_file(fd, path), node);
        assert_int_equal(write(file, "x", 1), 1);
        assert_int_equal(told_of(fd, &told), PLATFORM_USED);
        assert_int_equal(told.watch, node);
        close(open(path, O_RDONLY | O_CLOEXEC));
        assert_int_equal(told_of(fd, &told), PLATFORM_OPENED | PLATFORM_CLOSED);
        close(file);
        assert_int_equal(told_of(fd, &told), PLATFORM_CLOSED);
        assert_int_equal(rename(path, other), 0);
        assert_int_equal(told_of(fd, &told), PLATFORM_NAMED);
        platform_watch_end(fd, node);
        assert_int_equal(told_of(fd, &told), PLATFORM_UNWATCHED);
        unlink(other);
        rmdir(folder);
}

typedef struct Storm {
        const char *path;
        unsigned n_told;
} Storm;

/* For each event that is told, there are new ones. */
static void tell_in_storm(void *userdata, int watch, unsigned events, const char *name) {
        Storm *storm = userdata;

        if (storm->n_told++ < 100000)
                close(open(storm->path, O_RDONLY | O_CLOEXEC));
}

/* Who makes events as fast as they are told keeps nobody there. */
static void test_watch_in_a_storm(void **state) {
        char path[] = "/tmp/test-platform-XXXXXX";
        fd_auto file = mkostemp(path, O_CLOEXEC), fd = platform_watch_new();
        Storm storm = { .path = path };

        assert_return_code(file, errno);
        assert_return_code(platform_watch_file(fd, path), errno);
        close(open(path, O_RDONLY | O_CLOEXEC));
        platform_watch_read(fd, tell_in_storm, &storm);
        assert_int_equal(storm.n_told, 2);
        assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0), 1);
        unlink(path);
}

/* Whatever this kernel has: it has no such type, and does not say so for one that it has. */
static void test_key_types(void **state) {
        if (platform_may_have_keys("tabrmd-nonsense") && (errno == EPERM || errno == ENOSYS))
                skip(); /* a container that may not ask */
        assert_false(platform_may_have_keys("tabrmd-nonsense"));
        assert_true(platform_may_have_keys("user"));
}

static void test_process_start(void **state) {
        uint64_t own, again, other;
        int pipe_fds[2];
        pid_t pid;
        char c;

        assert_true(platform_process_start(getpid(), &own));
        assert_true(platform_process_start(getpid(), &again));
        assert_int_equal(own, again);
        assert_true(platform_process_start(1, &other));
        assert_true(other < own);

        /* A name that looks like the fields behind it changes nothing. */
        assert_int_equal(pipe(pipe_fds), 0);
        pid = fork();
        if (pid == 0) {
                (void)prctl(PR_SET_NAME, "a) R 1 2 3 4\n");
                close(pipe_fds[1]);
                (void)!read(pipe_fds[0], &c, 1);
                _exit(0);
        }
        close(pipe_fds[0]);
        assert_true(platform_process_start(pid, &other));
        assert_true(other >= own);
        close(pipe_fds[1]);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_false(platform_process_start(pid, &other));
}

static void test_process_end(void **state) {
        int pipe_fds[2], end;
        pid_t pid;
        char c;

        assert_int_equal(pipe(pipe_fds), 0);
        pid = fork();
        if (pid == 0) {
                close(pipe_fds[1]);
                (void)!read(pipe_fds[0], &c, 1);
                _exit(0);
        }
        close(pipe_fds[0]);
        end = platform_process_end(pid);
        assert_true(end >= 0);
        assert_int_equal(poll(&(struct pollfd){ .fd = end, .events = POLLIN }, 1, 0), 0);
        close(pipe_fds[1]);
        assert_int_equal(poll(&(struct pollfd){ .fd = end, .events = POLLIN }, 1, -1), 1);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(end);
        assert_int_equal(platform_process_end(pid), -1);
}

static void test_boot(void **state) {
        char first[PLATFORM_BOOT_SIZE], second[PLATFORM_BOOT_SIZE];

        assert_true(platform_boot(first));
        assert_true(platform_boot(second));
        assert_string_not_equal(first, "");
        assert_string_equal(first, second);
}

static void test_wipe_on_fork(void **state) {
        size_t n = (size_t)sysconf(_SC_PAGESIZE);
        char *page = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int status;
        pid_t pid;

        assert_true(page != MAP_FAILED);
        if (!platform_wipe_on_fork(page, n)) /* an emulator, or an old kernel */
                skip();
        page[0] = 1;
        pid = fork();
        if (pid == 0) {
                int in_child = page[0];

                /* and so on with the child of a child */
                page[0] = 1;
                pid = fork();
                if (pid > 0)
                        (void)waitpid(pid, &status, 0);
                _exit(in_child ? 1 : pid == 0 ? page[0] : WEXITSTATUS(status));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(page[0], 1);
        munmap(page, n);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_peer),          cmocka_unit_test(test_process_name),
                cmocka_unit_test(test_bind),          cmocka_unit_test(test_hidden_process),
                cmocka_unit_test(test_hidden_memory), cmocka_unit_test(test_watch),
                cmocka_unit_test(test_hidden_memory), cmocka_unit_test(test_watch_in_a_storm),
                cmocka_unit_test(test_hidden_memory), cmocka_unit_test(test_key_types),
                cmocka_unit_test(test_hidden_memory), cmocka_unit_test(test_process_start),
                cmocka_unit_test(test_process_end),   cmocka_unit_test(test_boot),
                cmocka_unit_test(test_wipe_on_fork),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
