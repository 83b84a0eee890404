/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_ADDRESS_H
#define BENCH_ADDRESS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* @text: HOST:PORT, the host being an IPv4 address */
static inline bool parse_address(const char *text, struct sockaddr_in *ret_address) {
        struct sockaddr_in address = { .sin_family = AF_INET };
        char host[INET_ADDRSTRLEN];
        unsigned port;

        if (sscanf(text, "%15[0-9.]:%u", host, &port) != 2 || port > UINT16_MAX ||
            inet_pton(AF_INET, host, &address.sin_addr) != 1)
                return false;
        address.sin_port = htons((uint16_t)port);
        *ret_address = address;
        return true;
}

#endif
