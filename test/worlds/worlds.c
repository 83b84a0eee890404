/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/act.h"
#include "test/worlds/explore.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * Explores small worlds completely: worlds [--depth N] [--faults KIND] [--verify]
 *
 * What fails is printed as a command that replays it. Exit status: 0, or 1 when a path failed.
 */

static const char *const KINDS[] = {
        [FAULTS_NONE] = "none",
        [FAULTS_WARNING] = "warning",
        [FAULTS_LOST] = "lost",
};

static void print_step(Step step) {
        printf("%s", act_name(step.act));
        if (step.fault)
                printf("/%s@%u", FAULTS[step.fault].name, step.at);
}

/* "A.make", or "A.make/RETRY@2": a fault at the third TPM command */
static bool parse_step(const char *text, Step *ret_step) {
        size_t n = strcspn(text, "/");
        const char *at = strchr(text, '@');

        *ret_step = (Step){ 0 };
        while (ret_step->act < act_count() &&
               (strncmp(act_name(ret_step->act), text, n) != 0 || act_name(ret_step->act)[n] != '\0'))
                ret_step->act++;
        if (ret_step->act == act_count() || text[n] == '\0')
                return ret_step->act < act_count();
        text += n + 1;
        if (!at)
                return false;
        ret_step->at = atoi(at + 1);
        n = at - text;
        while (ret_step->fault < N_FAULTS &&
               (strncmp(FAULTS[ret_step->fault].name, text, n) != 0 || FAULTS[ret_step->fault].name[n] != '\0'))
                ret_step->fault++;
        return ret_step->fault < N_FAULTS;
}

static int replay(char *text) {
        Path path = { 0 };

        for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
                if (path.n == DEPTH_MAX || !parse_step(word, &path.steps[path.n++])) {
                        fprintf(stderr, "worlds: %s is no step\n", word);
                        return 64;
                }
        world.verbose = true;
        for (unsigned i = 0; i < path.n && !world_failed(); i++) {
                const Path step = { .n = 1, .steps = { path.steps[i] } };

                print_step(path.steps[i]);
                printf("\n");
                if (!explore_replay(&step) && !world_failed())
                        printf("    not applicable\n");
        }
        printf("%s\n", world_failed() ? world.failure : "ok");
        return world_failed();
}

static int explore_all(unsigned depth, Faults faults, bool verify) {
        Figures figures;
        Path path;
        struct timespec begin, end;
        double seconds;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
        world.exact = verify;
        explore(depth, faults, verify, &figures, &path);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        seconds = end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9;
        printf("depth %u, faults %s: %" PRIu64 " states, %" PRIu64 " steps (%" PRIu64 " with a fault), %" PRIu64
               " commands, %" PRIu64 " of the TPM, %.1f s; %" PRIu64 " warnings told, %" PRIu64
               " probes refused, %" PRIu64 " for the moment\n",
               depth, KINDS[faults], figures.n_states, figures.n_steps, figures.n_faults, world.n_commands,
               world.n_transmits, seconds, world.n_told, world.n_probes, world.n_excused);
        if (!world_failed())
                return 0;
        printf("FAILED: %s\n    worlds --replay '", world.failure);
        for (unsigned i = 0; i < path.n; i++) {
                printf("%s", i > 0 ? " " : "");
                print_step(path.steps[i]);
        }
        printf("'\n");
        return 1;
}

static int usage(void) {
        fprintf(stderr, "usage: worlds [--chip NAME] [--depth N] [--faults none|warning|lost] [--verify]\n"
                        "       worlds [--chip NAME] --replay 'STEP...'\n");
        return 64;
}

int main(int argc, char **argv) {
        static const struct option OPTIONS[] = {
                { "chip", required_argument, NULL, 'c' },   { "depth", required_argument, NULL, 'd' },
                { "faults", required_argument, NULL, 'f' }, { "replay", required_argument, NULL, 'r' },
                { "verify", no_argument, NULL, 'v' },       { 0 },
        };
        unsigned depth = 4;
        unsigned faults = FAULTS_NONE;
        char *path = NULL;
        const char *chip = NULL;
        bool verify = false;
        int option, status;

        while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
                if (option == 'c')
                        chip = optarg;
                else if (option == 'd')
                        depth = atoi(optarg);
                else if (option == 'r')
                        path = optarg;
                else if (option == 'v')
                        verify = true;
                else if (option != 'f')
                        return usage();
                for (faults = option == 'f' ? 0 : faults; option == 'f' && faults <= FAULTS_LOST; faults++)
                        if (strcmp(KINDS[faults], optarg) == 0)
                                break;
        }
        if (optind < argc || faults > FAULTS_LOST || depth < 1 || depth > DEPTH_MAX)
                return usage();
        setvbuf(stdout, NULL, _IOLBF, 0);
        if (!world_open(chip)) {
                fprintf(stderr, "worlds: there is no world\n");
                return 1;
        }
        status = path ? replay(path) : explore_all(depth, faults, verify);
        world_close();
        return status;
}
