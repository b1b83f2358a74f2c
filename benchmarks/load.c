/*
 * The load of the benchmarks: one server, and the clients that talk to it.
 *
 *   load serve                                    print the port, serve until killed
 *   load ping PORT SECONDS                        64 bytes there and back, one connection
 *   load bulk PORT KIND STREAMS SECONDS RATE      KIND d(own), u(p) or b(oth)
 *   load conns PORT CONCURRENT TOTAL SECONDS RATE connect, ask, read the answer to its end
 *   load hold PORT                                reads N from stdin, holds N connections
 *
 * The first byte of a connection tells the server what to do with it: e echoes,
 * d sends as fast as it can, u discards, b does both, a answers once and closes.
 * Clients print one line of JSON. A rate of 0 is as fast as possible, a total of 0
 * is no limit. Received bulk bytes are discarded in the kernel (MSG_TRUNC), so that
 * the load costs little beside what it measures. A PROXY header in one piece before
 * the first byte is skipped.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SMALL = 64, CHUNK = 256 * 1024, FILES = 1 << 20, EVENTS = 256 };

static char chunk[CHUNK], waste[CHUNK];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static struct timespec span(double seconds)
{
    if (seconds < 0)
        seconds = 0;
    return (struct timespec){(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
}

static struct sockaddr_in address(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static int dial(int port)
{
    struct sockaddr_in to = address(port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        die("socket");
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void watch(int poller, int how, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, how, fd, &event) < 0)
        die("epoll_ctl");
}

/* Latencies, in seconds. */
static double *taken;
static size_t takenCount, takenRoom;

static void take(double seconds)
{
    if (takenCount == takenRoom) {
        takenRoom = takenRoom ? takenRoom * 2 : 65536;
        if (!(taken = realloc(taken, takenRoom * sizeof *taken)))
            die("realloc");
    }
    taken[takenCount++] = seconds;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double part)
{
    if (!takenCount)
        return 0;
    size_t at = (size_t)(part * takenCount);
    return taken[at < takenCount ? at : takenCount - 1];
}

static void report(double units, double seconds, long errors)
{
    qsort(taken, takenCount, sizeof *taken, compare);
    printf("{\"units\": %.0f, \"seconds\": %.6f, \"errors\": %ld, \"p50\": %.9f, "
           "\"p99\": %.9f, \"max\": %.9f}\n",
           units, seconds, errors, percentile(.5), percentile(.99), percentile(1));
}

/* The size of a PROXY header before the first byte, if there is one. */
static ssize_t header(ssize_t got)
{
    if (got >= 16 && waste[0] == '\r')
        return 16 + 256 * (unsigned char)waste[14] + (unsigned char)waste[15];
    char *end = got > 5 && waste[0] == 'P' ? memchr(waste, '\n', got) : NULL;
    return end ? end + 1 - waste : 0;
}

static void serve(void)
{
    static char kinds[FILES];
    struct epoll_event events[EVENTS];
    struct sockaddr_in own = address(0);
    socklen_t size = sizeof own;
    int one = 1, poller = epoll_create1(0);
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(door, (struct sockaddr *)&own, sizeof own) < 0 || listen(door, 4096) < 0)
        die("listen");
    getsockname(door, (struct sockaddr *)&own, &size);
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    watch(poller, EPOLL_CTL_ADD, door, EPOLLIN);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd, gone = 0;
            uint32_t what = events[i].events;
            if (fd == door) {
                while ((fd = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (fd >= FILES)
                        die("too many connections");
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    kinds[fd] = 0;
                    watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN);
                }
                continue;
            }
            if (what & ~(uint32_t)EPOLLOUT) {
                char kind = kinds[fd];
                int discard = kind == 'd' || kind == 'u' || kind == 'b';
                ssize_t got = recv(fd, waste, CHUNK, discard ? MSG_TRUNC : 0);
                gone = got == 0 || (got < 0 && errno != EAGAIN);
                ssize_t skip = got > 0 && !kind ? header(got) : 0;
                if (skip && skip >= got)
                    continue; /* the rest has yet to come */
                if (got > 0 && !kind) {
                    kind = kinds[fd] = waste[skip];
                    if (kind == 'd' || kind == 'b')
                        watch(poller, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT);
                }
                if (got > 0 && kind == 'e')
                    gone = send(fd, waste + skip, got - skip, MSG_NOSIGNAL) != got - skip;
                if (got > 0 && kind == 'a') {
                    send(fd, chunk, SMALL, MSG_NOSIGNAL);
                    gone = 1;
                }
            }
            if (!gone && what & EPOLLOUT)
                gone = send(fd, chunk, CHUNK, MSG_NOSIGNAL) < 0 && errno != EAGAIN;
            if (gone)
                close(fd);
        }
    }
}

static void ask(int fd)
{
    char small[SMALL];
    memset(small, 'e', SMALL);
    if (send(fd, small, SMALL, 0) != SMALL)
        die("send");
}

static void hear(int fd)
{
    char small[SMALL];
    ssize_t got = recv(fd, small, SMALL, MSG_WAITALL);
    if (got == SMALL)
        return;
    if (got >= 0)
        errno = ECONNABORTED;
    die("echo");
}

static int ping(int port, double seconds)
{
    int fd = dial(port);
    long all = 0;
    double start = now(), warm = start + 0.1, end = start + seconds, at = start;
    while (at < end) {
        ask(fd);
        hear(fd);
        double then = at;
        at = now();
        if (then > warm)
            take(at - then);
        all++;
    }
    report(all, at - start, 0);
    return 0;
}

/* At a fixed rate, in bytes per second; time lost to a slow reader is not made up. */
static double paced(int port, double seconds, double rate)
{
    int fd = dial(port);
    double start = now(), end = start + seconds, origin = start, sent = 0, sinceOrigin = 0;
    for (double at = start; at < end; at = now()) {
        double due = (at - origin) * rate - sinceOrigin;
        if (due > 16 * CHUNK) {
            origin = at;
            sinceOrigin = 0;
        }
        if (due < CHUNK / 4) {
            struct timespec rest = span((CHUNK / 4 - due) / rate);
            nanosleep(&rest, NULL);
            continue;
        }
        ssize_t put = send(fd, chunk, CHUNK / 4, 0);
        if (put < 0)
            die("send");
        sent += put;
        sinceOrigin += put;
    }
    return sent;
}

static double unpaced(int port, char kind, int streams, double seconds)
{
    struct epoll_event events[EVENTS];
    int poller = epoll_create1(0);
    double bytes = 0, end = now() + seconds;
    for (int i = 0; i < streams; i++) {
        int fd = dial(port);
        if (send(fd, &kind, 1, 0) != 1)
            die("send");
        fcntl(fd, F_SETFL, O_NONBLOCK);
        watch(poller, EPOLL_CTL_ADD, fd,
              (kind == 'u' ? 0 : EPOLLIN) | (kind == 'd' ? 0 : EPOLLOUT));
    }
    while (now() < end) {
        int count = epoll_wait(poller, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (events[i].events & EPOLLIN) {
                ssize_t got = recv(fd, waste, CHUNK, MSG_TRUNC);
                if (got == 0)
                    errno = ECONNABORTED;
                if (got == 0 || (got < 0 && errno != EAGAIN))
                    die("recv");
                bytes += got > 0 ? got : 0;
            }
            if (events[i].events & EPOLLOUT) {
                ssize_t put = send(fd, chunk, CHUNK, 0);
                if (put < 0 && errno != EAGAIN)
                    die("send");
                bytes += put > 0 ? put : 0;
            }
        }
    }
    return bytes;
}

static int bulk(int port, char kind, int streams, double seconds, double rate)
{
    memset(chunk, kind, CHUNK);
    double start = now();
    double bytes =
        rate > 0 ? paced(port, seconds, rate) : unpaced(port, kind, streams, seconds);
    report(bytes, now() - start, 0);
    return 0;
}

/*
 * Without a rate CONCURRENT are kept open. With one they start when they are due,
 * whatever became of those before, and their time counts from when they were due.
 */
static int conns(int port, int concurrent, long total, double seconds, double rate)
{
    static struct { double due; int got; char sent; } each[FILES];
    struct sockaddr_in to = address(port);
    struct epoll_event events[EVENTS];
    int poller = epoll_create1(0);
    long started = 0, open = 0, done = 0, errors = 0;
    double start = now(), end = start + seconds, last = start;
    char request[SMALL];
    memset(request, 'a', SMALL);
    for (;;) {
        double at = now(), due = start + started / rate;
        int more = at < end && (!total || started < total);
        if ((!more && !open) || at > end + 5)
            break;
        while (more && (rate > 0 ? due <= at : open < concurrent)) {
            int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            if (fd < 0 || fd >= FILES)
                die("socket");
            each[fd].due = rate > 0 ? due : now();
            each[fd].got = each[fd].sent = 0;
            if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
                die("connect");
            watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET);
            open++;
            started++;
            due = start + started / rate;
            more = !total || started < total;
        }
        struct timespec rest = span(more && rate > 0 ? due - now() : 0.1);
        int count = epoll_pwait2(poller, events, EVENTS, &rest, NULL);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd, over = 0;
            if (!each[fd].sent && events[i].events & EPOLLOUT) {
                each[fd].sent = 1;
                over = send(fd, request, SMALL, 0) != SMALL;
            }
            while (!over) {
                ssize_t got = recv(fd, waste, CHUNK, 0);
                if (got < 0 && errno == EAGAIN)
                    break;
                over = got <= 0;
                if (got > 0 && (each[fd].got += got) == SMALL)
                    take(now() - each[fd].due);
            }
            if (over) {
                if (each[fd].got == SMALL)
                    done++;
                else
                    errors++;
                last = now();
                open--;
                close(fd);
            }
        }
    }
    report(done, last - start, errors + open);
    return 0;
}

static int hold(int port)
{
    int wanted, held = 0, some[50];
    while (scanf("%d", &wanted) == 1) {
        while (held < wanted) {
            int count = wanted - held < 50 ? wanted - held : 50;
            for (int i = 0; i < count; i++)
                ask(some[i] = dial(port));
            for (int i = 0; i < count; i++)
                hear(some[i]);
            held += count;
        }
        printf("%d\n", held);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    double number[7] = {0};
    for (int i = 2; i < argc && i < 7; i++)
        number[i] = atof(argv[i]);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    if (!strcmp(what, "serve"))
        serve();
    if (!strcmp(what, "ping") && argc == 4)
        return ping(number[2], number[3]);
    if (!strcmp(what, "bulk") && argc == 7)
        return bulk(number[2], argv[3][0], number[4], number[5], number[6]);
    if (!strcmp(what, "conns") && argc == 7)
        return conns(number[2], number[3], number[4], number[5], number[6]);
    if (!strcmp(what, "hold") && argc == 3)
        return hold(number[2]);
    fprintf(stderr, "load: read the comment at the top of load.c\n");
    return 2;
}
