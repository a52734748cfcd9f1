/* The upstream of the benchmark: an OpenAI-compatible chat endpoint that costs next to nothing to ask.
 *
 *     mock PORT      serves 127.0.0.1:PORT (0: a free port) and prints the port on standard output
 *
 * A POST gets one small completion with usage, or, if its body says "stream":true, a stream: a role event, content
 * events that carry their number and the time of sending, a finish event, a usage event and [DONE], each written by
 * itself. "bench events=K pace=MS" in the prompt sets how many content events and how far apart (0: as fast as they
 * are read).
 * One thread; ends on SIGTERM, with its parent, and in any case after an hour. */
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

enum { MAX_REQUEST = 16 << 20, MAX_EVENT = 1024, READY = 512, LONGEST_RUN_S = 3600 };

#define EVENT(choices) \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
    "\"model\":\"" MODEL "\",\"choices\":" choices "}\n\n"
#define ROLE_EVENT EVENT("[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]")
#define CONTENT_EVENT EVENT("[{\"index\":0,\"delta\":{\"content\":\"" EVENT_FORMAT "\"},\"finish_reason\":null}]")
#define FINISH_EVENT EVENT("[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]")
#define USAGE_EVENT \
    EVENT("[],\"usage\":{\"prompt_tokens\":128,\"completion_tokens\":%d,\"total_tokens\":%d}")
#define DONE_EVENT "data: [DONE]\n\n"
#define COMPLETION \
    "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"" MODEL "\"," \
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" ANSWER_TEXT "\"}," \
    "\"logprobs\":null,\"finish_reason\":\"stop\"}]," \
    "\"usage\":{\"prompt_tokens\":128,\"completion_tokens\":64,\"total_tokens\":192}}"
#define COMPLETION_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n"
#define STREAM_HEAD \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" \
    "Transfer-Encoding: chunked\r\n\r\n"
#define NOT_FOUND "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

struct conn {
    int fd;
    char *in; /* what was received and not answered, always followed by a NUL */
    size_t in_len, in_cap;
    char *out; /* what the socket had no room for */
    size_t out_len, out_cap;
    bool streaming;
    int events, pace_us, next_event;
    int64_t due;               /* when the next event is to be sent */
    struct conn *before, *after; /* neighbours in the line of streams, ordered by due */
    bool in_line;
};

static struct {
    int epoll, listener;
    struct conn *first, *last; /* the line */
    char completion[2048];     /* the whole answer to a request that is not streamed */
    size_t completion_len;
} mock;

static void *grown(void *buffer, size_t size) {
    void *p = realloc(buffer, size);
    if (!p) {
        perror("mock: out of memory");
        exit(1);
    }
    return p;
}

/* The line is searched from its end: streams of one pace, the usual case, are always put last. */
static void line_up(struct conn *c, int64_t due) {
    struct conn *before = mock.last;
    while (before && before->due > due) before = before->before;
    c->due = due;
    c->before = before;
    c->after = before ? before->after : mock.first;
    *(c->before ? &c->before->after : &mock.first) = c;
    *(c->after ? &c->after->before : &mock.last) = c;
    c->in_line = true;
}

static void leave_line(struct conn *c) {
    if (!c->in_line) return;
    *(c->before ? &c->before->after : &mock.first) = c->after;
    *(c->after ? &c->after->before : &mock.last) = c->before;
    c->in_line = false;
}

static void hang_up(struct conn *c) {
    leave_line(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void watch(struct conn *c, int operation, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(mock.epoll, operation, c->fd, &e);
}

/* Sends now, or keeps what the socket does not take. False: the connection is broken. */
static bool say(struct conn *c, const char *data, size_t len) {
    if (!c->out_len) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return false;
        if (n > 0) data += n, len -= (size_t)n;
        if (!len) return true;
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    if (c->out_len + len > c->out_cap) c->out = grown(c->out, c->out_cap = (c->out_len + len) * 2);
    memcpy(c->out + c->out_len, data, len);
    c->out_len += len;
    return true;
}

static bool say_chunk(struct conn *c, const char *data, int len, const char *end) {
    char chunk[MAX_EVENT + 32];
    int n = snprintf(chunk, sizeof chunk, "%x\r\n%.*s\r\n%s", (unsigned)len, len, data, end);
    return say(c, chunk, (size_t)n);
}

/* Sends the next event of a stream. False: the connection is broken. */
static bool say_event(struct conn *c) {
    char data[MAX_EVENT];
    int i = c->next_event++, len;
    if (i > c->events + 2) {
        c->streaming = false;
        return say_chunk(c, DONE_EVENT, sizeof DONE_EVENT - 1, "0\r\n\r\n");
    }
    if (i == 0) len = snprintf(data, sizeof data, ROLE_EVENT);
    else if (i <= c->events) len = snprintf(data, sizeof data, CONTENT_EVENT, i, (long long)now_us());
    else if (i == c->events + 1) len = snprintf(data, sizeof data, FINISH_EVENT);
    else len = snprintf(data, sizeof data, USAGE_EVENT, c->events, c->events + 128);
    return say_chunk(c, data, len, "");
}

/* When the event after the one just sent is due: content at its pace, the closing events at once. The microsecond gives
 * every other stream its turn when there is no pace. */
static int64_t next_due(const struct conn *c) {
    if (c->next_event > c->events) return c->due;
    return c->pace_us ? c->due + c->pace_us : now_us() + 1;
}

static bool answer(struct conn *c, const char *body, size_t len) {
    if (!memmem(body, len, "\"stream\":true", 13) && !memmem(body, len, "\"stream\": true", 14))
        return say(c, mock.completion, mock.completion_len);
    int pace_ms = 0;
    const char *marker = memmem(body, len, "bench events=", 13);
    c->events = 64;
    if (marker && sscanf(marker, "bench events=%6d pace=%6d", &c->events, &pace_ms) < 1) return false;
    c->pace_us = pace_ms * 1000;
    c->next_event = 0;
    c->streaming = true;
    if (!say(c, STREAM_HEAD, sizeof STREAM_HEAD - 1)) return false;
    line_up(c, now_us());
    return true;
}

/* Answers the requests that are complete, one after the other. False: the connection is to be closed. */
static bool serve(struct conn *c) {
    while (!c->streaming && c->in_len) {
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return c->in_len < MAX_REQUEST;
        char *length = strcasestr(c->in, "\r\nContent-Length:");
        size_t head = (size_t)(end - c->in) + 4, body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
        if (body > MAX_REQUEST) return false;
        if (c->in_len < head + body) return true;
        bool ok = body ? answer(c, c->in + head, body) : say(c, NOT_FOUND, sizeof NOT_FOUND - 1);
        if (!ok) return false;
        c->in_len -= head + body;
        memmove(c->in, c->in + head + body, c->in_len + 1);
    }
    return true;
}

static bool hear(struct conn *c) {
    for (;;) {
        if (c->in_cap - c->in_len < 4096) c->in = grown(c->in, c->in_cap = c->in_cap ? c->in_cap * 2 : 16384);
        size_t room = c->in_cap - c->in_len - 1;
        ssize_t n = recv(c->fd, c->in + c->in_len, room, 0);
        if (n < 0 && errno == EAGAIN) return true;
        if (n <= 0) return false;
        c->in_len += (size_t)n;
        c->in[c->in_len] = 0;
        if (!serve(c)) return false;
        if ((size_t)n < room) return true;
    }
}

static bool flush(struct conn *c) {
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN;
    c->out_len -= (size_t)n;
    memmove(c->out, c->out + n, c->out_len);
    if (c->out_len) return true;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    if (c->streaming && !c->in_line) line_up(c, next_due(c));
    return true;
}

static void send_due_events(void) {
    int64_t now = now_us();
    while (mock.first && mock.first->due <= now) {
        struct conn *c = mock.first;
        leave_line(c);
        bool ok = say_event(c);
        if (ok && !c->streaming) ok = serve(c);
        else if (ok && !c->out_len) line_up(c, next_due(c));
        if (!ok) hang_up(c);
    }
}

static void accept_all(void) {
    for (int fd, on = 1; (fd = accept4(mock.listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *c = memset(grown(NULL, sizeof *c), 0, sizeof *c);
        c->fd = fd;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void wait_for_work(void) {
    struct epoll_event ready[READY];
    struct timespec wait = {0}, *limit = NULL;
    if (mock.first) {
        int64_t us = mock.first->due - now_us();
        if (us > 0) wait = (struct timespec){us / 1000000, us % 1000000 * 1000};
        limit = &wait;
    }
    int n = epoll_pwait2(mock.epoll, ready, READY, limit, NULL);
    for (int i = 0; i < n; i++) {
        struct conn *c = ready[i].data.ptr;
        if (!c) {
            accept_all();
            continue;
        }
        bool ok = !(ready[i].events & EPOLLOUT) || flush(c);
        if (ok && ready[i].events & ~(uint32_t)EPOLLOUT) ok = hear(c);
        if (!ok) hang_up(c);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: mock PORT (0: a free one)\n"), 2;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    alarm(LONGEST_RUN_S);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((uint16_t)atoi(argv[1]));
    socklen_t size = sizeof at;
    mock.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(mock.listener, (struct sockaddr *)&at, size) || listen(mock.listener, 4096) ||
        getsockname(mock.listener, (struct sockaddr *)&at, &size))
        return perror("mock: cannot listen"), 1;
    mock.epoll = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(mock.epoll, EPOLL_CTL_ADD, mock.listener, &e);
    mock.completion_len = (size_t)snprintf(mock.completion, sizeof mock.completion, COMPLETION_HEAD "%s",
                                           sizeof COMPLETION - 1, COMPLETION);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        wait_for_work();
        send_due_events();
    }
}
