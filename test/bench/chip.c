/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/address.h"
#include "test/bench/wire.h"
#include "test/lib/fake-chips.h"
#include "test/lib/inprocess.h"
#include "test/lib/tpm-commands.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/*
 * A real TPM (libtpms) with the pace of a chip: chip HOST:PORT [NAME PERCENT]
 *
 * As swtpm does, it listens at PORT for commands, and at the next port for control. A command takes PERCENT of the time
 * that the chip NAME of test/lib/fake-chips.c takes, and never less than libtpms. Of control requests, only one does
 * something: CTRL_COUNT of the fake TPM.
 */
#define CTRL_COUNT 0x1000 /* the result is followed by the commands so far, u32 */

enum { LISTEN_DATA, LISTEN_CTRL, DATA, CTRL, N_FDS };

typedef struct Chip {
        unsigned pace_us[FAKE_PACES];
        struct pollfd fds[N_FDS];
        Message command;
} Chip;

static int listen_at(struct sockaddr_in address, unsigned offset) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        address.sin_port = htons((uint16_t)(ntohs(address.sin_port) + offset));
        if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0) {
                perror("chip");
                exit(EXIT_FAILURE);
        }
        return fd;
}

static void drop(Chip *chip, unsigned i) {
        close(chip->fds[i].fd);
        chip->fds[i].fd = -1;
}

static void sleep_until(uint64_t ns) {
        struct timespec t = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
                ;
}

static void answer(Chip *chip, TPM2_CC code) {
        uint64_t begin = now_ns();
        const Message *command = &chip->command;
        unsigned pace = chip->pace_us[fake_pace_of(code, command->bytes, command->n)];
        uint8_t response[TPM_MESSAGE_MAX];
        size_t n = inprocess_run(command->bytes, command->n, response, sizeof(response));

        if (pace > 0)
                sleep_until(begin + (uint64_t)pace * 1000);
        if (send(chip->fds[DATA].fd, response, n, MSG_NOSIGNAL) != (ssize_t)n)
                drop(chip, DATA);
}

static void on_data(Chip *chip) {
        Message *command = &chip->command;
        ssize_t n = recv(chip->fds[DATA].fd, command->bytes + command->n, sizeof(command->bytes) - command->n, 0);
        TpmReader reader = TPM_READER(command->bytes, command->n + (n > 0 ? (size_t)n : 0));
        TpmHeader header = tpm_read_header(&reader);

        if (n <= 0) {
                drop(chip, DATA);
                command->n = 0;
                return;
        }
        command->n += (size_t)n;
        if (reader.bad || command->n < header.size)
                return;
        answer(chip, header.code);
        command->n = 0;
}

static void on_ctrl(Chip *chip) {
        uint8_t request[256], result[8] = { 0 };
        ssize_t n = recv(chip->fds[CTRL].fd, request, sizeof(request), 0);
        TpmReader reader = TPM_READER(request, n > 0 ? (size_t)n : 0);
        size_t n_result = tpm_read_u32(&reader) == CTRL_COUNT ? 8 : 4;

        tpm_put_u32(result + 4, inprocess_count());
        if (reader.bad || send(chip->fds[CTRL].fd, result, n_result, MSG_NOSIGNAL) != (ssize_t)n_result)
                drop(chip, CTRL);
}

/* One client at a time: the next one waits until it is gone. */
static void serve(Chip *chip) {
        struct pollfd *fds = chip->fds;

        for (;;) {
                for (unsigned i = 0; i < N_FDS; i++)
                        fds[i].events = i >= DATA || fds[i + DATA].fd < 0 ? POLLIN : 0;
                if (poll(fds, N_FDS, -1) < 0)
                        continue;
                if (fds[CTRL].fd >= 0 && fds[CTRL].revents)
                        on_ctrl(chip);
                if (fds[DATA].fd >= 0 && fds[DATA].revents)
                        on_data(chip);
                for (unsigned i = DATA; i < N_FDS; i++) {
                        if (fds[i].fd >= 0 || !(fds[i - DATA].revents & POLLIN))
                                continue;
                        fds[i].fd = accept4(fds[i - DATA].fd, NULL, NULL, SOCK_CLOEXEC);
                        (void)setsockopt(fds[i].fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
                }
        }
}

int main(int argc, char **argv) {
        static Chip chip;
        struct sockaddr_in address;
        FakeTpmConfig config = { 0 };
        Message startup = cmd_startup(TPM2_SU_CLEAR);
        uint8_t response[TPM_MESSAGE_MAX];

        if ((argc != 2 && argc != 4) || !parse_address(argv[1], &address) ||
            (argc == 4 && !fake_chip(argv[2], (unsigned)atoi(argv[3]), &config))) {
                fprintf(stderr, "usage: chip HOST:PORT [NAME PERCENT]\n");
                return EXIT_FAILURE;
        }
        memcpy(chip.pace_us, config.pace_us, sizeof(chip.pace_us));
        (void)prctl(PR_SET_TIMERSLACK, 1000);
        chip.fds[LISTEN_DATA].fd = listen_at(address, 0);
        chip.fds[LISTEN_CTRL].fd = listen_at(address, 1);
        chip.fds[DATA].fd = chip.fds[CTRL].fd = -1;
        inprocess_start();
        (void)inprocess_run(startup.bytes, startup.n, response, sizeof(response));
        printf("ready\n");
        fflush(stdout);
        serve(&chip);
}
