/*
 * The floor: what the kernel takes for one send(2) to each of many connections.
 *
 *   floor
 *
 * listens on a free port of 127.0.0.1 and prints it. It answers the first thing that a connection
 * says with an upgrade to WebSocket, always the same, and reads no more. Each line of its input is
 *
 *   N TEXT          send TEXT as a text frame, N times in one send, to all connections
 *
 * and is answered with the CPU time in ns that the loop of sends took. It ends with its input.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 65536

static const char UPGRADE[] =
    "HTTP/1.1 101 Switching Protocols\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    "\r\n";

static int connections[MAX_CONNECTIONS];
static size_t count;
static char line[1 << 16];
static uint8_t frames[1 << 20];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t cpu(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static size_t frame(uint8_t *into, const char *text, size_t length) {
    size_t head = length < 126 ? 2 : 4;
    into[0] = 0x81;
    into[1] = (uint8_t)(length < 126 ? length : 126);
    if (head == 4) {
        into[2] = (uint8_t)(length >> 8);
        into[3] = (uint8_t)length;
    }
    memcpy(into + head, text, length);
    return head + length;
}

static void send_to_all(void) {
    char *text;
    unsigned long times = strtoul(line, &text, 10);
    size_t length = strcspn(++text, "\n"), size = 0;
    if ((length + 4) * times > sizeof frames)
        fail("too much to send");
    for (unsigned long number = 0; number < times; number++)
        size += frame(frames + size, text, length);
    uint64_t begun = cpu();
    for (size_t number = 0; number < count; number++)
        if (send(connections[number], frames, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size)
            fail("send");
    printf("%lu\n", cpu() - begun);
    fflush(stdout);
}

static void accept_one(int listener, int poller) {
    int on = 1, accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (accepted < 0)
        fail("accept");
    setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = accepted};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, accepted, &event))
        fail("epoll_ctl");
}

static void answer(int connection, int poller) {
    static char request[1 << 16];
    epoll_ctl(poller, EPOLL_CTL_DEL, connection, NULL);
    if (recv(connection, request, sizeof request, 0) <= 0) {
        close(connection);
        return;
    }
    if (count == MAX_CONNECTIONS || write(connection, UPGRADE, sizeof UPGRADE - 1) < 0)
        fail("answer");
    connections[count++] = connection;
}

int main(void) {
    static struct epoll_event events[256];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), poller = epoll_create1(0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) ||
        listen(listener, 1024) || getsockname(listener, (struct sockaddr *)&address, &size))
        fail("listen");
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    setvbuf(stdin, NULL, _IONBF, 0); /* Nothing is read ahead of what epoll tells. */
    for (int each = 0; each < 2; each++) {
        int fd = each ? listener : 0;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
            fail("epoll_ctl");
    }
    for (;;) {
        int found = epoll_wait(poller, events, 256, -1);
        for (int each = 0; each < found; each++) {
            int fd = events[each].data.fd;
            if (fd == listener) {
                accept_one(listener, poller);
            } else if (fd == 0) {
                if (!fgets(line, sizeof line, stdin))
                    return 0;
                send_to_all();
            } else {
                answer(fd, poller);
            }
        }
    }
}
