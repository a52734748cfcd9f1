/* The client of the benchmark: a closed loop of HTTP/1.1 requests to 127.0.0.1 that counts exactly, believes nothing.
 *
 *     load -p PORT -m json|stream [-c connections] [-s seconds | -n requests] [-r ramp_ms] [-k events] [-d drain_s]
 *
 * The request, head and body, comes on standard input and is sent as it is. Every connection asks, reads the whole
 * answer, checks it and asks again, until -s seconds are over or -n requests are issued; then what is in flight is
 * waited for, at most -d seconds, so that the work per answer is exact. An answer is good if its status is 200, its
 * framing is right and its content is whole: the text and usage of the mock's completion, or -k numbered events,
 * finish, usage and [DONE], in this order with nothing after. Prints one JSON object; the first wrong answer is
 * described on standard error. */
#define _GNU_SOURCE
#include "answer.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 10000, MAX_SECONDS = 300, MAX_REQUEST = 4 << 20, MAX_HEAD = 16384, ENOUGH_WRONG = 100 };

#define USAGE \
    "usage: load -p PORT -m json|stream [-c connections] [-s seconds | -n requests] [-r ramp_ms] [-k events] " \
    "[-d drain_s] < REQUEST   (at most %d s in all)\n"

enum part { HEAD, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

struct text {
    char *data;
    size_t len, cap;
};

struct conn {
    int fd;
    bool asking;            /* a request is out or going out */
    bool watching_out;
    size_t sent;            /* bytes of the request */
    enum part part;         /* of the answer, that the next byte belongs to */
    size_t left;            /* bytes of this body or chunk */
    int status;
    struct text head, line; /* line: a chunk's size or a trailer */
    struct text body;       /* the answer; of a stream, the line that is not complete */
    int events;
    bool finish, usage, done, garbled;
    int64_t asked;
};

struct samples {
    uint32_t *us;
    size_t n, cap;
};

static struct {
    int port, connections, ramp_ms, events;
    long requests;
    double seconds, drain;
    bool stream;
    struct text request;
} want = {.connections = 1, .requests = -1, .drain = 30};

static struct {
    int epoll;
    int64_t start, stop_asking;
    long issued, good, wrong, in_flight, peak, events, connects;
    struct samples latency, first_event, lag;
} run;

static void *grown(void *buffer, size_t size) {
    void *p = realloc(buffer, size);
    if (!p) {
        perror("load: out of memory");
        exit(1);
    }
    return p;
}

static void append(struct text *t, const char *data, size_t len) {
    if (t->len + len + 1 > t->cap) t->data = grown(t->data, t->cap = (t->len + len + 1) * 2);
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = 0;
}

static void note(struct samples *s, int64_t us) {
    if (s->n == s->cap) s->us = grown(s->us, (s->cap = s->cap ? s->cap * 2 : 4096) * sizeof *s->us);
    s->us[s->n++] = us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static bool may_ask(int64_t now) {
    return now < run.stop_asking && (want.requests < 0 || run.issued < want.requests) && run.wrong < ENOUGH_WRONG;
}

static void watch(struct conn *c, int operation, bool out) {
    struct epoll_event e = {.events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(run.epoll, operation, c->fd, &e);
    c->watching_out = out;
}

static void hang_up(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void ask(struct conn *c);

/* The end of a request, good or not; the connection asks again, on a new socket after a wrong answer. */
static void end(struct conn *c, const char *fault) {
    int64_t now = now_us();
    c->asking = false;
    run.in_flight--;
    if (fault) {
        const char *said = c->body.len ? c->body.data : "";
        if (!run.wrong++) fprintf(stderr, "load: %s; status %d, %.300s\n", fault, c->status, said);
        hang_up(c);
    } else {
        run.good++;
        note(&run.latency, now - c->asked);
    }
    if (may_ask(now)) ask(c);
    else hang_up(c);
}

static void push_request(struct conn *c) {
    while (c->sent < want.request.len) {
        ssize_t n = send(c->fd, want.request.data + c->sent, want.request.len - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) end(c, "the connection was refused or broke while asking");
            else if (!c->watching_out) watch(c, EPOLL_CTL_MOD, true);
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->watching_out) watch(c, EPOLL_CTL_MOD, false);
}

static void ask(struct conn *c) {
    c->head.len = c->line.len = c->body.len = c->sent = 0;
    c->part = HEAD;
    c->status = c->events = 0;
    c->finish = c->usage = c->done = c->garbled = false;
    c->asking = true;
    c->asked = now_us();
    run.issued++;
    if (++run.in_flight > run.peak) run.peak = run.in_flight;
    if (c->fd >= 0) return push_request(c);

    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)want.port);
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    run.connects++;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connect(c->fd, (struct sockaddr *)&to, sizeof to); /* what became of it shows when the socket can be written */
    watch(c, EPOLL_CTL_ADD, true);
}

static void check_event(struct conn *c, const char *line, size_t len, int64_t now) {
    if (len < 6 || memcmp(line, "data: ", 6)) {
        if (len && line[0] != ':') c->garbled = true;
        return;
    }
    const char *mark = memmem(line, len, EVENT_MARK, sizeof EVENT_MARK - 1);
    int number;
    long long sent_at;
    if (c->done) {
        c->garbled = true;
    } else if (mark) {
        bool right = sscanf(mark + 1, EVENT_SCAN, &number, &sent_at) == 2 && number == c->events + 1 && !c->finish;
        if (!right) c->garbled = true;
        if (!c->events++) note(&run.first_event, now - c->asked);
        if (right) note(&run.lag, now - sent_at);
        run.events++;
    } else if (memmem(line, len, "\"stop\"", 6)) {
        c->finish = true;
    } else if (memmem(line, len, "\"total_tokens\"", 14)) {
        c->usage = c->finish;
    } else if (len >= 12 && !memcmp(line + 6, "[DONE]", 6)) {
        c->done = true;
    }
}

static void take_payload(struct conn *c, const char *data, size_t len, int64_t now) {
    append(&c->body, data, len);
    if (!want.stream || c->status != 200) return;
    char *line = c->body.data, *stop = line + c->body.len, *newline;
    while ((newline = memchr(line, '\n', (size_t)(stop - line)))) {
        *newline = 0;
        check_event(c, line, (size_t)(newline - line), now);
        line = newline + 1;
    }
    c->body.len = (size_t)(stop - line);
    memmove(c->body.data, line, c->body.len);
}

static bool body_has(const struct conn *c, const char *words) {
    return memmem(c->body.data, c->body.len, words, strlen(words)) != NULL;
}

static void check_answer(struct conn *c, size_t bytes_after) {
    const char *fault = NULL;
    if (c->status != 200) fault = "the status is not 200";
    else if (bytes_after) fault = "bytes follow the end of the answer";
    else if (!want.stream && !body_has(c, ANSWER_TEXT)) fault = "the text of the answer is not the mock's";
    else if (!want.stream && !body_has(c, "\"total_tokens\"")) fault = "the answer has no usage";
    else if (want.stream && (c->garbled || c->body.len)) fault = "the events of a stream are garbled or out of order";
    else if (want.stream && c->events != want.events) fault = "a stream has too few or too many events";
    else if (want.stream && !(c->finish && c->usage && c->done)) fault = "a stream lacks finish, usage or [DONE]";
    end(c, fault);
}

/* Reads the status and how the body is framed. False: the request has ended with a fault. */
static bool read_head(struct conn *c) {
    c->status = c->head.len > 12 ? atoi(c->head.data + 9) : 0;
    char *length = strcasestr(c->head.data, "\r\nContent-Length:");
    if (strcasestr(c->head.data, "\r\nTransfer-Encoding: chunked")) c->part = CHUNK_SIZE;
    else if (length) c->part = BODY, c->left = strtoul(length + 17, NULL, 10);
    else return end(c, "the answer says neither Content-Length nor chunked"), false;
    return true;
}

/* Takes a line that ends in `data`, if it does; returns how many bytes belong to it. */
static size_t take_line(struct text *line, const char *data, size_t len, bool *complete) {
    const char *newline = memchr(data, '\n', len);
    *complete = newline != NULL;
    size_t n = newline ? (size_t)(newline - data) + 1 : len;
    append(line, data, n);
    return n;
}

/* Takes received bytes apart, up to the end of the answer. */
static void take(struct conn *c, const char *data, size_t len, int64_t now) {
    bool complete;
    while (len && c->asking) {
        size_t n = 0;
        if (c->part == HEAD) {
            n = take_line(&c->head, data, len, &complete);
            if (c->head.len > MAX_HEAD) return end(c, "the head of the answer is too long");
            if (c->head.len >= 4 && !memcmp(c->head.data + c->head.len - 4, "\r\n\r\n", 4) && !read_head(c)) return;
        } else if (c->part == BODY || c->part == CHUNK) {
            n = len < c->left ? len : c->left;
            take_payload(c, data, n, now);
            c->left -= n;
            if (!c->left && c->part == CHUNK) c->part = CHUNK_END;
        } else {
            n = take_line(&c->line, data, len, &complete);
            if (c->line.len > MAX_HEAD) return end(c, "a line of the chunked framing is too long");
            if (complete) {
                if (c->part == TRAILER && c->line.len == 2) return check_answer(c, len - n);
                if (c->part == CHUNK_END) c->part = CHUNK_SIZE;
                else if (c->part == CHUNK_SIZE) c->part = (c->left = strtoul(c->line.data, NULL, 16)) ? CHUNK : TRAILER;
                c->line.len = 0;
            }
        }
        data += n;
        len -= n;
        if (c->part == BODY && !c->left) return check_answer(c, len);
    }
}

static void hear(struct conn *c) {
    static char buffer[256 << 10];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n > 0) take(c, buffer, (size_t)n, now_us());
    else if (n == 0 || errno != EAGAIN) end(c, "the connection was closed before the answer was complete");
}

static void go_round(struct conn *conns) {
    int64_t hard_stop = run.stop_asking + (int64_t)(want.drain * 1e6);
    for (int started = 0;;) {
        int64_t now = now_us();
        while (started < want.connections && may_ask(now) &&
               now - run.start >= (int64_t)started * want.ramp_ms * 1000 / want.connections)
            ask(&conns[started++]);
        bool all_started = started == want.connections || !may_ask(now);
        if ((all_started && !run.in_flight) || now >= hard_stop) return;
        struct epoll_event ready[256];
        int n = epoll_wait(run.epoll, ready, 256, all_started ? 50 : 1);
        for (int i = 0; i < n; i++) {
            struct conn *c = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT) push_request(c);
            else hear(c);
        }
    }
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_samples(const char *name, struct samples *s) {
    if (!s->n) return;
    qsort(s->us, s->n, sizeof *s->us, by_size);
    uint32_t p50 = s->us[s->n / 2], p99 = s->us[s->n * 99 / 100], max = s->us[s->n - 1];
    printf(",\"%s\":{\"p50\":%u,\"p99\":%u,\"max\":%u}", name, p50, p99, max);
}

static bool read_arguments(int argc, char **argv) {
    for (int o; (o = getopt(argc, argv, "p:m:c:s:n:r:k:d:")) != -1;) {
        if (o == 'p') want.port = atoi(optarg);
        else if (o == 'm') want.stream = !strcmp(optarg, "stream");
        else if (o == 'c') want.connections = atoi(optarg);
        else if (o == 's') want.seconds = atof(optarg);
        else if (o == 'n') want.requests = atol(optarg);
        else if (o == 'r') want.ramp_ms = atoi(optarg);
        else if (o == 'k') want.events = atoi(optarg);
        else if (o == 'd') want.drain = atof(optarg);
        else return false;
    }
    char part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, stdin)) && want.request.len < MAX_REQUEST;)
        append(&want.request, part, n);
    if (!want.seconds) want.seconds = want.requests < 0 ? 0 : (want.ramp_ms / 1000.0) + 1;
    return want.port > 0 && want.port < 65536 && want.request.len && want.connections > 0 &&
           want.connections <= MAX_CONNECTIONS && want.seconds > 0 && want.seconds + want.drain <= MAX_SECONDS;
}

int main(int argc, char **argv) {
    if (!read_arguments(argc, argv)) return fprintf(stderr, USAGE, MAX_SECONDS), 2;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    size_t size = (size_t)want.connections * sizeof(struct conn);
    struct conn *conns = memset(grown(NULL, size), 0, size);
    for (int i = 0; i < want.connections; i++) conns[i].fd = -1;
    run.epoll = epoll_create1(0);
    run.start = now_us();
    run.stop_asking = run.start + (int64_t)(want.seconds * 1e6);
    go_round(conns);
    printf("{\"issued\":%ld,\"good\":%ld,\"wrong\":%ld,\"unfinished\":%ld,\"events\":%ld,\"connects\":%ld,\"peak\":%ld,"
           "\"seconds\":%.3f", run.issued, run.good, run.wrong, run.in_flight, run.events, run.connects, run.peak,
           (double)(now_us() - run.start) / 1e6);
    print_samples("latency_us", &run.latency);
    print_samples("first_event_us", &run.first_event);
    print_samples("lag_us", &run.lag);
    printf("}\n");
    return 0;
}
