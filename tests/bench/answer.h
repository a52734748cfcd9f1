/* What the mock upstream says and the load generator looks for: the two must agree, so the words stand here once. */
#ifndef ANSWER_H
#define ANSWER_H

#include <stdint.h>
#include <time.h>

/* The catalog id that the gateway is configured with, so that nothing in a stream has to be rewritten. */
#define MODEL "bench/mock"

/* The whole text of an answer that is not streamed. */
#define ANSWER_TEXT \
    "The quick brown fox jumps over the lazy dog, and then it does so again, and once more for good measure, " \
    "because an answer of a few hundred bytes is what a short question to a model usually earns. The dog does not " \
    "mind: it has been jumped over in every benchmark since the invention of the typewriter, and sleeps on."

/* The text of a content event begins with this mark, the event's number (from 1) and the time at which it was sent. */
#define EVENT_MARK "\"#"
#define EVENT_FORMAT "#%06d@%016lld "
#define EVENT_SCAN "#%6d@%16lld "

/* Microseconds of the clock that both programs share: they run on one machine. */
static inline int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

#endif
