/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_BROKER_INTERNAL_H
#define BROKER_BROKER_INTERNAL_H

#include "broker/block.h"
#include "broker/broker.h"
#include "broker/connection-internal.h"
#include "broker/runner.h"
#include "broker/supervisor.h"

/*
 * What a broker is made of, for broker.c and report.c, and for tests
 *
 * The parts stand in the order in which each uses those before it.
 */
struct Broker {
        Block block;
        Watch watch;
        Stats stats;
        Turn turn;
        Supervisor supervisor;
        Runner runner;
        Connections connections;
        Flushes flushes;

        unsigned stop_ms; /* for broker_stop() in all */
        guint stop_timer;
        void (*stopped)(void *userdata);
        void *stopped_userdata;
};

#endif
