/* SPDX-License-Identifier: BSD-2-Clause */
#include "fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

static char running[PATH_MAX + 1];

/* Which one it was. */
static void on_abort(int signal_number) {
        (void)!write(STDERR_FILENO, running, strlen(running));
}

/* Runs a fuzzer's function over the files of a folder: replay FOLDER. For builds without libFuzzer. */
static bool replay(const char *folder, const char *name) {
        static uint8_t bytes[1 << 20];
        char path[PATH_MAX];
        uint8_t *copy;
        FILE *file;
        size_t n;

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        file = fopen(path, "rb");
        if (!file)
                return false;
        n = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        /* Of its own size, so that a sanitizer sees what is read behind it. */
        copy = malloc(n + (n == 0));
        if (!copy)
                return false;
        memcpy(copy, bytes, n);
        snprintf(running, sizeof(running), "%s\n", path);
        LLVMFuzzerTestOneInput(copy, n);
        free(copy);
        return true;
}

int main(int argc, char **argv) {
        DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
        const struct dirent *entry;
        unsigned n = 0;

        signal(SIGABRT, on_abort);
        if (!folder) {
                fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
                return 2;
        }
        while ((entry = readdir(folder)))
                if (entry->d_name[0] != '.') {
                        if (!replay(argv[1], entry->d_name)) {
                                fprintf(stderr, "%s cannot be read\n", entry->d_name);
                                return 1;
                        }
                        n++;
                }
        closedir(folder);
        printf("%u inputs\n", n);
        return n == 0; /* an empty folder proves nothing */
}
