/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tss2/tss2-tcti-tabrmd.h>
#include <tss2/tss2_tpm2_types.h>

/*
 * client CONF
 *
 * Linked with the client library, as portable.py has built it for another libc. Says a line and waits for one: when the
 * TPM is to be held up, when it must have got the first context's command, and when it is to be let go. Meanwhile a
 * second context waits, and takes its command back. Ends with 0, or says what went wrong.
 */
#define RESPONSE_MAX 4096
#define HEADER_SIZE 10
#define RANDOM_BYTES 8

#define DEMAND(condition)                                                                                              \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                        \
                        exit(EXIT_FAILURE);                                                                            \
                }                                                                                                      \
        } while (0)

static TSS2_TCTI_CONTEXT *context_new(const char *conf) {
        TSS2_TCTI_CONTEXT *context;
        size_t size = 0;

        DEMAND(Tss2_Tcti_Tabrmd_Init(NULL, &size, conf) == TSS2_RC_SUCCESS);
        context = calloc(1, size);
        DEMAND(context);
        DEMAND(Tss2_Tcti_Tabrmd_Init(context, &size, conf) == TSS2_RC_SUCCESS);
        return context;
}

static void context_free(TSS2_TCTI_CONTEXT *context) {
        Tss2_Tcti_Finalize(context);
        free(context);
}

/* Return: the response code. */
static uint32_t receive(TSS2_TCTI_CONTEXT *context, size_t *ret_size) {
        uint8_t response[RESPONSE_MAX];

        *ret_size = sizeof(response);
        DEMAND(Tss2_Tcti_Receive(context, ret_size, response, TSS2_TCTI_TIMEOUT_BLOCK) == TSS2_RC_SUCCESS);
        DEMAND(*ret_size >= HEADER_SIZE);
        return (uint32_t)response[6] << 24 | (uint32_t)response[7] << 16 | (uint32_t)response[8] << 8 | response[9];
}

static void send_random(TSS2_TCTI_CONTEXT *context) {
        const uint8_t command[] = { 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, RANDOM_BYTES };

        DEMAND(Tss2_Tcti_Transmit(context, sizeof(command), command) == TSS2_RC_SUCCESS);
}

static void receive_random(TSS2_TCTI_CONTEXT *context) {
        size_t size;

        DEMAND(receive(context, &size) == TPM2_RC_SUCCESS);
        DEMAND(size == HEADER_SIZE + 2 + RANDOM_BYTES);
}

static void ask_random(TSS2_TCTI_CONTEXT *context) {
        send_random(context);
        receive_random(context);
}

static void say_and_wait(const char *line) {
        DEMAND(puts(line) >= 0 && fflush(stdout) == 0);
        DEMAND(getchar() == '\n');
}

int main(int argc, char **argv) {
        TSS2_TCTI_CONTEXT *first, *second;
        size_t size;

        DEMAND(argc == 2);
        first = context_new(argv[1]);
        second = context_new(argv[1]);
        ask_random(first);
        ask_random(second);
        DEMAND(Tss2_Tcti_Cancel(second) == TSS2_TCTI_RC_BAD_SEQUENCE);

        say_and_wait("hold");
        send_random(first);
        say_and_wait("wait");
        send_random(second);
        DEMAND(Tss2_Tcti_Cancel(second) == TSS2_RC_SUCCESS);
        DEMAND(receive(second, &size) == TPM2_RC_CANCELED);
        say_and_wait("release");
        receive_random(first);
        ask_random(second);

        context_free(first);
        ask_random(second);
        context_free(second);
        return EXIT_SUCCESS;
}
