/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <tss2/tss2_tcti.h>
#include <unistd.h>

/*
 * tcti-processes fork|fork-busy|fork-namespace|threads|reload|load|closed LIBRARY CONF
 *
 * What programs do with a TCTI library that they have loaded, and that must not matter to it. Each client asks for
 * random bytes in numbers that are its own, and has a key of its own whose name it knows: who gets somebody else's
 * answer notices. Ends with 0, or says what went wrong.
 */
#define COMMANDS 1000
#define THREADS 16
#define WORKERS 4
#define LOADS 100

#define RC_NOBODY_KNOWS 0xB0101

#define DEMAND(condition)                                                                                              \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%d: line %d: %s\n", (int)getpid(), __LINE__, #condition);                     \
                        exit(EXIT_FAILURE);                                                                            \
                }                                                                                                      \
        } while (0)

typedef struct Library {
        void *handle;
        TSS2_TCTI_INIT_FUNC init;
} Library;

static const char *path, *conf;

static Library library_load(void) {
        Library library = { .handle = dlopen(path, RTLD_NOW | RTLD_LOCAL) };

        DEMAND(library.handle);
        *(void **)&library.init = dlsym(library.handle, "Tss2_Tcti_Tabrmd_Init");
        DEMAND(library.init);
        return library;
}

static TSS2_TCTI_CONTEXT *context_new(const Library *library) {
        TSS2_TCTI_CONTEXT *context;
        size_t size = 0;

        DEMAND(library->init(NULL, &size, conf) == TSS2_RC_SUCCESS);
        context = calloc(1, size);
        DEMAND(context);
        DEMAND(library->init(context, &size, conf) == TSS2_RC_SUCCESS);
        return context;
}

static void context_free(TSS2_TCTI_CONTEXT *context) {
        Tss2_Tcti_Finalize(context);
        free(context);
}

static uint32_t u32_at(const uint8_t *bytes) {
        return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Return: the response code; its size goes to @n. */
static uint32_t ask(TSS2_TCTI_CONTEXT *context, const uint8_t *command, size_t n_command, uint8_t *response,
                    size_t *n) {
        DEMAND(Tss2_Tcti_Transmit(context, n_command, command) == TSS2_RC_SUCCESS);
        DEMAND(Tss2_Tcti_Receive(context, n, response, TSS2_TCTI_TIMEOUT_BLOCK) == TSS2_RC_SUCCESS);
        DEMAND(*n >= 10 && u32_at(response + 2) == *n);
        return u32_at(response + 6);
}

static void ask_random(TSS2_TCTI_CONTEXT *context, uint8_t n_bytes) {
        const uint8_t command[] = { 0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, n_bytes };
        uint8_t response[4096];
        size_t n = sizeof(response);

        DEMAND(ask(context, command, sizeof(command), response, &n) == 0);
        DEMAND(n == 12u + n_bytes);
}

/* A keyedhash key that differs by @unique: cheap to make. */
static uint32_t make_key(TSS2_TCTI_CONTEXT *context, uint8_t unique) {
        uint8_t command[] = { 0x80, 0x02, 0, 0,    0,  0, 0,      0, 0x01, 0x31, 0x40, 0, 0,    0x01, 0,
                              0,    0,    9, 0x40, 0,  0, 9,      0, 0,    0,    0,    0, 0,    4,    0,
                              0,    0,    0, 0,    15, 0, 0x08,   0, 0x0b, 0,    0x04, 0, 0x72, 0,    0,
                              0,    0x05, 0, 0x0b, 0,  1, unique, 0, 0,    0,    0,    0, 0 };
        uint8_t response[4096];
        size_t n = sizeof(response);

        command[5] = sizeof(command);
        command[34] = sizeof(command) - 35 - 6;
        DEMAND(ask(context, command, sizeof(command), response, &n) == 0);
        return u32_at(response + 10);
}

/* Its public area ends in what it was made of, hashed; that of another key does not. */
static uint32_t key_sum(TSS2_TCTI_CONTEXT *context, uint32_t key) {
        const uint8_t command[] = { 0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x73, key >> 24, key >> 16, key >> 8, key };
        uint8_t response[4096];
        size_t n = sizeof(response);
        uint32_t sum = 0;

        DEMAND(ask(context, command, sizeof(command), response, &n) == 0);
        for (size_t i = 10; i < n; i++)
                sum = sum * 31 + response[i];
        return sum;
}

/* Many commands; sizes of answers that nobody else asks for. */
static void work(TSS2_TCTI_CONTEXT *context, unsigned who, unsigned n_commands) {
        uint32_t key = make_key(context, who);
        uint32_t sum = key_sum(context, key);

        for (unsigned i = 0; i < n_commands; i++) {
                ask_random(context, 1 + who);
                if (i % 10 == 0)
                        DEMAND(key_sum(context, key) == sum);
        }
}

static void expect_end(pid_t pid) {
        int status = -1;

        DEMAND(waitpid(pid, &status, 0) == pid);
        DEMAND(status == 0);
}

/* Both sides go on with the context that they had. */
static void run_fork(void) {
        Library library = library_load();
        TSS2_TCTI_CONTEXT *context = context_new(&library);
        uint32_t key = make_key(context, 30), sum = key_sum(context, key);
        pid_t pid = fork();

        DEMAND(pid >= 0);
        work(context, pid == 0 ? 1 : 2, COMMANDS);
        if (pid == 0) {
                context_free(context);
                _exit(0);
        }
        expect_end(pid);
        DEMAND(key_sum(context, key) == sum);
        context_free(context);
        dlclose(library.handle);
}

/* While a command is out: the answer is the parent's. */
static void run_fork_busy(void) {
        const uint8_t command[] = { 0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 20 };
        Library library = library_load();
        TSS2_TCTI_CONTEXT *context = context_new(&library);

        for (unsigned i = 0; i < 50; i++) {
                uint8_t response[4096];
                size_t n = sizeof(response);
                pid_t pid;

                DEMAND(Tss2_Tcti_Transmit(context, sizeof(command), command) == TSS2_RC_SUCCESS);
                pid = fork();
                DEMAND(pid >= 0);
                if (pid == 0) {
                        DEMAND(Tss2_Tcti_Receive(context, &n, response, TSS2_TCTI_TIMEOUT_BLOCK) == TSS2_RC_SUCCESS);
                        DEMAND(n == 10 && u32_at(response + 6) == RC_NOBODY_KNOWS);
                        ask_random(context, 7);
                        context_free(context);
                        _exit(0);
                }
                DEMAND(Tss2_Tcti_Receive(context, &n, response, TSS2_TCTI_TIMEOUT_BLOCK) == TSS2_RC_SUCCESS);
                DEMAND(n == 12 + 20);
                expect_end(pid);
                ask_random(context, 9);
        }
        context_free(context);
        dlclose(library.handle);
}

/* Process 1 of a PID namespace forks process 1 of another: by their numbers they are the same. */
static void run_fork_namespace(void) {
        Library library = library_load();
        TSS2_TCTI_CONTEXT *context = context_new(&library);
        pid_t pid;

        DEMAND(getpid() == 1);
        ask_random(context, 3);
        DEMAND(unshare(CLONE_NEWPID) == 0);
        pid = fork();
        DEMAND(pid >= 0);
        DEMAND(getpid() == 1);
        work(context, pid == 0 ? 1 : 2, COMMANDS);
        if (pid == 0) {
                context_free(context);
                _exit(0);
        }
        expect_end(pid);
        ask_random(context, 4);
        context_free(context);
        dlclose(library.handle);
}

/* Without standard input, output and error: what the program prints must not get into a connection. */
static void run_closed(void) {
        Library library = library_load();
        TSS2_TCTI_CONTEXT *context;

        for (int fd = 0; fd < 3; fd++)
                close(fd);
        context = context_new(&library);
        work(context, 5, 20);
        if (write(STDOUT_FILENO, "text", 4) >= 0 || write(STDERR_FILENO, "text", 4) >= 0)
                _exit(2);
        ask_random(context, 6);
        for (int fd = 0; fd < 3; fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        _exit(3);
        context_free(context);
        dlclose(library.handle);
}

static void *thread_work(void *userdata) {
        const Library *library = userdata;
        static unsigned n_started;
        unsigned who = __atomic_add_fetch(&n_started, 1, __ATOMIC_SEQ_CST);
        TSS2_TCTI_CONTEXT *context = context_new(library);

        work(context, who, COMMANDS / 2);
        context_free(context);
        return NULL;
}

static void run_threads(void) {
        Library library = library_load();
        pthread_t threads[THREADS];

        for (unsigned i = 0; i < THREADS; i++)
                DEMAND(pthread_create(&threads[i], NULL, thread_work, &library) == 0);
        for (unsigned i = 0; i < THREADS; i++)
                DEMAND(pthread_join(threads[i], NULL) == 0);
        dlclose(library.handle);
}

static void start_workers(TSS2_TCTI_CONTEXT *context, unsigned first, pid_t *ret_pids) {
        for (unsigned i = 0; i < WORKERS; i++) {
                ret_pids[i] = fork();
                DEMAND(ret_pids[i] >= 0);
                if (ret_pids[i] > 0)
                        continue;
                work(context, first + i, COMMANDS / 5);
                context_free(context);
                _exit(0);
        }
}

/* A server whose master loads its modules anew while workers of before still answer. */
static void run_reload(void) {
        pid_t pids[2 * WORKERS];

        for (unsigned round = 0; round < 5; round++) {
                Library library = library_load();
                TSS2_TCTI_CONTEXT *context = context_new(&library);

                ask_random(context, 25);
                start_workers(context, 1 + round % 2 * WORKERS, pids + round % 2 * WORKERS);
                ask_random(context, 26);
                context_free(context);
                dlclose(library.handle);
                for (unsigned i = 0; round > 0 && i < WORKERS; i++)
                        expect_end(pids[(round - 1) % 2 * WORKERS + i]);
        }
        for (unsigned i = 0; i < WORKERS; i++)
                expect_end(pids[i]);
}

/* Entries of a folder in /proc. */
static unsigned count(const char *folder) {
        DIR *dir = opendir(folder);
        unsigned n = 0;

        DEMAND(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static bool is_mapped(void) {
        FILE *file = fopen("/proc/self/maps", "re");
        char line[512];
        bool found = false;

        DEMAND(file);
        while (fgets(line, sizeof(line), file))
                found |= strstr(line, "tcti-tabrmd") != NULL;
        fclose(file);
        return found;
}

static void run_load(void) {
        unsigned n_fds = count("/proc/self/fd"), n_threads = count("/proc/self/task");

        for (unsigned i = 0; i < LOADS; i++) {
                Library library = library_load();
                TSS2_TCTI_CONTEXT *context = context_new(&library);

                DEMAND(is_mapped());
                work(context, 1, 5);
                context_free(context);
                dlclose(library.handle);
                DEMAND(!is_mapped());
        }
        DEMAND(count("/proc/self/fd") == n_fds);
        DEMAND(count("/proc/self/task") == n_threads);
}

int main(int argc, char **argv) {
        static const struct {
                const char *name;
                void (*run)(void);
        } modes[] = {
                { "fork", run_fork },       { "fork-busy", run_fork_busy }, { "fork-namespace", run_fork_namespace },
                { "threads", run_threads }, { "reload", run_reload },       { "load", run_load },
                { "closed", run_closed },
        };

        if (argc != 4)
                return EXIT_FAILURE;
        path = argv[2];
        conf = argv[3];
        for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
                if (strcmp(argv[1], modes[i].name) != 0)
                        continue;
                modes[i].run();
                return EXIT_SUCCESS;
        }
        return EXIT_FAILURE;
}
