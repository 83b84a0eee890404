/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_CLOCK_H
#define SIM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Time and timers of the simulation
 *
 * The broker asks GLib for both; in this program the linker gives it these instead (--wrap), so that a minute takes no
 * time and a run is the same every time.
 */
void clock_reset(void);
void clock_advance_us(uint64_t us);      /* runs no timer */
bool clock_run_due(void);                /* one timer whose time has come. Return: false: there is none */
bool clock_run_next(uint64_t within_us); /* goes on to the next timer, if it is so near, and runs it */
unsigned clock_n_timers(void);

/* @function runs once if it returns 0, as GLib has it; else it runs again after the same time. */
void clock_call_in(uint64_t us, int (*function)(void *userdata), void *userdata);

#endif
