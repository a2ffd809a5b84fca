/*
 * A crowd of WebSocket clients over one epoll: it counts what they get.
 *
 * The same as twisted_push/bench/crowd.py, which says what it reads and answers, for a tenth of the
 * CPU time, and with less: a URL is ws://ADDRESS:PORT/PATH with an IPv4 address, and what a client
 * says has at most 125 bytes.
 *
 * It ends with its input, or with an error: a connection that the server closes is one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 65536
#define MAX_COMMAND 65536
#define STDIN UINT32_MAX
#define BUCKETS 2048
#define SHORT_TEXT 125

enum state { UNUSED, CONNECTING, UPGRADING, WAITING, READY };
enum opcode { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

struct client {
    int fd;
    uint8_t state;
    uint8_t head[10];     /* of the frame that is coming in */
    uint8_t head_length;
    uint8_t kept_length;  /* of a short payload: pings, and what a client waits for */
    uint8_t matched;      /* how much of the marker was just seen; all of it: digits follow */
    uint8_t end;          /* how much of the end of the HTTP answer was just seen */
    uint8_t in_payload;
    uint8_t ready_matched;
    uint64_t left;        /* of the payload */
    uint64_t at;
    uint8_t kept[SHORT_TEXT];
};

static const char MARKER[] = "\"at\":";
static const size_t MARKER_LENGTH = sizeof MARKER - 1;

static struct client clients[MAX_CLIENTS];
static struct sockaddr_in address;
static char url[1024], origin[256], hello[256], ready_text[256];
static char upgrade[4096];
static size_t upgrade_length, ready_length;
static int poller;
static uint32_t started, ready, wanted, window, numbers;
static uint64_t opened_at, messages, reported, expected = UINT64_MAX, pings, first, last;
static uint64_t histogram[BUCKETS];
static uint8_t buffer[1 << 18];

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* As twisted_push/bench/histogram.py numbers them. */
static unsigned bucket(uint64_t microseconds) {
    unsigned bits = 64 - (unsigned)__builtin_clzll(microseconds | 1);
    unsigned shift = bits > 6 ? bits - 6 : 0;
    return (shift << 5) + (unsigned)(microseconds >> shift);
}

static size_t masked(uint8_t *frame, enum opcode opcode, const void *payload, size_t length) {
    static const uint8_t key[4] = {0x1f, 0x8a, 0x3c, 0xe7};
    frame[0] = (uint8_t)(0x80 | opcode);
    frame[1] = (uint8_t)(0x80 | length);
    memcpy(frame + 2, key, 4);
    for (size_t at = 0; at < length; at++)
        frame[6 + at] = ((const uint8_t *)payload)[at] ^ key[at & 3];
    return length + 6;
}

static void write_all(struct client *client, const void *data, size_t length) {
    if (write(client->fd, data, length) != (ssize_t)length)
        fail("a client could not send: %s", strerror(errno));
}

static void send_frame(struct client *client, enum opcode opcode, const void *data, size_t length) {
    uint8_t frame[SHORT_TEXT + 6];
    write_all(client, frame, masked(frame, opcode, data, length));
}

static void watch(uint32_t number, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = number};
    if (epoll_ctl(poller, operation, clients[number].fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

static void start_one(void) {
    struct client *client = &clients[started];
    int on = 1;
    memset(client, 0, sizeof *client);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        fail("no socket for client %u: %s", started, strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("client %u cannot connect: %s", started, strerror(errno));
    client->state = CONNECTING;
    watch(started++, EPOLL_CTL_ADD, EPOLLOUT);
}

static void became_ready(struct client *client) {
    client->state = READY;
    ready++;
    if (ready == wanted) {
        printf("{\"ready\": %u, \"ns\": %lu}\n", ready, nanoseconds(CLOCK_MONOTONIC) - opened_at);
        fflush(stdout);
    }
}

static void say_hello(struct client *client) {
    char text[SHORT_TEXT + 1];
    size_t before = strcspn(hello, "#");
    int length = hello[before] ? snprintf(text, sizeof text, "%.*s%u%s", (int)before, hello,
                                          numbers++, hello + before + 1)
                               : snprintf(text, sizeof text, "%s", hello);
    if (length > SHORT_TEXT)
        fail("too long a hello");
    send_frame(client, TEXT, text, (size_t)length);
}

static void upgraded(struct client *client) {
    client->state = WAITING;
    if (*hello)
        say_hello(client);
    if (!ready_length)
        became_ready(client);
}

static void connected(uint32_t number) {
    struct client *client = &clients[number];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        fail("client %u cannot connect: %s", number, strerror(error));
    write_all(client, upgrade, upgrade_length);
    client->state = UPGRADING;
    watch(number, EPOLL_CTL_MOD, EPOLLIN);
}

/* Give how much of the answer to the upgrade there is; its end begins the frames. */
static size_t read_answer(struct client *client, const uint8_t *data, size_t length) {
    static const char end[] = "\r\n\r\n";
    if (!client->left && (length < 13 || memcmp(data, "HTTP/1.1 101 ", 13)))
        fail("no upgrade: %.*s", (int)(length < 300 ? length : 300), (const char *)data);
    client->left = 1;
    for (size_t at = 0; at < length; at++) {
        client->end = data[at] == (uint8_t)end[client->end] ? client->end + 1 : data[at] == '\r';
        if (client->end == 4) {
            client->left = 0;
            upgraded(client);
            return at + 1;
        }
    }
    return length;
}

static void count(uint64_t at, uint64_t now) {
    messages++;
    last = now;
    if (!first)
        first = now;
    unsigned found = bucket(now > at ? (now - at) / 1000 : 0);
    histogram[found < BUCKETS ? found : BUCKETS - 1]++;
}

static void read_text(struct client *client, const uint8_t *data, size_t length, uint64_t now) {
    const uint8_t *end = data + length;
    while (data < end) {
        if (client->matched == MARKER_LENGTH) {
            if (*data >= '0' && *data <= '9') {
                client->at = client->at * 10 + (*data++ - '0');
            } else {
                count(client->at, now);
                client->matched = 0;
            }
        } else if (client->matched) {
            if (*data == (uint8_t)MARKER[client->matched]) {
                client->matched++;
                client->at = 0;
                data++;
            } else {
                client->matched = 0;
            }
        } else {
            const uint8_t *found = memchr(data, MARKER[0], (size_t)(end - data));
            if (!found)
                return;
            client->matched = 1;
            data = found + 1;
        }
    }
}

static void look_for_ready(struct client *client, const uint8_t *data, size_t length) {
    for (size_t at = 0; at < length && client->state == WAITING; at++) {
        uint8_t matched = client->ready_matched;
        matched = data[at] == (uint8_t)ready_text[matched] ? matched + 1
                                                           : data[at] == (uint8_t)ready_text[0];
        client->ready_matched = matched;
        if (matched == ready_length)
            became_ready(client);
    }
}

static void end_frame(struct client *client) {
    enum opcode opcode = client->head[0] & 15;
    client->head_length = 0;
    client->in_payload = 0;
    client->matched = 0;
    client->ready_matched = 0;
    if (opcode == PING) {
        send_frame(client, PONG, client->kept, client->kept_length);
        pings++;
    } else if (opcode == TEXT && client->kept_length == 2 && !memcmp(client->kept, "{}", 2)) {
        send_frame(client, TEXT, "{}", 2);
        pings++;
    } else if (opcode == TEXT && client->kept_length == 1 && client->kept[0] == '2') {
        send_frame(client, TEXT, "3", 1);
        pings++;
    } else if (opcode == CLOSE) {
        fail("the server closed a connection: %.*s", client->kept_length, client->kept);
    }
}

static size_t read_head(struct client *client, const uint8_t *data, size_t length) {
    size_t at = 0;
    unsigned need = 2;
    while (at < length) {
        client->head[client->head_length++] = data[at++];
        if (client->head_length >= 2) {
            unsigned size = client->head[1] & 127;
            need = size == 126 ? 4 : size == 127 ? 10 : 2;
            if (client->head_length == need) {
                client->left = need == 2 ? size : 0;
                for (unsigned byte = 2; byte < need; byte++)
                    client->left = client->left << 8 | client->head[byte];
                client->in_payload = 1;
                client->kept_length = 0;
                return at;
            }
        }
    }
    return at;
}

static void read_frames(struct client *client, const uint8_t *data, size_t length, uint64_t now) {
    while (length || (client->in_payload && !client->left)) {
        if (!client->in_payload) {
            size_t used = read_head(client, data, length);
            data += used;
            length -= used;
            continue;
        }
        size_t part = client->left < length ? (size_t)client->left : length;
        if (client->kept_length + part <= SHORT_TEXT) {
            memcpy(client->kept + client->kept_length, data, part);
            client->kept_length = (uint8_t)(client->kept_length + part);
        }
        if ((client->head[0] & 15) < CLOSE) {
            if (client->state == WAITING)
                look_for_ready(client, data, part);
            read_text(client, data, part, now);
        }
        data += part;
        length -= part;
        client->left -= part;
        if (!client->left)
            end_frame(client);
    }
}

static void readable(struct client *client) {
    ssize_t length = recv(client->fd, buffer, sizeof buffer, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0)
        fail("the server dropped a connection: %s", length ? strerror(errno) : "end of file");
    size_t used = 0;
    if (client->state == UPGRADING)
        used = read_answer(client, buffer, (size_t)length);
    if (client->state > UPGRADING)
        read_frames(client, buffer + used, (size_t)length - used, nanoseconds(CLOCK_MONOTONIC));
}

static void answer_expected(void) {
    if (messages >= expected) {
        expected = UINT64_MAX;
        printf("{\"messages\": %lu, \"first\": %lu, \"last\": %lu}\n", messages, first, last);
        fflush(stdout);
    }
}

static void print_stats(void) {
    const char *comma = "";
    printf("{\"messages\": %lu, \"pings\": %lu, \"cpu\": %lu, \"latency\": {",
           messages - reported, pings, nanoseconds(CLOCK_PROCESS_CPUTIME_ID));
    for (unsigned number = 0; number < BUCKETS; number++) {
        if (histogram[number]) {
            printf("%s\"%u\": %lu", comma, number, histogram[number]);
            comma = ", ";
        }
    }
    puts("}}");
    fflush(stdout);
    memset(histogram, 0, sizeof histogram);
    reported = messages;
    pings = 0;
}

static void say(char *arguments) {
    char *text;
    unsigned long rounds = strtoul(arguments, &text, 10);
    size_t length = strlen(++text);
    if (length > SHORT_TEXT)
        fail("too long a text to say");
    for (unsigned long round = 0; round < rounds; round++)
        for (uint32_t number = 0; number < started; number++)
            send_frame(&clients[number], TEXT, text, length);
    puts("{}");
    fflush(stdout);
}

static void command(char *line) {
    if (!strncmp(line, "open ", 5)) {
        opened_at = nanoseconds(CLOCK_MONOTONIC);
        wanted = started + (uint32_t)strtoul(line + 5, NULL, 10);
        if (wanted > MAX_CLIENTS)
            fail("too many clients");
    } else if (!strncmp(line, "expect ", 7)) {
        expected = strtoull(line + 7, NULL, 10);
        first = 0;
        answer_expected();
    } else if (!strcmp(line, "stats")) {
        print_stats();
    } else if (!strncmp(line, "say ", 4)) {
        say(line + 4);
    } else if (!strcmp(line, "close")) {
        for (uint32_t number = 0; number < started; number++)
            close(clients[number].fd);
        started = ready = wanted = 0;
        puts("{}");
        fflush(stdout);
    } else {
        fail("no such command: %s", line);
    }
}

static void read_commands(void) {
    static char input[MAX_COMMAND];
    static size_t have;
    ssize_t length = read(0, input + have, sizeof input - have - 1);
    if (length <= 0)
        exit(0);
    have += (size_t)length;
    for (char *end; (end = memchr(input, '\n', have));) {
        *end = 0;
        command(input);
        size_t used = (size_t)(end - input) + 1;
        memmove(input, end + 1, have -= used);
    }
}

static void read_line(char *into, size_t size) {
    for (size_t length = 0; length < size; length++) {
        if (read(0, into + length, 1) != 1)
            fail("the input ended before the settings did");
        if (into[length] == '\n') {
            into[length] = 0;
            return;
        }
    }
    fail("too long a setting");
}

static void prepare(void) {
    char host[16], path[512], number[16];
    uint16_t port;
    read_line(url, sizeof url);
    read_line(origin, sizeof origin);
    read_line(number, sizeof number);
    read_line(hello, sizeof hello);
    read_line(ready_text, sizeof ready_text);
    window = (uint32_t)atoi(number);
    ready_length = strlen(ready_text);
    if (sscanf(url, "ws://%15[0-9.]:%hu%511s", host, &port, path) != 3)
        fail("not ws://ADDRESS:PORT/PATH: %s", url);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    if (!inet_pton(AF_INET, host, &address.sin_addr))
        fail("no IPv4 address: %s", host);
    upgrade_length = (size_t)snprintf(
        upgrade, sizeof upgrade,
        "GET %s HTTP/1.1\r\n"
        "Host: %s:%u\r\n"
        "Connection: Upgrade\r\n"
        "Upgrade: websocket\r\n"
        "%s%s%s"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "\r\n",
        path, host, port, *origin ? "Origin: " : "", origin, *origin ? "\r\n" : "");
}

int main(void) {
    static struct epoll_event events[1024];
    struct rlimit files;
    prepare();
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event input = {.events = EPOLLIN, .data.u32 = STDIN};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, 0, &input))
        fail("epoll: %s", strerror(errno));
    for (;;) {
        while (started < wanted && started - ready < window)
            start_one();
        int found = epoll_wait(poller, events, 1024, -1);
        for (int each = 0; each < found; each++) {
            uint32_t number = events[each].data.u32;
            if (number == STDIN)
                read_commands();
            else if (number >= started)
                continue; /* It was closed meanwhile. */
            else if (clients[number].state == CONNECTING)
                connected(number);
            else
                readable(&clients[number]);
        }
        answer_expected();
    }
}
